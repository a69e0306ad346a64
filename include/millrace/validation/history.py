"""A partition held against those before it: measures become expectations whose bounds the earlier profiles give."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta

from millrace.artifact import iso
from millrace.partition import Partition
from millrace.spec.contract import ExpectationSpec, HistorySpec
from millrace.validation.profile import ColumnProfile, PartitionProfile

NOTHING_EARLIER = "no earlier partition to compare with"
_DIGITS = 9
_TYPES = {
    "row_count": "expect_table_row_count_to_be_between",
    "null_share": "expect_column_proportion_of_non_null_values_to_be_between",
    "mean": "expect_column_mean_to_be_between",
    "distinct_count": "expect_column_unique_value_count_to_be_between",
    "freshness": "expect_column_max_to_be_between",
}


def history_expectations(
    specs: Sequence[HistorySpec], profiles: Sequence[PartitionProfile], partition: Partition | None
) -> tuple[list[ExpectationSpec], list[str]]:
    """The expectations that a partition must meet to be like those before it.

    The yardstick is the median of the last partitions that have the measure. Where both a relative and an absolute
    change are allowed, the narrower of the two holds. Bounds are rounded outward.

    Args:
        specs: what is compared, and how far it may move.
        profiles: statistics of earlier partitions, the oldest first; more than a spec asks for do no harm.
        partition: the one to judge; None for a static source.

    Returns:
        Expectations, each with the spec's name and `on_failure`, and a note for each spec that cannot be judged.
    """
    found: list[ExpectationSpec] = []
    notes: list[str] = []
    for spec in specs:
        bounds = _freshness(spec, partition) if spec.measure == "freshness" else _change(spec, profiles)
        if isinstance(bounds, str):
            notes.append(f"{spec.name}: {bounds}")
            continue
        kwargs = {"column": spec.column, **bounds} if spec.column else dict(bounds)
        found.append(
            ExpectationSpec(type=_TYPES[spec.measure], kwargs=kwargs, on_failure=spec.on_failure, id=spec.name)
        )
    return found, notes


def earlier_partitions(specs: Sequence[HistorySpec]) -> int:
    """How many earlier partitions the specs look back on."""
    return max((item.last for item in specs if item.measure != "freshness"), default=0)


def measure_of(spec: HistorySpec, profile: PartitionProfile, end: datetime | None = None) -> float | None:
    """What a spec measures, in a profile; None where the profile does not have it.

    Args:
        spec: what is measured.
        profile: statistics of a partition.
        end: end of that partition, which freshness is counted from.
    """
    if spec.measure == "row_count":
        return float(profile.rows)
    column = profile.columns.get(str(spec.column))
    if column is None:
        return None
    if spec.measure == "freshness":
        newest = column.max_number if column.kind == "timestamp" else None
        return None if newest is None or end is None else (end.timestamp() - newest) / 3600
    return _column_measure(spec, column)


def explain_change(
    spec: HistorySpec,
    profiles: Sequence[PartitionProfile],
    current: PartitionProfile,
    partition: Partition | None = None,
) -> str:
    """What changed, in words: `null share of congestion_surcharge 0.63, was 1.00 in the last 3 partitions`.

    Args:
        spec: what is compared.
        profiles: statistics of the partitions before.
        current: statistics of the partition judged.
        partition: that partition; freshness is told with it.
    """
    what = spec.measure.replace("_", " ") + (f" of {spec.column}" if spec.column else "")
    now = measure_of(spec, current, partition.end if partition else None)
    if spec.measure == "freshness":
        seen = "no value at all" if now is None else f"the newest value is {_number(now)} hours older than its end"
        return f"{what}: {seen}, {_number(spec.max_hours or 0)} are allowed"
    earlier = _earlier(spec, profiles)
    if not earlier:
        return f"{what} {_told(spec, now)}; {NOTHING_EARLIER}"
    told = [_told(spec, value) for value in earlier]
    span = "the partition before" if len(told) == 1 else f"the last {len(told)} partitions"
    if len(set(told)) == 1:
        return f"{what} {_told(spec, now)}, was {told[0]} in {span}"
    median = _told(spec, statistics.median(earlier))
    return f"{what} {_told(spec, now)}, was {median} in the middle of {span} ({', '.join(told)})"


def _column_measure(spec: HistorySpec, column: ColumnProfile) -> float | None:
    match spec.measure:
        case "null_share":
            return column.null_share
        case "mean":
            return column.mean
        case _:
            return float(column.distinct)


def _earlier(spec: HistorySpec, profiles: Sequence[PartitionProfile]) -> list[float]:
    values = [measure_of(spec, profile) for profile in profiles[-spec.last :]]
    return [value for value in values if value is not None]


def _change(spec: HistorySpec, profiles: Sequence[PartitionProfile]) -> dict[str, float] | str:
    earlier = _earlier(spec, profiles)
    if not earlier:
        return NOTHING_EARLIER + (f" that has column {spec.column!r}" if profiles and spec.column else "")
    yardstick = statistics.median(earlier)
    allowed = [spec.max_absolute_change] if spec.max_absolute_change is not None else []
    if spec.max_relative_change is not None:
        allowed.append(spec.max_relative_change * abs(yardstick))
    low, high = yardstick - min(allowed), yardstick + min(allowed)
    if spec.measure in ("row_count", "distinct_count"):
        return {"min_value": max(0, math.floor(low)), "max_value": math.ceil(high)}
    if spec.measure == "null_share":
        return {"min_value": max(0.0, _outward(1 - high, -1)), "max_value": min(1.0, _outward(1 - low, 1))}
    return {"min_value": _outward(low, -1), "max_value": _outward(high, 1)}


def _freshness(spec: HistorySpec, partition: Partition | None) -> dict[str, str] | str:
    if partition is None:
        return "a static source has no end to be fresh at"
    return {"min_value": iso(partition.end - timedelta(hours=spec.max_hours or 0))}


def _outward(value: float, direction: int) -> float:
    """To nine significant digits, away from the yardstick: a mean that did not move must not fail by its last bit."""
    if value == 0 or not math.isfinite(value):
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - _DIGITS + 1)
    steps = math.floor(value / step) if direction < 0 else math.ceil(value / step)
    return float(f"{(steps + direction) * step:.{_DIGITS}g}")


def _told(spec: HistorySpec, value: float | None) -> str:
    if value is None:
        return "without a value"
    return f"{value:.2f}" if spec.measure == "null_share" else _number(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"
