"""Which expectations the past of a column speaks for: each with what was seen, and the rows it would have set aside."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from millrace.lake.duck import quoted, text
from millrace.spec.contract import ExpectationSpec, OnFailure
from millrace.validation.parameter import PARAMETER, PARTITION_END, PARTITION_START
from millrace.validation.past import END, START, Past
from millrace.validation.profile import ColumnProfile

RARE = 0.0002
"""Share of rows below which a value is taken for a fault or an exception, and left out of a set."""
NEARLY_ALL = 0.99
NEARLY_NO_NULLS = 0.001
_FEW_ROWS = 100
_CODES = 20
_VALUES = 50
_TAIL = 10
"""Times its distance from the median to the 99 % quantile that the 99.9 % quantile may be away, to be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An expectation that a person may keep, change or strike.

    Attributes:
        expectation: as a spec holds it.
        seen: what speaks for it.
        breaks: SQL condition of the rows that fail it; "" for one that judges the table as a whole.
    """

    expectation: ExpectationSpec
    seen: str
    breaks: str = ""


def propose(past: Past, key: Iterable[str]) -> list[Proposal]:
    """All expectations the past speaks for, in the order of the columns.

    Args:
        past: the partitions looked at.
        key: columns that identify a record.
    """
    by_column: dict[str, list[Proposal]] = {name: list(_not_null(past, name)) for name in past.pooled.columns}
    for name in past.told("integer", "text"):
        by_column[name] += _set(past, name)
    for name in past.told("integer", "number"):
        if not _has(by_column[name], "in_set"):
            by_column[name] += _between(past, name)
    for name in past.told("text"):
        if not _has(by_column[name], "in_set"):
            by_column[name] += _text(past, name)
    for name in past.pooled.columns:
        by_column[name] += _unique(past, name)
    pairs = list(_pairs(past))
    for name in event_times(past)[:1]:
        by_column[name].append(_in_partition(past, name))
    return [*_rows(past), *itertools.chain(*by_column.values()), *pairs, *_key(past, list(key))]


def event_times(past: Past) -> list[str]:
    """Columns of instants that (nearly) all lie in their partition, the earliest first."""
    names = past.told("timestamp") if past.timed else []
    counts = past.count([_outside(name) for name in names])
    found = [name for name, outside in zip(names, counts, strict=True) if outside <= RARE * past.rows]
    return sorted((n for n in found if _present(past, n)), key=lambda n: past.pooled.columns[n].min_number or 0.0)


def outward(value: float, width: float, direction: int) -> float:
    """A bound rounded away from the data, to a hundredth or so of the data's width."""
    step = 10.0 ** (math.floor(math.log10(width)) - 1) if width > 0 else 1.0
    steps = math.floor(round(value / step, 6)) if direction < 0 else math.ceil(round(value / step, 6))
    return float(f"{steps * step:.12g}")


def plain(value: float) -> int | float:
    """Whole numbers without a fraction."""
    return int(value) if value == int(value) else value


def _expect(past: Past, kind: str, on_failure: OnFailure = "quarantine", **kwargs: Any) -> ExpectationSpec:
    return ExpectationSpec(type=f"expect_{kind}", kwargs=kwargs, on_failure=on_failure, stage=past.stage)


def _has(proposals: Iterable[Proposal], word: str) -> bool:
    return any(item.expectation.type.endswith(word) for item in proposals)


def _present(past: Past, column: str) -> int:
    item = past.pooled.columns[column]
    return item.rows - item.nulls


def _rows(past: Past) -> Iterator[Proposal]:
    counts = [profile.rows for profile in past.each]
    low, high = outward(min(counts) / 2, min(counts) / 2, -1), outward(max(counts) * 1.5, max(counts) * 1.5, 1)
    span = f"{min(counts):,} to {max(counts):,} rows in {len(counts)} partitions"
    bounds = {"min_value": plain(low), "max_value": plain(high)}
    yield Proposal(expectation=_expect(past, "table_row_count_to_be_between", "block", **bounds), seen=span)


def _not_null(past: Past, column: str) -> Iterator[Proposal]:
    nulls = past.pooled.columns[column].nulls
    worst = max((item.null_share or 0.0 for item in past.of(column)), default=1.0)
    if worst <= NEARLY_NO_NULLS:
        seen = f"{nulls:,} nulls in {past.rows:,} rows" if nulls else f"no null in {past.rows:,} rows"
        spec = _expect(past, "column_values_to_not_be_null", column=column)
        yield Proposal(expectation=spec, seen=seen, breaks=f"{quoted(column)} IS NULL")


