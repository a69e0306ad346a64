"""How far a column reaches into a use case: features of a service, parts of the label, and the partitions of these."""

from __future__ import annotations

from millrace.cleanup import isolated
from millrace.cleanup.expression import parse_expression
from millrace.package import FeatureSpec
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.column_lineage import CleanUse, stands_behind


class ServiceReach:
    """A feature service seen from a column: which of its features rest on it, and in which partitions."""

    def __init__(self, spec: FeatureSpec, domain: DomainSpec, clean: CleanUse, *, own: bool) -> None:
        asked = [*spec.row, *(column for item in spec.on_demand for column in item.request)]
        names = dict.fromkeys([*(column.name for column in asked), spec.timestamp])
        self.row = [name for name in names if own and name in clean.columns]
        by_table = {use.table: use for use in clean.features}
        self._lookups = {
            view.view: (view.ttl_hours, by_table[view.view].partitions)
            for view in spec.lookups
            if view.view in by_table and set(view.features) & set(by_table[view.view].features)
        }
        self.features = [
            f"{view.view}.{name}"
            for view in spec.lookups
            if view.view in by_table
            for name in view.features
            if name in by_table[view.view].features
        ]
        self._domain, self._keys = domain, clean.keys

    def reaches(self, partition: str) -> bool:
        """Whether rows of a partition may have features that rest on the values asked for."""
        if self.row and partition in self._keys:
            return True
        return any(stands_behind(self._domain, keys, partition, ttl) for ttl, keys in self._lookups.values() if keys)


def label_parts(use_case: UseCaseSpec, clean: CleanUse) -> list[str]:
    """Parts of the label that read any of the columns."""
    columns = {name.lower() for name in clean.columns}
    with isolated() as connection:
        parts = {"expression": use_case.label.expression, "weight": use_case.label.weight}
        read = {part: parse_expression(connection, text).names for part, text in parts.items() if text}
    read["known_at"] = frozenset({use_case.label.known_at.lower()})
    return [part for part in ("expression", "known_at", "weight") if read.get(part, frozenset()) & columns]
