"""The interval of a paired gain: Student's t over days."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from scipy import stats

from millrace.evaluation.block import DayBlocks
from millrace.evaluation.bootstrap import resample_mean
from millrace.evaluation.score import estimate, paired, score


def blocks(days: int, rounds: int) -> DayBlocks:
    draws = np.random.default_rng(2).multinomial(days, np.full(days, 1 / days), size=rounds).astype(np.float64)
    return DayBlocks(of_row=np.arange(days), days=[date.min] * days, draws=draws)


@pytest.mark.parametrize("days", [5, 31])
def test_with_one_row_a_day_it_is_the_t_interval_of_a_mean(days: int) -> None:
    values = np.random.default_rng(1).normal(0.1, 1, days)
    found = paired(float(values.mean()), resample_mean(values, blocks(days, 20_000)), days=days)
    low, high = stats.t.interval(0.95, days - 1, values.mean(), values.std(ddof=1) / days**0.5)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def test_a_single_day_and_undefined_rounds_give_no_interval() -> None:
    assert paired(0.3, np.full(50, 0.3), days=1).low is None
    assert paired(0.3, np.full(50, np.nan), days=9).low is None
    assert estimate(0.3, np.full(50, 0.3), days=1).low is None
    label, prediction = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.1, 0.8, 0.4, 0.3])
    one = DayBlocks(of_row=np.zeros(4, np.int64), days=[date.min], draws=np.ones((50, 1)))
    found = score("binary", label, prediction, one).estimates()
    assert {item.low for item in found.values()} == {None}
    assert paired(np.nan, np.zeros(50), days=9).value is None
