"""Order and frequency of a column's values: median, quantiles, distinct and most common values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from millrace.lake import duck
from millrace.validation.duckdb_aggregate import Numbers, Subject, TableCheck
from millrace.validation.duckdb_column import EXACT, Column, UncountedError, members, within

_SHOWN = 20
"""How many distinct values Great Expectations shows."""
_MODES = 1000


def _order_statistics(subject: Subject, positions: Sequence[int], values: int) -> dict[str, str]:
    """The values at positions of the sorted column, 0 the least; halves keep clear of DuckDB's rounding."""
    shares = ", ".join(f"{(position + 0.5) / values!r}::DOUBLE" for position in positions)
    return {"statistics": subject.select(f"quantile_disc({subject.column.sql}, [{shares}])")}


def median(subject: Subject) -> TableCheck:
    """The value in the middle, or the mean of the two there."""
    _sortable(subject.column)

    def follow(numbers: Numbers) -> dict[str, str]:
        values = numbers["values"]
        return _order_statistics(subject, [(values - 1) // 2, values // 2], values) if values else {}

    def finish(numbers: Numbers) -> dict[str, Any]:
        if not numbers["values"]:
            return {"column.median": math.nan}
        with np.errstate(invalid="ignore"):
            return {"column.median": float(np.sum(np.array(numbers["statistics"], np.float64)) / 2)}

    return TableCheck(aggregates=subject.counts, follow=follow, finish=finish)


_ROUND: dict[Any, Callable[[float], Any]] = {
    False: np.around,
    "nearest": np.around,
    "lower": np.floor,
    "higher": np.ceil,
}


def quantiles(subject: Subject) -> TableCheck:
    """Values at shares of the sorted column, never between two values."""
    _sortable(subject.column)
    choose = _ROUND.get(subject.expectation.allow_relative_error)
    wanted = subject.expectation.configuration.kwargs["quantile_ranges"]["quantiles"]
    if choose is None or not all(0 <= share <= 1 for share in wanted):
        raise UncountedError("arguments of quantiles")

    def follow(numbers: Numbers) -> dict[str, str]:
        values = numbers["values"]
        if not values:
            return {}
        # pandas hands per cents to numpy, which takes them back to shares
        shares = [float(np.true_divide(np.float64(share) * 100.0, 100.0)) for share in wanted]
        return _order_statistics(subject, [int(choose((values - 1) * share)) for share in shares], values)

    def finish(numbers: Numbers) -> dict[str, Any]:
        if not numbers["values"] or not wanted:
            raise UncountedError("quantiles of nothing")
        if subject.column.kind == "big" and any(abs(value) > EXACT for value in numbers["statistics"]):
            raise UncountedError(f"large quantiles of {subject.column.name!r}")
        return {"column.quantile_values": list(numbers["statistics"])}

    return TableCheck(aggregates=subject.counts, follow=follow, finish=finish)


def _sortable(column: Column) -> None:
    if column.kind not in ("small", "big", "double"):
        raise UncountedError(f"order of {column.kind} column {column.name!r}")


def distinct_count(subject: Subject) -> TableCheck:
    """How many values there are, each counted once, and their share of all."""

    def finish(numbers: Numbers) -> dict[str, Any]:
        distinct, values = numbers["distinct"], numbers["values"]
        return {
            "column.distinct_values.count": distinct,
            "column.unique_proportion": distinct / values if values else 0,
        }

    distinct = subject.over(f"count(DISTINCT {subject.column.sql})")
    return TableCheck(aggregates={**subject.counts, "distinct": distinct}, finish=finish)


def not_null_share(subject: Subject) -> TableCheck:
    """The share of rows that have a value."""

    def finish(numbers: Numbers) -> dict[str, Any]:
        rows, values = numbers["rows"], numbers["values"]
        return {"column.non_null_count": values, "column.non_null_proportion": values / rows if rows else 0}

    return TableCheck(aggregates=subject.counts, finish=finish)


def most_common(subject: Subject) -> TableCheck:
    """The least thousand of the most common values, and those of the set: enough for the verdict, and bounded."""
    column = subject.column
    if column.kind not in ("text", "small", "big", "double"):
        raise UncountedError(f"most common value of {column.kind} column {column.name!r}")
    wanted = within(Column("value", column.kind), subject.expectation.value_set)
    counted = (
        f"WITH counted AS (SELECT {column.sql} AS value, count(*) AS times FROM {duck.quoted(subject.table)} "
        f"WHERE {subject.domain} AND {column.sql} IS NOT NULL GROUP BY ALL), "
        "common AS (SELECT value FROM counted WHERE times = (SELECT max(times) FROM counted)) "
    )

    def follow(_numbers: Numbers) -> dict[str, str]:
        return {
            "first": f"{counted} SELECT min(value, {_MODES}) FROM common",
            "wanted": f"{counted} SELECT list(value) FILTER (WHERE {wanted}) FROM common",
        }

    def finish(numbers: Numbers) -> dict[str, Any]:
        first = numbers["first"] or []
        more = [value for value in numbers["wanted"] or [] if value not in set(first)] if len(first) == _MODES else []
        return {"column.most_common_value": [*first, *sorted(more)]}

    return TableCheck(aggregates=subject.counts, follow=follow, finish=finish)


def distinct_set(subject: Subject) -> TableCheck:
    """Distinct values beyond a set, and members of the set that are not there."""
    column, value_set = subject.column, subject.expectation.value_set
    value, _ = members(column, value_set)
    inside = within(column, value_set)
    beyond = f"{column.sql} IS NOT NULL AND NOT {inside}"

    def follow(numbers: Numbers) -> dict[str, str]:
        shown = f"SELECT min(found, {_SHOWN}) FROM (SELECT DISTINCT {column.sql} AS found"
        rows = f"FROM {duck.quoted(subject.table)} WHERE {subject.domain} AND {beyond})"
        return {"shown": f"{shown} {rows}"} if numbers["beyond"] else {}

    def finish(numbers: Numbers) -> dict[str, Any]:
        missing = set(value_set) - set(numbers["present"] or [])
        try:
            told = sorted(missing)
        except TypeError:
            told = sorted(missing, key=str)
        return {
            "column.distinct_values.not_in_set.count": numbers["beyond"],
            "column.distinct_values.not_in_set": numbers.get("shown") or [],
            "column.distinct_values.missing_from_column.count": len(missing),
            "column.distinct_values.missing_from_column": told[:_SHOWN],
        }

    aggregates = {
        "beyond": subject.over(f"count(DISTINCT {column.sql})", beyond),
        "present": subject.over(f"list(DISTINCT {value})", inside),
    }
    return TableCheck(aggregates=aggregates, follow=follow, finish=finish)
