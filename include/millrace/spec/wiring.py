"""What a spec asks for and no DAG file wires, and what two DAG files wire at once."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from millrace.errors import SpecError
from millrace.spec.domain import DomainSpec
from millrace.spec.source import FileSourceSpec

_BUILDERS = {
    "DomainDags": {"data": "data", "replay": "replay", "arrivals": "arrivals"},
    "UseCaseDags": {f"{kind}_dag": kind for kind in ("train", "score", "monitor", "rollback", "import")},
}
"""Builder → its method that makes a DAG → what the DAG's id ends in."""


def find_unwatched(folder: Path, domain: DomainSpec) -> list[SpecError]:
    """Sources with `watch: true` in a domain of which no DAG file calls `arrivals()`: new files would start nothing.

    Args:
        folder: of the DAG files.
        domain: the domain.
    """
    watched = [name for name, spec in domain.sources.items() if isinstance(spec, FileSourceSpec) and spec.watch]
    if not watched or any(_wires(path, domain.name) for path in sorted(folder.rglob("*.py"))):
        return []
    return [
        SpecError(
            f"sources {', '.join(watched)} say watch: true, and no DAG file calls arrivals() of this domain",
            where=f"{domain.name}.sources.{watched[0]}.watch",
            remedy=f'add `with {domain.name}.arrivals(): …` beside DomainDags("{domain.name}"), or take `watch` out',
        )
    ]


def find_doubled(folder: Path) -> list[SpecError]:
    """DAG ids that stand more than once: Airflow keeps one of those DAGs, whichever it reads last, and drops the other.

    Args:
        folder: of the DAG files. Ids that a file computes are not seen.
    """
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for dag_id, line in _dag_ids(path):
            places[dag_id].append(f"{path.relative_to(folder)}, line {line}")
    return [
        SpecError(
            f"DAG {dag_id!r} stands {len(found)} times: {' and '.join(found)}",
            where=str(folder),
            remedy="keep one of them; a use case or domain of its own has a YAML file of its own, whose name begins "
            "the ids",
        )
        for dag_id, found in sorted(places.items())
        if len(found) > 1
    ]


def _dag_ids(path: Path) -> Iterator[tuple[str, int]]:
    """Ids of the DAGs that a file makes, each with the line it stands in."""
    nodes = list(ast.walk(_parsed(path)))
    built: dict[str, tuple[dict[str, str], str]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign) and (made := _built(node.value)) is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            built |= {target.id: made for target in targets if isinstance(target, ast.Name)}
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        if _name(node.func) == "DAG" and (dag_id := _given(node, "dag_id")):
            yield dag_id, node.lineno
        elif isinstance(node.func, ast.Attribute):
            owner = node.func.value
            made = built.get(owner.id) if isinstance(owner, ast.Name) else _built(owner)
            if made is not None and node.func.attr in made[0]:
                yield f"{made[1]}_{made[0][node.func.attr]}", node.lineno


def _built(node: ast.expr | None) -> tuple[dict[str, str], str] | None:
    """Of `DomainDags("name")` or `UseCaseDags("name")`: its methods that make DAGs, and the name."""
    methods = _BUILDERS.get(_name(node.func)) if isinstance(node, ast.Call) else None
    name = _given(node, "name") if isinstance(node, ast.Call) else ""
    return (methods, name) if methods and name else None


def _given(call: ast.Call, keyword: str) -> str:
    """The text that a call is given first, or under that keyword; empty where it is none."""
    values = [*call.args[:1], *(each.value for each in call.keywords if each.arg == keyword)]
    return next((str(each.value) for each in values if isinstance(each, ast.Constant)), "")


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def _wires(path: Path, domain: str) -> bool:
    """Whether a file makes the DAGs of a domain and among them that of arrivals; a name it computes may be any."""
    calls = [node for node in ast.walk(_parsed(path)) if isinstance(node, ast.Call)]
    names = {_name(call.func) for call in calls}
    built = [call for call in calls if _name(call.func) == "DomainDags"]
    given = {_given(call, "name") for call in built}
    return {"DomainDags", "arrivals"} <= names and not given.isdisjoint({domain, ""})


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
