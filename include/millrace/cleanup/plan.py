"""What the steps of a clean-up come to in SQL: plain values, made once and run over any number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from millrace.cleanup.kind import FLOATS, INSTANT, arrow_kind
from millrace.lake.duck import quoted
from millrace.spec.cleanup import CleanupStep

ROW = "row#"
"""Position of a row in its raw partition. No declared column can be called so: `#` is not allowed in a name."""

FAULT = "fault#"
"""Number of the first fault of a row, null where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column at one place of the clean-up.

    Attributes:
        kind: its DuckDB type.
        origins: the raw columns it was made of.
    """

    kind: str
    origins: tuple[str, ...]


Columns = Mapping[str, Column]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What may go wrong with single rows in a step.

    Attributes:
        reason: `cleanup.<step>.<column>`.
        columns: the raw columns at fault.
    """

    reason: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step.

    Attributes:
        step: as declared.
        label: its place, such as `cleanup[0].derive`.
        selects: lists of SELECT, each to be put over the one before; none for a step that is not SQL over single rows.
        faults: number → what it means, of the faults its rows may have.
        before: columns it finds.
        after: columns it leaves.
    """

    step: CleanupStep
    label: str
    selects: tuple[str, ...]
    faults: Mapping[int, Fault]
    before: Columns
    after: Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole clean-up.

    Attributes:
        raw: columns it begins with.
        steps: in their order.
        columns: columns it ends with.
    """

    raw: Columns
    steps: tuple[PlannedStep, ...]
    columns: Columns

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of the clean columns."""
        return arrow_columns(self.columns)


def arrow_columns(columns: Columns) -> pa.Schema:
    """The Arrow schema of columns."""
    return pa.schema([(name, arrow_kind(column.kind)) for name, column in columns.items()])


def numbered(columns: Columns) -> pa.Schema:
    """The Arrow schema of columns and `row#`."""
    return arrow_columns(columns).append(pa.field(ROW, pa.int64()))


def first_select(columns: Columns) -> str:
    """List of a SELECT over rows of which none has a fault yet; what is not a number becomes null."""
    own = [
        f"{finite(quoted(name), column.kind)} AS {quoted(name)}" if column.kind in FLOATS else quoted(name)
        for name, column in columns.items()
    ]
    return ", ".join([*own, quoted(ROW), f"CAST(NULL AS INTEGER) AS {quoted(FAULT)}"])


def finite(value: str, kind: str) -> str:
    """SQL of a value with null for what is not a number, and for an endless time."""
    if kind in FLOATS:
        return f"CASE WHEN isnan({value}) THEN NULL ELSE {value} END"
    if kind in (INSTANT, "DATE"):
        return f"CASE WHEN isfinite({value}) THEN {value} END"
    return value


def over(select: str, inner: str) -> str:
    """A SELECT over another."""
    return f"SELECT {select} FROM ({inner})"
