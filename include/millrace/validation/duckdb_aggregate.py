"""Expectations on a column or table as a whole: SQL aggregates, and Great Expectations' metrics made of them.

Numbers equal those of its pandas engine. A mean, sum or deviation of floats may differ in the last digits, which are
left out; where a bound lies so near that they decide, pandas must.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from millrace.lake import duck
from millrace.validation.duckdb_column import EXACT, WHOLE, Column, UncountedError, literal
from millrace.validation.duckdb_domain import EVERY, row_domain

Numbers = Mapping[str, Any]
_HUGE = 1e150
"""Squares of larger floats overflow."""
_LARGEST_SUM = 2**63 - 1


def _nothing(_numbers: Numbers) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCheck:
    """Numbers that DuckDB counts for an expectation on a column or table as a whole.

    Attributes:
        aggregates: name → SQL aggregate over the whole table; all of a contract are counted in one scan.
        follow: of those numbers, name → SQL select of one value, for what cannot be asked at once.
        finish: of all numbers, Great Expectations' metrics by name; raises UncountedError where pandas must decide.
    """

    aggregates: Mapping[str, str]
    finish: Callable[[Numbers], Mapping[str, Any]]
    follow: Callable[[Numbers], Mapping[str, str]] = _nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an aggregate is about: a column, in some rows of a table.

    Attributes:
        table: name of the table.
        column: the column.
        domain: condition of the rows.
        expectation: with its bounds.
    """

    table: str
    column: Column
    domain: str
    expectation: Any

    def over(self, aggregate: str, condition: str = "") -> str:
        """The aggregate, over the rows of the domain that meet a condition."""
        conditions = [part for part in (self.domain, condition) if part not in ("", EVERY)]
        return f"{aggregate} FILTER (WHERE {' AND '.join(conditions)})" if conditions else aggregate

    def select(self, aggregate: str, condition: str = "") -> str:
        """The same as a statement of its own."""
        return f"SELECT {self.over(aggregate, condition)} FROM {duck.quoted(self.table)}"

    @property
    def counts(self) -> dict[str, str]:
        """Rows and values."""
        return {"rows": self.over("count(*)"), "values": self.over(f"count({self.column.sql})")}

    def near_bound(self, value: float, tolerance: float) -> bool:
        """Whether less than the tolerance decides on a bound of the expectation."""
        bounds = (self.expectation.min_value, self.expectation.max_value)
        return any(isinstance(bound, int | float) and abs(value - bound) <= tolerance for bound in bounds)


def of_table(expectation: Any, columns: Mapping[str, Column]) -> TableCheck:
    """Rows and columns."""
    domain = row_domain(expectation, columns)
    rows = "count(*)" if domain == EVERY else f"count(*) FILTER (WHERE {domain})"

    def finish(numbers: Numbers) -> dict[str, Any]:
        return {
            "table.row_count": numbers["rows"],
            "table.columns": list(columns),
            "table.column_count": len(columns),
        }

    return TableCheck(aggregates={"rows": rows}, finish=finish)


def extreme(function: str) -> Callable[[Subject], TableCheck]:
    """The least or greatest value.

    Args:
        function: `min` or `max`.
    """

    def check(subject: Subject) -> TableCheck:
        column = subject.column
        if column.kind not in ("small", "big", "single", "double", "time"):
            raise UncountedError(f"{function} of {column.kind} column {column.name!r}")
        typed = {"big": np.int64, "single": np.float32, "double": float}.get(column.kind, lambda value: value)

        def finish(numbers: Numbers) -> dict[str, Any]:
            if not numbers["values"]:
                if column.kind == "time":
                    raise UncountedError("no instant")
                return {f"column.{function}": math.nan}
            return {f"column.{function}": typed(numbers["found"])}

        return TableCheck(
            aggregates={**subject.counts, "found": subject.over(f"{function}({column.sql})")}, finish=finish
        )

    return check


def _usual(column: Column) -> str:
    return f"abs({column.number}) < {_HUGE!r}::DOUBLE"


def _summed(
    subject: Subject,
    metric: str,
    compute: Callable[[Numbers], tuple[Any, float]],
    follow: Callable[[Numbers], Mapping[str, str]] = _nothing,
) -> TableCheck:
    """A number made of a sum: `compute` gives it and how far that of pandas may lie from it."""
    column = subject.column
    if column.kind not in ("small", "big", "double"):
        raise UncountedError(f"sum of {column.kind} column {column.name!r}")
    usual = _usual(column)
    total = f"sum({column.sql})" if column.kind in WHOLE else f"fsum({column.sql})"
    aggregates = {
        **subject.counts,
        "total": subject.over(total, usual),
        "size": subject.over(f"sum(abs({column.number}))", usual),
        "odd": subject.over("count(*)", f"NOT ({usual})"),
    }

    def finish(numbers: Numbers) -> dict[str, Any]:
        if numbers["odd"]:
            raise UncountedError(f"infinite or very large values of {column.name!r}")
        value, tolerance = compute(numbers)
        if tolerance and subject.near_bound(value, tolerance):
            raise UncountedError(f"{metric} of {column.name!r} at a bound")
        return {metric: float(f"{value:.15g}") if tolerance else value}

    return TableCheck(aggregates=aggregates, follow=follow, finish=finish)


def mean(subject: Subject) -> TableCheck:
    """The mean."""

    def compute(numbers: Numbers) -> tuple[Any, float]:
        if not numbers["values"]:
            return math.nan, 0.0
        exact = subject.column.kind in WHOLE and numbers["size"] < EXACT
        return numbers["total"] / numbers["values"], 0.0 if exact else 1e-12 * numbers["size"] / numbers["values"]

    return _summed(subject, "column.mean", compute)


def sum(subject: Subject) -> TableCheck:
    """The sum."""

    def compute(numbers: Numbers) -> tuple[Any, float]:
        total = numbers["total"] or 0
        if subject.column.kind not in WHOLE:
            return float(total), 1e-12 * (numbers["size"] or 0.0)
        if abs(total) > (_LARGEST_SUM if subject.column.kind == "big" else EXACT):
            raise UncountedError(f"sum of {subject.column.name!r}")
        return np.int64(total), 0.0

    return _summed(subject, "column.sum", compute)


def deviation(subject: Subject) -> TableCheck:
    """The standard deviation of a sample, as pandas takes it: the mean first, then the squares."""

    def follow(numbers: Numbers) -> dict[str, str]:
        if numbers["values"] < 2 or numbers["odd"]:
            return {}
        distance = f"({subject.column.number} - {literal(numbers['total'] / numbers['values'])})"
        return {"squares": subject.select(f"fsum({distance} * {distance})", _usual(subject.column))}

    def compute(numbers: Numbers) -> tuple[Any, float]:
        values = numbers["values"]
        if values < 2:
            return math.nan, 0.0
        found = math.sqrt(numbers["squares"] / (values - 1))
        return found, 1e-12 * found + 1e-14 * numbers["size"] / values

    return _summed(subject, "column.standard_deviation", compute, follow)
