"""Row-level expectations as SQL: which rows they look at, and which of those they fail.

Each translation says what Great Expectations' pandas metric of the same name finds on the same values. Where pandas
goes another way for some values, the check carries a guard: a condition that no row may meet.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from millrace.lake import duck
from millrace.validation.duckdb_column import (
    NUMERIC,
    WHOLE,
    Column,
    UncountedError,
    literal,
    real,
    within,
)
from millrace.validation.duckdb_domain import row_domain
from millrace.validation.duckdb_regex import to_re2

Columns = Mapping[str, Column]
_SUMMED_IN_ORDER = 7
"""So many columns numpy adds up one after the other; more of them in several heaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCheck:
    """A judgement of rows, as SQL conditions.

    Attributes:
        domain: rows that the expectation is about.
        considered: those of them that it looks at, nulls mostly left out.
        failing: rows that fail it; "" where `key` says so.
        key: columns whose values together no two considered rows may share; nulls are equal.
        columns: whose values are shown of failing rows.
        shape: in which form they are: one value, a pair, or a record by name.
        guards: conditions; a row that meets one makes pandas decide otherwise.
        probes: constant expressions that DuckDB must be able to work out.
    """

    domain: str
    considered: str
    failing: str = ""
    key: Sequence[Column] = ()
    columns: Sequence[Column]
    shape: Literal["value", "pair", "record"] = "value"
    guards: Sequence[str] = ()
    probes: Sequence[str] = ()


def row_check(expectation: Any, columns: Columns) -> RowCheck:
    """The check of a row-level expectation.

    Args:
        expectation: built by Great Expectations.
        columns: name → column of the table.

    Raises:
        UncountedError: its type or arguments have no exact translation.
    """
    make = _CHECKS.get(expectation.expectation_type)
    if make is None:
        raise UncountedError(f"type {expectation.expectation_type}")
    return make(expectation, columns)


def all_or_none(expectation: Any, columns: Columns, *, fails: bool) -> RowCheck:
    """The check of an expectation on the type of a column, which fits all its values or none."""
    column = columns[expectation.column]
    return _of_column(expectation, columns, f"{column.sql} IS NOT NULL" if fails else "false")


def _of_column(expectation: Any, columns: Columns, bad: str, **more: Any) -> RowCheck:
    """A check of single values that are not null."""
    column, domain = columns[expectation.column], row_domain(expectation, columns)
    considered = f"{domain} AND {column.sql} IS NOT NULL"
    more["guards"] = [f"{considered} AND {guard}" for guard in more.get("guards", ()) if guard]
    return RowCheck(domain=domain, considered=considered, failing=f"{considered} AND ({bad})", columns=[column], **more)


def _not_null(expectation: Any, columns: Columns) -> RowCheck:
    column, domain = columns[expectation.column], row_domain(expectation, columns)
    return RowCheck(domain=domain, considered=domain, failing=f"{domain} AND {column.sql} IS NULL", columns=[column])


def _null(expectation: Any, columns: Columns) -> RowCheck:
    column, domain = columns[expectation.column], row_domain(expectation, columns)
    return RowCheck(
        domain=domain, considered=domain, failing=f"{domain} AND {column.sql} IS NOT NULL", columns=[column]
    )


def _unique(expectation: Any, columns: Columns) -> RowCheck:
    column, domain = _held(columns[expectation.column]), row_domain(expectation, columns)
    return RowCheck(domain=domain, considered=f"{domain} AND {column.sql} IS NOT NULL", key=[column], columns=[column])


def _in_set(expectation: Any, columns: Columns) -> RowCheck:
    return _of_column(expectation, columns, f"NOT {within(columns[expectation.column], expectation.value_set)}")


def _not_in_set(expectation: Any, columns: Columns) -> RowCheck:
    return _of_column(expectation, columns, within(columns[expectation.column], expectation.value_set))


