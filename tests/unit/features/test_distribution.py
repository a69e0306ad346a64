from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.features.distribution import BINS, SAMPLE, measure_distributions


def measure(values: Any, kind: pa.DataType | None = None) -> Any:
    return measure_distributions(pa.table({"x": pa.array(values, kind)}), ["x"])["x"]


def test_numbers_are_binned_between_their_outer_percentiles_and_none_is_lost() -> None:
    found = measure([*map(float, range(1000)), 1e12, None, float("nan")])
    assert (found.rows, len(found.counts), sum(found.counts)) == (1003, BINS, 1001)
    assert 5 <= found.low <= 15
    assert 985 <= found.high <= 995
    assert abs(found.missing - 2 / 1003) < 1e-9
    assert max(found.counts) < 2 * min(found.counts)
    assert len(found.sparkline) == BINS


def test_one_value_alone_is_one_bin_and_no_value_is_none() -> None:
    assert measure([3.0, 3.0]).counts == [2]
    empty = measure([None, None], pa.float64())
    assert (empty.counts, empty.missing, empty.sentence, empty.sparkline) == ([], 1.0, "no values", "")
    assert measure([], pa.float64()).missing == 0.0


def test_categories_are_counted_by_frequency() -> None:
    found = measure(["b", "a", "a", None])
    assert (found.top, found.counts, found.missing) == (["a", "b"], [2, 1], 0.25)
    assert found.sentence == "a, b, 25.0% missing"
    assert measure([True, False, True]).top == ["true", "false"]


def test_instants_are_measured_as_numbers() -> None:
    found = measure([datetime(2013, 1, day, tzinfo=UTC) for day in range(1, 29)], pa.timestamp("us", "UTC"))
    assert sum(found.counts) == 28


def test_infinite_values_count_as_missing_and_break_nothing() -> None:
    assert measure([1.0, float("inf"), float("-inf")]).counts == [1]


def test_a_large_table_is_sampled_the_same_way_every_time() -> None:
    values = np.random.default_rng(7).normal(size=3 * SAMPLE)
    assert measure(values) == measure(values)
    assert measure(values).rows == SAMPLE


def test_a_bin_with_any_value_shows() -> None:
    line = measure([*[0.0] * 5000, *np.linspace(0, 1, 200)]).sparkline
    assert line[0] == "█"
    assert " " not in line
