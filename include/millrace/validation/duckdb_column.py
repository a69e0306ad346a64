"""Columns as DuckDB holds them, and constants as its SQL writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from millrace.lake import duck

Kind = Literal["small", "big", "single", "double", "text", "bool", "time", "date", "other"]
"""Whole numbers under 64 bits, of 64 bits; floats of 32 bits, of 64; text; truth values; instants; days."""

WHOLE: frozenset[Kind] = frozenset({"small", "big"})
NUMERIC: frozenset[Kind] = frozenset({"small", "big", "single", "double"})
EXACT = 2**53
"""Up to here every whole number is a float."""

_KINDS: dict[str, Kind] = {
    "TINYINT": "small",
    "SMALLINT": "small",
    "INTEGER": "small",
    "BIGINT": "big",
    "FLOAT": "single",
    "DOUBLE": "double",
    "VARCHAR": "text",
    "BOOLEAN": "bool",
    "TIMESTAMP WITH TIME ZONE": "time",
    "DATE": "date",
}
_LONGEST = 2**63


class UncountedError(Exception):
    """DuckDB cannot tell what Great Expectations would: its own engine has to. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and how SQL reads it: not-a-number is null, as it is to pandas.

    Attributes:
        name: as declared.
        kind: what it holds.
    """

    name: str
    kind: Kind

    @property
    def sql(self) -> str:
        """The value."""
        plain = duck.quoted(self.name)
        if self.kind in ("single", "double"):
            return f"nullif({plain}, 'nan'::{'FLOAT' if self.kind == 'single' else 'DOUBLE'})"
        return plain

    @property
    def number(self) -> str:
        """The value as a float of 64 bits."""
        return f"{self.sql}::DOUBLE"

    @property
    def blurred(self) -> str:
        """Condition under which the value is a whole number that a float does not hold; "" where it never is."""
        return f"{self.sql} NOT BETWEEN -{EXACT} AND {EXACT}" if self.kind == "big" else ""


def read_columns(connection: Any, table: str) -> dict[str, Column]:
    """Name → column of a table or view, in their order."""
    told = connection.execute(f"DESCRIBE SELECT * FROM {duck.quoted(table)}").fetchall()
    return {row[0]: Column(row[0], _KINDS.get(row[1], "other")) for row in told}


def literal(value: Any) -> str:
    """A constant as SQL writes it.

    Raises:
        UncountedError: it has no exact form.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -_LONGEST <= value < _LONGEST:
        return f"({value})::BIGINT"
    if isinstance(value, float) and not math.isnan(value):
        return f"'{value!r}'::DOUBLE"
    if isinstance(value, str) and "\0" not in value:
        return duck.text(value)
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return f"'{value.isoformat()}'::TIMESTAMPTZ"
    if isinstance(value, date) and not isinstance(value, datetime):
        return f"'{value.isoformat()}'::DATE"
    raise UncountedError(f"{value!r} as a constant")


def real(value: Any) -> str:
    """A number as a float of 64 bits, as numpy reads it beside floats.

    Raises:
        UncountedError: it is none, or a whole number that a float does not hold.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or (abs(value) > EXACT and isinstance(value, int)):
        raise UncountedError(f"{value!r} as a number")
    return literal(float(value))


def members(column: Column, values: Sequence[Any]) -> tuple[str, list[str]]:
    """A column and the constants it is looked for among, of one type; null is none of them.

    Raises:
        UncountedError: types are mixed, or pandas compares them in a way of its own.
    """
    wanted = [value for value in values if value is not None]
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in wanted)
    match column.kind:
        case "text" if all(isinstance(value, str) for value in wanted):
            return column.sql, [literal(value) for value in wanted]
        case "bool" if all(isinstance(value, bool) for value in wanted):
            return column.sql, [literal(value) for value in wanted]
        case "small" | "big" if whole:
            return column.sql, [literal(value) for value in wanted]
        case "small" | "single" | "double":
            return column.number, [real(value) for value in wanted]
    raise UncountedError(f"{column.kind} column {column.name!r} in a set")


def within(column: Column, values: Sequence[Any]) -> str:
    """Condition that a value which is not null is one of a set.

    Raises:
        UncountedError: as `members`.
    """
    value, wanted = members(column, values)
    return f"{value} IN ({', '.join(wanted)})" if wanted else "false"
