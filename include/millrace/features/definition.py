"""What is declared of features, as plain JSON: what a plan compares, what is digested, and what discovery reads.

A subject names a definition: `table:<feature table>`, `on_demand:<view>` or `service:<feature service>`. Its body has
these keys: `meta` is what may change at any time, `shape` what readers rest on, `logic` what values follow from.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

from millrace.errors import FeatureError
from millrace.features.applied import Definition
from millrace.features.transformation import transformation_text
from millrace.package import read_sources
from millrace.package.definition import describe_view
from millrace.spec import DomainSpec, FeatureTableSpec, OnDemandSpec, UseCaseSpec
from millrace.spec.use_case import FeatureServiceSpec

TABLE, ON_DEMAND, SERVICE = "table", "on_demand", "service"


def define_features(domain: DomainSpec, use_cases: Iterable[UseCaseSpec], folder: Path) -> dict[str, Definition]:
    """Definitions of a domain's feature tables and on-demand views and of the use cases' services, by subject.

    Args:
        domain: the domain.
        use_cases: use cases on it.
        folder: folder of the domains' YAML.

    Raises:
        FeatureError: a file is missing, or two use cases name one service.
    """
    found = {f"{TABLE}:{name}": _table(domain, table, folder) for name, table in domain.feature_tables.items()}
    found |= {f"{ON_DEMAND}:{name}": _on_demand(domain, name, view, folder) for name, view in domain.on_demand.items()}
    for use_case in use_cases:
        subject = f"{SERVICE}:{use_case.features.name}"
        if subject in found:
            raise FeatureError(
                f"use cases {found[subject]['meta']['use_case']!r} and {use_case.name!r} name one feature service",
                where=f"use_cases/{use_case.name}.yaml: features.name",
                remedy="give each use case's service a name of its own",
            )
        found[subject] = _service(use_case, domain)
    return found


def service_shape(service: FeatureServiceSpec) -> Definition:
    """What a model that reads the service rests on: which columns there are, of what kind, and where from."""
    return {
        "views": service.views,
        "row": service.row,
        "on_demand": service.on_demand,
        "categorical": sorted(service.categorical),
    }


def function_code(text: str, function: str, *, where: str = "") -> str:
    """The code a function consists of: itself and the top-level statements it reaches, without comments and layout.

    Args:
        text: source of its file.
        function: its name.
        where: its file, for messages.

    Raises:
        FeatureError: the text is no Python.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError) as error:  # the latter of null bytes
        what = (
            f"no Python: {error.msg}, line {error.lineno}" if isinstance(error, SyntaxError) else f"no Python: {error}"
        )
        raise FeatureError(what, where=where or function, remedy="correct the file") from error
    named = [(_names(statement), statement) for statement in statements]
    reached, wanted = set[int](), [function]
    while wanted:
        name = wanted.pop()
        for index, (defined, statement) in enumerate(named):
            if index not in reached and (name in defined or not defined):
                reached.add(index)
                wanted += [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return "\n".join(ast.unparse(named[index][1]) for index in sorted(reached))


def split_subject(subject: str) -> tuple[str, str]:
    """Kind and name."""
    kind, _, name = subject.partition(":")
    return kind, name


def tables_read(service: Mapping[str, object], definitions: Mapping[str, Definition]) -> tuple[set[str], set[str]]:
    """Feature tables and on-demand views that a service reads, those that on-demand views look up included.

    Args:
        service: its `shape`.
        definitions: where on-demand views are found.
    """
    views: set[str] = set(service["views"])  # type: ignore[call-overload]
    computed: set[str] = set(service["on_demand"])  # type: ignore[call-overload]
    for name in computed:
        if (view := definitions.get(f"{ON_DEMAND}:{name}")) is not None:
            views |= set(view["shape"]["inputs"])
    return views, computed


def _table(domain: DomainSpec, table: FeatureTableSpec, folder: Path) -> Definition:
    spec = table.model_dump(mode="json")
    return {
        "domain": domain.name,
        "meta": {
            "description": table.description,
            "owners": table.owners or domain.owners,
            "tags": table.tags,
            "freshness_hours": table.freshness_hours,
            "origin": table.origin,
        },
        "shape": {name: spec[name] for name in ("entities", "ttl_hours", "static")},
        "features": table.features,
        "logic": {
            "look_back_days": table.look_back_days,
            "sources": table.sources,
            "text": transformation_text(table, folder),
        },
    }


def _on_demand(domain: DomainSpec, name: str, view: OnDemandSpec, folder: Path) -> Definition:
    file, _, function = view.function.partition(":")
    text = read_sources([describe_view(name, domain)], folder)[name]
    return {
        "domain": domain.name,
        "meta": {
            "description": view.description,
            "owners": view.owners or domain.owners,
            "tags": view.tags,
            "origin": view.function,
        },
        "shape": {"inputs": view.inputs, "request": view.request},
        "features": view.features,
        "logic": {"text": function_code(text, function, where=file)},
    }


def _service(use_case: UseCaseSpec, domain: DomainSpec) -> Definition:
    # Feast's service holds a copy of the fields it reads, so it follows them.
    tables = {view: (domain.feature_tables.get(view), names) for view, names in use_case.features.views.items()}
    fields = {
        view: {"entities": table.entities, **{name: table.features.get(name) for name in names}}
        for view, (table, names) in tables.items()
        if table is not None
    }
    return {
        "domain": use_case.domain,
        "meta": {
            "use_case": use_case.name,
            "description": use_case.description,
            "owners": use_case.owners,
            "tier": use_case.tier,
        },
        "shape": service_shape(use_case.features),
        "features": {},
        "logic": {"fields": fields},
    }


def _names(statement: ast.stmt) -> set[str]:
    """Names a top-level statement defines; none for one that runs for its effect, which belongs to every function."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        names = {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        return set() if "*" in names else names
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        nodes = [node for target in targets for node in ast.walk(target)]
        if any(isinstance(node, ast.Attribute | ast.Subscript) for node in nodes):
            return set()  # it changes something that may be reached by another name
        return {node.id for node in nodes if isinstance(node, ast.Name)}
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return {""}  # a docstring
    return set()
