from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from millrace.partition import Partition
from millrace.spec.contract import HistorySpec
from millrace.validation.history import (
    NOTHING_EARLIER,
    earlier_partitions,
    explain_change,
    history_expectations,
    measure_of,
)
from millrace.validation.profile import ColumnProfile, PartitionProfile

MARCH = Partition("2020-03", "month", "America/New_York")


def profile(key: str = "2020-01", **columns: Any) -> PartitionProfile:
    values = {"rows": 100, "nulls": 0, "distinct": 10, "kind": "number"}
    found = {name: ColumnProfile(column=name, **{**values, **given}) for name, given in columns.items()}
    return PartitionProfile(partition=key, columns=found)


def spec(measure: str, column: str | None = "c", **given: Any) -> HistorySpec:
    return HistorySpec.model_validate({"measure": measure, "column": column, **given})


def bounds(item: HistorySpec, *profiles: PartitionProfile) -> tuple[str, Any, Any]:
    (found,), notes = history_expectations([item], profiles, MARCH)
    assert notes == []
    assert (found.name, found.on_failure) == (item.name, item.on_failure)
    return found.type, found.kwargs.get("min_value"), found.kwargs.get("max_value")


def test_without_an_earlier_partition_there_is_a_note_and_never_a_silent_pass() -> None:
    found, notes = history_expectations([spec("row_count", None, max_relative_change=0.1)], [], MARCH)
    assert found == []
    assert notes == [f"history.row_count: {NOTHING_EARLIER}"]


def test_a_column_no_earlier_partition_had_is_a_note() -> None:
    found, notes = history_expectations([spec("mean", "new", max_relative_change=0.1)], [profile(c={})], MARCH)
    assert found == []
    assert notes == [f"history.mean.new: {NOTHING_EARLIER} that has column 'new'"]


def test_the_yardstick_is_the_median_of_the_last_partitions() -> None:
    counts = [profile(c={"rows": rows}) for rows in (1, 100, 104, 5000)]
    item = spec("row_count", None, max_relative_change=0.1, last=3)
    assert bounds(item, *counts) == ("expect_table_row_count_to_be_between", 93, 115)


def test_of_a_relative_and_an_absolute_change_the_narrower_holds() -> None:
    item = spec("distinct_count", max_relative_change=0.5, max_absolute_change=2)
    assert bounds(item, profile(c={"distinct": 40}))[1:] == (38, 42)


def test_null_share_has_a_bound_on_both_sides() -> None:
    item = spec("null_share", max_absolute_change=0.1)
    kind, low, high = bounds(item, profile(c={"nulls": 50}))
    assert kind == "expect_column_proportion_of_non_null_values_to_be_between"
    assert (low, high) == pytest.approx((0.4, 0.6))
    assert low < 0.4 < 0.6 < high
    assert bounds(item, profile(c={"nulls": 100}))[1:] == pytest.approx((0.0, 0.1))
    assert bounds(item, profile(c={"nulls": 0}))[1:] == pytest.approx((0.9, 1.0))


def test_freshness_counts_from_the_end_of_the_partition_and_needs_no_earlier_one() -> None:
    item = spec("freshness", max_hours=6)
    assert bounds(item) == ("expect_column_max_to_be_between", "2020-03-31T22:00:00Z", None)
    assert history_expectations([item], [], None) == (
        [],
        ["history.freshness.c: a static source has no end to be fresh at"],
    )


def test_how_far_back_the_specs_look() -> None:
    assert earlier_partitions([spec("row_count", None, max_relative_change=1, last=7)]) == 7
    assert earlier_partitions([spec("freshness", max_hours=1, last=9)]) == 0
    assert earlier_partitions([]) == 0


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-6),
    st.floats(0, 2),
    st.floats(-1, 1),
)
def test_what_moves_within_the_allowed_change_is_within_the_bounds(mean: float, change: float, moved: float) -> None:
    _, low, high = bounds(spec("mean", max_relative_change=change), profile(c={"mean": mean}))
    assert low <= mean + moved * change * abs(mean) <= high
    far = 1.001 * change * abs(mean) + 1e-6 * abs(mean) + 1e-9
    assume(mean != 0)
    assert not low <= mean + far <= high
    assert not low <= mean - far <= high


def test_a_change_is_told_in_words() -> None:
    item = spec("null_share", "surcharge", max_absolute_change=0.1)
    always = [profile(surcharge={"nulls": 100})] * 3
    now = profile(surcharge={"nulls": 63})
    assert explain_change(item, always, now) == "null share of surcharge 0.63, was 1.00 in the last 3 partitions"
    assert explain_change(item, always[:1], now) == "null share of surcharge 0.63, was 1.00 in the partition before"
    moving = [profile(surcharge={"nulls": nulls}) for nulls in (99, 97, 98)]
    assert explain_change(item, moving, now) == (
        "null share of surcharge 0.63, was 0.98 in the middle of the last 3 partitions (0.99, 0.97, 0.98)"
    )
    assert explain_change(item, [], now) == f"null share of surcharge 0.63; {NOTHING_EARLIER}"


def test_other_measures_are_told_in_words() -> None:
    rows = spec("row_count", None, max_relative_change=0.1)
    assert explain_change(rows, [profile(c={"rows": 12_000})], profile(c={"rows": 900})) == (
        "row count 900, was 12,000 in the partition before"
    )
    mean = spec("mean", max_relative_change=0.1)
    assert explain_change(mean, [profile(c={"mean": 1.23456})], profile(c={"mean": None})) == (
        "mean of c without a value, was 1.235 in the partition before"
    )
    fresh = spec("freshness", max_hours=6)
    newest = {"kind": "timestamp", "max_number": MARCH.end.timestamp() - 30 * 3600}
    assert explain_change(fresh, [], profile(c=newest), MARCH) == (
        "freshness of c: the newest value is 30 hours older than its end, 6 are allowed"
    )
    assert measure_of(fresh, profile(c=newest)) is None


def test_great_expectations_takes_what_is_compiled() -> None:
    from millrace.validation.gx_validator import build_expectation

    specs = [
        spec("row_count", None, max_relative_change=0.1),
        spec("null_share", max_absolute_change=0.1),
        spec("mean", max_relative_change=0.1),
        spec("distinct_count", max_relative_change=0.1),
        spec("freshness", max_hours=1),
    ]
    found, notes = history_expectations(specs, [profile(c={"mean": 1.5})], MARCH)
    assert notes == []
    assert [item.name for item in found] == [item.name for item in specs]
    for item in found:
        build_expectation(item, ["c"])