def _set(past: Past, column: str) -> Iterator[Proposal]:
    item, present = past.pooled.columns[column], _present(past, column)
    top = item.top or {}
    if not top or item.distinct > _VALUES or present < max(_FEW_ROWS, 10 * item.distinct):
        return
    kept = [value for value, rows in top.items() if rows >= RARE * present]
    if item.kind == "integer" and (len(kept) > _CODES or _is_range(kept)):
        return
    if sum(top[value] for value in kept) < NEARLY_ALL * present or not _is_stable(past, column):
        return
    rare = [f"{orjson.dumps(value).decode()} in {top[value]:,} rows" for value in top if value not in kept]
    seen = f"{len(kept)} values, the rarest in {top[kept[-1]]:,} of {present:,} rows"
    seen += f"; left out as rare: {', '.join(rare)}" if rare else ""
    values = sorted(kept)
    listed = ", ".join(text(value) if isinstance(value, str) else str(value) for value in values)
    yield Proposal(
        expectation=_expect(past, "column_values_to_be_in_set", column=column, value_set=values),
        seen=seen,
        breaks=f"{quoted(column)} NOT IN ({listed})",
    )


def _is_range(values: list[Any]) -> bool:
    return len(values) > 10 and sorted(values) == list(range(min(values), max(values) + 1))


def _is_stable(past: Past, column: str) -> bool:
    """Whether nearly all rows of every partition hold a value that another partition knows, too."""
    each = [item.top or {} for item in past.of(column) if item.nulls < item.rows]
    for index, mine in enumerate(each):
        others = {value for other in each[:index] + each[index + 1 :] for value in other}
        if others and sum(rows for value, rows in mine.items() if value in others) < NEARLY_ALL * sum(mine.values()):
            return False
    return True


def _between(past: Past, column: str) -> Iterator[Proposal]:
    item, name = past.pooled.columns[column], quoted(column)
    present = _present(past, column)
    if item.q001 is None or item.q50 is None or item.q999 is None or present < _FEW_ROWS:
        return
    low, high, seen = _bounds(item)
    width = high - low or abs(item.q50)
    if width == 0:
        return
    kwargs: dict[str, Any] = {"column": column, "min_value": low, "max_value": high}
    negative, positive = past.count([f"{name} < 0", f"{name} > 0"])
    zero = present - negative - positive
    if positive + zero >= NEARLY_ALL * present and low <= 0:
        kwargs["min_value"] = 0.0
        seen += (f"; {negative:,} below 0" if negative else "") + (f"; {zero:,} are 0" if zero else "")
        if positive >= NEARLY_ALL * present and item.distinct > _VALUES:
            kwargs["strict_min"] = True
    elif negative + zero >= NEARLY_ALL * present and high >= 0:
        kwargs["max_value"] = 0.0
        seen += f"; {positive:,} above 0" if positive else ""
    beyond = f"{name} {'<=' if 'strict_min' in kwargs else '<'} {kwargs['min_value']} OR {name} > {kwargs['max_value']}"
    kwargs |= {bound: plain(kwargs[bound]) for bound in ("min_value", "max_value")}
    yield Proposal(expectation=_expect(past, "column_values_to_be_between", **kwargs), seen=seen, breaks=beyond)
    if item.distinct > _VALUES:
        yield from _middle(past, column, width)


def _bounds(item: ColumnProfile) -> tuple[float, float, str]:
    """Beyond the 0.1 % and 99.9 % quantiles as far as these are from the median, or nearer where they are strays."""
    low, q01, middle, q99, high = (float(value or 0) for value in (item.q001, item.q01, item.q50, item.q99, item.q999))
    seen = f"{_short(item.min_number)} to {_short(item.max_number)}, 99.8 % within {_short(low)} and {_short(high)}"
    width = max(high - middle, middle - low)
    if q99 > middle and high - middle > _TAIL * (q99 - middle):
        seen += f"; beyond the 99 % quantile {_short(q99)} there is a tail of strays"
        high, width = q99, 3 * (q99 - middle)
    if q01 < middle and middle - low > _TAIL * (middle - q01):
        seen += f"; below the 1 % quantile {_short(q01)} there is a tail of strays"
        low, width = q01, max(3 * (middle - q01), width if high > q99 else 0.0)
    width = width or abs(middle)
    if width == 0:
        return low, high, seen
    return outward(low - width, width, -1), outward(high + width, width, 1), seen


