"""The columns as they stand while steps are compiled, and what is found wrong with a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from millrace.cleanup.kind import declared_kind
from millrace.cleanup.plan import FAULT, ROW, Column, Fault
from millrace.errors import SpecError
from millrace.lake.duck import quoted
from millrace.spec.source import SourceSpec


class Scope:
    """What the steps compiled so far leave.

    Attributes:
        connection: an isolated DuckDB connection.
        columns: the columns, in their order.
        label: place of the step being compiled.
        refusals: what is wrong with it.
        faults: what may go wrong with its rows, by number.
        clock: how times that carry no zone are read.
    """

    def __init__(self, connection: Any, spec: SourceSpec) -> None:
        self.connection = connection
        self.columns = {
            name: Column(kind=declared_kind(kind), origins=(name,)) for name, kind in spec.raw_columns.items()
        }
        self.label = "columns"
        self.refusals: list[SpecError] = []
        self.faults: dict[int, Fault] = {}
        self.clock = spec.clock
        self._raw = list(self.columns)
        self._numbered = 0
        self._check_case()

    def enter(self, label: str) -> None:
        """Begin a step."""
        self.label = label
        self.faults = {}

    def leave(self, columns: Mapping[str, Column]) -> None:
        """End a step with the columns it leaves."""
        self.columns = dict(columns)
        self._check_case()

    def refuse(self, what: str, *, column: str, remedy: str) -> None:
        """Note that a step cannot work on a column."""
        self.refusals.append(SpecError(what, where=f"{self.label}.{column}", remedy=remedy))

    def number(self, reason: str, columns: Iterable[str]) -> int:
        """A number for what may go wrong with rows."""
        self._numbered += 1
        self.faults[self._numbered] = Fault(reason=reason, columns=tuple(columns))
        return self._numbered

    def origins(self, names: Iterable[str]) -> tuple[str, ...]:
        """The raw columns behind columns, in the order they are declared; names are taken in any case."""
        folded = {name.lower() for name in names}
        behind = {
            origin for name, column in self.columns.items() if name.lower() in folded for origin in column.origins
        }
        return tuple(name for name in self._raw if name in behind)

    def select(self, changed: Mapping[str, str]) -> str:
        """List of a SELECT of all columns, some of them replaced by SQL."""
        own = [f"{changed[name]} AS {quoted(name)}" if name in changed else quoted(name) for name in self.columns]
        return ", ".join([*own, quoted(ROW), quoted(FAULT)])

    def typed_nulls(self) -> str:
        """A SELECT of one row with the columns' names and types, to bind expressions to."""
        return "SELECT " + ", ".join(
            f"CAST(NULL AS {column.kind}) AS {quoted(name)}" for name, column in self.columns.items()
        )

    def _check_case(self) -> None:
        seen: dict[str, str] = {}
        for name in self.columns:
            if other := seen.get(name.lower()):
                self.refuse(
                    f"columns {other!r} and {name!r} differ in case only, which SQL does not tell apart",
                    column=name,
                    remedy="give one of them another name",
                )
            seen[name.lower()] = name