def _between(expectation: Any, columns: Columns) -> RowCheck:
    column, low, high = columns[expectation.column], expectation.min_value, expectation.max_value
    bounds = [bound for bound in (low, high) if bound is not None]
    if column.kind in NUMERIC:
        value, write = column.number, real
    elif (column.kind == "time" and all(isinstance(bound, datetime) for bound in bounds)) or (
        column.kind == "date" and all(type(bound) is date for bound in bounds)
    ):
        value, write = column.sql, literal
    else:
        raise UncountedError(f"bounds of {column.kind} column {column.name!r}")
    least, most = (None if bound is None else write(bound) for bound in (low, high))
    if not bounds or (len(bounds) == 2 and low > high):
        raise UncountedError("no bounds, or bounds in the wrong order")
    return _of_column(expectation, columns, _outside(value, least, most, expectation), guards=[column.blurred])


def _outside(value: str, low: str | None, high: str | None, expectation: Any) -> str:
    tests = []
    if low is not None:
        tests.append(f"{value} {'<=' if expectation.strict_min else '<'} {low}")
    if high is not None:
        tests.append(f"{value} {'>=' if expectation.strict_max else '>'} {high}")
    return " OR ".join(tests)


def _length_between(expectation: Any, columns: Columns) -> RowCheck:
    low, high = (None if bound is None else real(bound) for bound in (expectation.min_value, expectation.max_value))
    if low is None and high is None:
        raise UncountedError("no bounds")
    length = f"length({_text(columns[expectation.column])})"
    return _of_column(expectation, columns, _outside(length, low, high, expectation))


def _length_equal(expectation: Any, columns: Columns) -> RowCheck:
    return _of_column(
        expectation, columns, f"length({_text(columns[expectation.column])}) <> {real(expectation.value)}"
    )


def _matches(expectation: Any, columns: Columns) -> RowCheck:
    return _regex(expectation, columns, [expectation.regex], "NOT {}")


def _matches_not(expectation: Any, columns: Columns) -> RowCheck:
    return _regex(expectation, columns, [expectation.regex], "{}")


def _matches_list(expectation: Any, columns: Columns) -> RowCheck:
    if expectation.match_on not in ("any", "all"):
        raise UncountedError(f"match_on {expectation.match_on!r}")
    word = " OR " if expectation.match_on == "any" else " AND "
    return _regex(expectation, columns, expectation.regex_list, "NOT ({})", word)


def _regex(expectation: Any, columns: Columns, patterns: Sequence[str], bad: str, word: str = "") -> RowCheck:
    value = _text(columns[expectation.column])
    written = [duck.text(to_re2(pattern)) for pattern in patterns]
    if not written:
        raise UncountedError("no regular expression")
    found = word.join(f"regexp_matches({value}, {pattern})" for pattern in written)
    probes = [f"regexp_matches('', {pattern})" for pattern in written]
    return _of_column(expectation, columns, bad.format(found), probes=probes)


def _text(column: Column) -> str:
    if column.kind != "text":
        raise UncountedError(f"{column.kind} column {column.name!r} as text")
    return column.sql


def _pair(expectation: Any, columns: Columns) -> RowCheck:
    first, second = columns[expectation.column_A], columns[expectation.column_B]
    left, right = _alike(first, second)
    domain, considered = _seen([first, second], expectation, columns)
    equal = expectation.expectation_type.endswith("_equal")
    sign = "=" if equal else ">=" if expectation.or_equal else ">"
    if not equal and first.kind == "bool":
        raise UncountedError("order of truth values")
    # pandas raises on a null beside these; a whole number of 64 bits may be of its nullable type, which infects others
    awkward = {"big"} if equal else {"big", "text", "date"}
    beside = [first, second] if awkward & {first.kind, second.kind} else []
    return RowCheck(
        domain=domain,
        considered=considered,
        failing=f"{considered} AND NOT coalesce({left} {sign} {right}, false)",
        columns=[first, second],
        shape="pair",
        guards=[f"{considered} AND {item.sql} IS NULL" for item in beside],
    )


def _alike(first: Column, second: Column) -> tuple[str, str]:
    kinds = {first.kind, second.kind}
    if kinds <= WHOLE or (len(kinds) == 1 and "other" not in kinds):
        return first.sql, second.sql
    if kinds <= NUMERIC:
        return first.number, second.number
    raise UncountedError(f"{first.kind} column {first.name!r} beside {second.kind} column {second.name!r}")