def _middle(past: Past, column: str, width: float) -> Iterator[Proposal]:
    """Mean of a partition, or its median where single strays move the mean."""
    item = past.pooled.columns[column]
    strays = max((item.max_number or 0.0) - (item.q999 or 0.0), (item.q001 or 0.0) - (item.min_number or 0.0))
    way = "median" if strays > _TAIL * width else "mean"
    values = [part.q50 if way == "median" else part.mean for part in past.of(column)]
    seen = [value for value in values if value is not None]
    spread = max(max(seen) - min(seen), 0.1 * max(abs(value) for value in seen))
    if spread > 0:
        bounds = {
            "min_value": plain(outward(min(seen) - spread, spread, -1)),
            "max_value": plain(outward(max(seen) + spread, spread, 1)),
        }
        spec = _expect(past, f"column_{way}_to_be_between", "warn", column=column, **bounds)
        told = f"{way} of a partition {_short(min(seen))} to {_short(max(seen))}"
        yield Proposal(expectation=spec, seen=told + ("; single strays move the mean" if way == "median" else ""))


def _text(past: Past, column: str) -> Iterator[Proposal]:
    item, name = past.pooled.columns[column], quoted(column)
    present = _present(past, column)
    if present < _FEW_ROWS or item.max_length is None or item.min_length is None:
        return
    if item.pattern:
        beyond = f"NOT regexp_matches({name}, {text(item.pattern)})"
        if past.count([beyond])[0] <= (1 - NEARLY_ALL) * present:
            spec = _expect(past, "column_values_to_match_regex", column=column, regex=item.pattern)
            seen = f"{item.distinct:,} values, lengths {item.min_length} to {item.max_length}"
            yield Proposal(expectation=spec, seen=seen, breaks=beyond)
            return
    low, high = int(item.min_length > 0), 2 * item.max_length
    spec = _expect(past, "column_value_lengths_to_be_between", column=column, min_value=low, max_value=high)
    yield Proposal(
        expectation=spec,
        seen=f"{item.distinct:,} values, lengths {item.min_length} to {item.max_length}",
        breaks=f"length({name}) NOT BETWEEN {low} AND {high}",
    )


def _unique(past: Past, column: str) -> Iterator[Proposal]:
    each = past.of(column)
    named = past.pooled.columns[column].kind in ("integer", "text", "other")
    enough = named and _present(past, column) >= _FEW_ROWS
    if enough and all(item.distinct_exact and item.distinct == item.rows - item.nulls for item in each):
        spec = _expect(past, "column_values_to_be_unique", column=column)
        yield Proposal(expectation=spec, seen=f"no value twice in a partition, {past.rows:,} rows")


def _key(past: Past, key: list[str]) -> Iterator[Proposal]:
    if len(key) < 2 or not set(key) <= set(past.pooled.columns):
        return
    names = ", ".join(quoted(name) for name in key)
    doubled = past.connection.execute(
        f'SELECT count(*) FROM (SELECT 1 FROM past GROUP BY "partition#", {names} HAVING count(*) > 1)'
    ).fetchone()[0]
    if doubled == 0:
        spec = _expect(past, "compound_columns_to_be_unique", column_list=key)
        yield Proposal(expectation=spec, seen=f"the key stands once in a partition, {past.rows:,} rows")


def _pairs(past: Past) -> Iterator[Proposal]:
    names = past.told("timestamp")
    for one, other in itertools.combinations(names, 2):
        a, b = quoted(one), quoted(other)
        before, equal, after = past.count([f"{a} < {b}", f"{a} = {b}", f"{a} > {b}"])
        both = before + equal + after
        if both < _FEW_ROWS:
            continue
        for earlier, later, strict in ((one, other, before), (other, one, after)):
            if strict + equal < NEARLY_ALL * both:
                continue
            or_equal = strict < NEARLY_ALL * both
            kwargs: dict[str, Any] = {"column_A": later, "column_B": earlier}
            kwargs |= {"or_equal": True} if or_equal else {}
            kwargs |= {"ignore_row_if": "either_value_is_missing"}
            yield Proposal(
                expectation=_expect(past, "column_pair_values_a_to_be_greater_than_b", **kwargs),
                seen=f"{earlier} lies before {later} in {strict:,} of {both:,} rows, they are equal in {equal:,}",
                breaks=f"{quoted(later)} {'<' if or_equal else '<='} {quoted(earlier)}",
            )
            break


def _in_partition(past: Past, column: str) -> Proposal:
    bounds: dict[str, Any] = {"min_value": {PARAMETER: PARTITION_START}, "max_value": {PARAMETER: PARTITION_END}}
    return Proposal(
        expectation=_expect(past, "column_values_to_be_between", column=column, **bounds, strict_max=True),
        seen="the instants of a partition lie in it",
        breaks=_outside(column),
    )


def _outside(column: str) -> str:
    return f"{quoted(column)} < {quoted(START)} OR {quoted(column)} >= {quoted(END)}"


def _short(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
