"""What features there are: declared, applied, released; who owns them, where they come from, and who uses them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from millrace.errors import FeatureError
from millrace.features.applied import Definition
from millrace.features.definition import ON_DEMAND, SERVICE, TABLE, define_features, split_subject, tables_read
from millrace.features.lineage import source_columns
from millrace.features.plan import Standing
from millrace.features.transformation import read_transformation
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, list_specs, load_domain, load_use_case
from millrace.step.feature_registry import standing

Columns = Mapping[str, Mapping[str, list[str]]]
"""Feature → source → columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """What a person asked for.

    Attributes:
        kind: `table`, `on_demand`, `service` or `column`.
        name: of the table, view or service; of the source for a column.
        feature: the one feature, or the column; "" for all.
        domain: where it is declared; "" where it is only in the registry.
    """

    kind: str
    name: str
    feature: str = ""
    domain: str = ""

    @property
    def subject(self) -> str:
        """Key of its definition."""
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Everything declared in this installation, with what is in the registry.

    Attributes:
        settings: this installation.
        domains: by name.
        use_cases: by name.
        declared: definitions by subject.
        standing: what is in the registry, and the releases on it.
    """

    settings: Settings
    domains: dict[str, DomainSpec]
    use_cases: dict[str, UseCaseSpec]
    declared: dict[str, Definition]
    standing: Standing
    _columns: dict[str, Columns] = field(default_factory=dict)

    @classmethod
    def load(cls, settings: Settings) -> Catalog:
        """Read specs, registry and ledger.

        Raises:
            MillraceError: a spec is wrong, or the registry or the ledger does not answer.
        """
        domains = {name: load_domain(settings.dags, name) for name in list_specs(settings.dags, "domains")}
        use_cases = {name: load_use_case(settings.dags, name) for name in list_specs(settings.dags, "use_cases")}
        declared: dict[str, Definition] = {}
        for name, domain in domains.items():
            on_it = [use_case for use_case in use_cases.values() if use_case.domain == name]
            declared |= define_features(domain, on_it, settings.sql_folder)
        return cls(
            settings=settings, domains=domains, use_cases=use_cases, declared=declared, standing=standing(settings)
        )

    def definition(self, subject: str) -> Definition:
        """The declared definition, else the applied one."""
        return self.declared.get(subject) or self.standing.applied[subject]

    def status(self, subject: str) -> str:
        """How what is declared relates to the registry, in words."""
        declared, applied = self.declared.get(subject), self.standing.applied.get(subject)
        if declared is None:
            return "in the registry, no longer declared"
        if applied is None:
            return "not applied yet"
        return "applied" if applied == declared else "changed since it was applied"

    def find(self, name: str) -> Name:
        """What a name means: a feature, a feature table, an on-demand view, a service, or a column of a source.

        Raises:
            FeatureError: nothing is called that; the message has the nearest names.
        """
        bare = name.replace(":", ".").split(".")
        found = [item for item in self.names() if _matches(item, bare)]
        if found:
            return found[0]
        known = [item.feature or item.name for item in self.names()]
        near = difflib.get_close_matches(bare[-1], known, n=3)
        raise FeatureError(
            f"nothing is called {name!r}",
            where="features",
            remedy=f"did you mean {', '.join(near)}?" if near else "`millrace features list` shows what there is",
        )

    def names(self) -> Iterator[Name]:
        """All names: services, tables and views, their features, then the columns of the sources."""
        subjects = sorted({*self.declared, *self.standing.applied}, key=_order)
        for subject in subjects:
            kind, name = split_subject(subject)
            yield Name(kind=kind, name=name, domain=self.definition(subject).get("domain", ""))
        for subject in subjects:
            kind, name = split_subject(subject)
            for feature in self.definition(subject).get("features", {}):
                yield Name(kind=kind, name=name, feature=feature, domain=self.definition(subject).get("domain", ""))
        for domain in self.domains.values():
            for source, spec in domain.sources.items():
                for column in spec.clean_columns:
                    yield Name(kind="column", name=source, feature=column, domain=domain.name)

    def columns(self, table: str) -> Columns:
        """Feature → source → columns it is computed from; nothing for a table that is no longer declared."""
        if table not in self._columns:
            domain = next((item for item in self.domains.values() if table in item.feature_tables), None)
            self._columns[table] = (
                {}
                if domain is None
                else source_columns(domain, read_transformation(domain, table, self.settings.sql_folder))
            )
        return self._columns[table]

    def readers(self, item: Name) -> dict[str, list[str]]:
        """Service → releases made on it, of all services that use a feature, table or view, directly or computed on."""
        found = {}
        for subject in sorted({*self.declared, *self.standing.applied}):
            kind, service = split_subject(subject)
            if kind == SERVICE and self._reads(self.definition(subject)["shape"], item):
                found[service] = self.standing.releases.get(service, [])
        return found

    def computed_on(self, table: str, feature: str = "") -> list[str]:
        """On-demand views that look a feature (any of the table's) up."""
        return [
            name
            for kind, name in map(split_subject, sorted({*self.declared, *self.standing.applied}))
            if kind == ON_DEMAND
            and table in (inputs := self.definition(f"{kind}:{name}")["shape"]["inputs"])
            and (not feature or feature in inputs[table])
        ]

    def _reads(self, shape: Mapping[str, Any], item: Name) -> bool:
        everything = {**self.standing.applied, **self.declared}
        if item.kind == ON_DEMAND:
            taken = shape["on_demand"].get(item.name)
            return taken is not None and (not item.feature or item.feature in taken)
        if not item.feature:
            return item.name in tables_read(shape, everything)[0]
        if item.feature in shape["views"].get(item.name, []):
            return True
        return any(view in shape["on_demand"] for view in self.computed_on(item.name, item.feature))


def _matches(item: Name, asked: list[str]) -> bool:
    """Whether the last parts of the full name are the asked ones; a column is asked for with its source."""
    full = [part for part in (item.domain, item.name, item.feature) if part]
    return full[-len(asked) :] == asked and (item.kind != "column" or len(asked) > 1)


def _order(subject: str) -> tuple[int, str]:
    kind, name = split_subject(subject)
    return (SERVICE, TABLE, ON_DEMAND).index(kind), name