def _seen(judged: Sequence[Column], expectation: Any, columns: Columns) -> tuple[str, str]:
    """Domain, and rows considered as `ignore_row_if` says."""
    if len({column.name for column in judged}) < len(judged):
        raise UncountedError("a column named twice")
    domain = row_domain(expectation, columns)
    present = [f"{column.sql} IS NOT NULL" for column in judged]
    match expectation.ignore_row_if:
        case "both_values_are_missing" | "all_values_are_missing":
            return domain, f"{domain} AND ({' OR '.join(present)})"
        case "either_value_is_missing" | "any_value_is_missing":
            return domain, f"{domain} AND ({' AND '.join(present)})"
        case "neither" | "never":
            return domain, domain
    raise UncountedError(f"ignore_row_if {expectation.ignore_row_if!r}")


def _compound(expectation: Any, columns: Columns) -> RowCheck:
    judged = [_held(columns[name]) for name in expectation.column_list]
    domain, considered = _seen(judged, expectation, columns)
    return RowCheck(domain=domain, considered=considered, key=judged, columns=judged, shape="record")


def _held(column: Column) -> Column:
    if column.kind == "other":
        raise UncountedError(f"type of column {column.name!r}")
    return column


def _within_record(expectation: Any, columns: Columns) -> RowCheck:
    judged = [_held(columns[name]) for name in expectation.column_list]
    domain, considered = _seen(judged, expectation, columns)
    kinds = {column.kind for column in judged}
    if kinds <= NUMERIC and len(kinds) > 1:
        values = [column.number for column in judged]
        guards = [f"{considered} AND {column.sql} IS NULL" for column in judged]
        guards += [f"{considered} AND {column.blurred}" for column in judged if column.blurred]
    elif len(kinds) == 1 and kinds <= {"text", "small", "big", "double", "time"}:
        values, guards = [column.sql for column in judged], []
    else:
        raise UncountedError(f"columns of kinds {', '.join(sorted(kinds))} beside each other")
    same = " OR ".join(f"{a} IS NOT DISTINCT FROM {b}" for a, b in itertools.combinations(values, 2))
    return RowCheck(
        domain=domain,
        considered=considered,
        failing=f"{considered} AND ({same})",
        columns=judged,
        shape="record",
        guards=guards,
    )


def _sum_equal(expectation: Any, columns: Columns) -> RowCheck:
    judged = [columns[name] for name in expectation.column_list]
    domain, considered = _seen(judged, expectation, columns)
    kinds = {column.kind for column in judged}
    if not kinds <= {"small", "big", "double"} or ("double" in kinds and len(judged) > _SUMMED_IN_ORDER):
        raise UncountedError(f"sum of columns of kinds {', '.join(sorted(kinds))}")
    parts = [column.number if "double" in kinds else f"{column.sql}::HUGEINT" for column in judged]
    guards = [f"{considered} AND {column.sql} IS NULL" for column in judged if "big" in kinds]
    guards += [f"{considered} AND {column.blurred}" for column in judged if column.blurred]
    total = f"({' + '.join(parts)})::DOUBLE"
    return RowCheck(
        domain=domain,
        considered=considered,
        failing=f"{considered} AND NOT coalesce({total} = {real(expectation.sum_total)}, false)",
        columns=judged,
        shape="record",
        guards=guards,
    )


_CHECKS: dict[str, Callable[[Any, Columns], RowCheck]] = {
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_null": _null,
    "expect_column_values_to_be_unique": _unique,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": _not_in_set,
    "expect_column_values_to_be_between": _between,
    "expect_column_value_lengths_to_be_between": _length_between,
    "expect_column_value_lengths_to_equal": _length_equal,
    "expect_column_values_to_match_regex": _matches,
    "expect_column_values_to_not_match_regex": _matches_not,
    "expect_column_values_to_match_regex_list": _matches_list,
    "expect_column_pair_values_to_be_equal": _pair,
    "expect_column_pair_values_a_to_be_greater_than_b": _pair,
    "expect_compound_columns_to_be_unique": _compound,
    "expect_select_column_values_to_be_unique_within_record": _within_record,
    "expect_multicolumn_sum_to_equal": _sum_equal,
}
