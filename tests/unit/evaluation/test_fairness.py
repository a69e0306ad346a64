"""Groups compared: figures are fairlearn's, and the sums by day give what fairlearn gives on resampled rows."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    equalized_odds_ratio,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.evaluation.block import DayBlocks
from millrace.evaluation.fairness import Decision, GroupSize, decisions, score_fairness
from millrace.evaluation.finding import Estimate, FairnessScore
from millrace.evaluation.score import estimate
from millrace.spec import UseCaseSpec

DAYS = 6
ROUNDS = 3
SMALL = GroupSize(min_rows=1, min_of_each=1)


def decision(seed: int, *, rows: int = 240, groups: int = 3) -> tuple[np.ndarray, Decision, DayBlocks]:
    generator = np.random.default_rng(seed)
    of = np.array(["a", "b", "c"])[generator.integers(0, groups, rows)]
    truth, decided = generator.random(rows) < 0.4, generator.random(rows) < np.where(of == "a", 0.3, 0.6)
    draws = generator.multinomial(DAYS, np.full(DAYS, 1 / DAYS), size=ROUNDS).astype(np.float64)
    days = [date(2013, 3, 1) + timedelta(days=number) for number in range(DAYS)]
    blocks = DayBlocks(of_row=np.arange(rows) % DAYS, days=days, draws=draws)
    return of, Decision(decides="d", truth=truth, decided=decided), blocks


def by_fairlearn(of: np.ndarray, made: Decision, rows: np.ndarray) -> dict[str, float]:
    arguments: dict[str, Any] = {"y_true": made.truth[rows].astype(int), "y_pred": made.decided[rows].astype(int)}
    return {
        name: float(function(**arguments, sensitive_features=of[rows]))
        for name, function in (
            ("demographic_parity", demographic_parity_ratio),
            ("demographic_parity_difference", demographic_parity_difference),
            ("equalized_odds", equalized_odds_ratio),
            ("equalized_odds_difference", equalized_odds_difference),
        )
    }


@given(st.integers(0, 10_000))
@settings(max_examples=3, deadline=None)
def test_figures_and_intervals_are_those_of_fairlearn_on_the_rows_of_each_round(seed: int) -> None:
    of, made, blocks = decision(seed)
    found = score_fairness("c", of, made, blocks, SMALL)
    whole = by_fairlearn(of, made, np.arange(len(of)))
    rounds = [
        by_fairlearn(of, made, np.repeat(np.arange(len(of)), draw[blocks.of_row].astype(int))) for draw in blocks.draws
    ]
    for name, value in whole.items():
        expected = estimate(value, np.array([item[name] for item in rounds]))
        got: Estimate = getattr(found, name)
        assert got.value == pytest.approx(value)
        assert (got.low, got.high) == pytest.approx((expected.low, expected.high))
    shares = {group.value: group.selected for group in found.groups}
    assert shares[found.least] == min(shares.values())
    assert shares[found.greatest] == max(shares.values())


def test_small_groups_are_shown_and_not_compared() -> None:
    of, made, blocks = decision(1)
    of = np.where(np.arange(len(of)) < 5, "tiny", of)
    size = GroupSize(min_rows=20, min_of_each=5)
    found = score_fairness("c", of, made, blocks, size)
    assert [group.value for group in found.groups] == ["a", "b", "c", "tiny"]
    assert (found.compared, found.odds_compared) == (3, 3)
    rest = np.flatnonzero(of != "tiny")
    assert found.demographic_parity.value == pytest.approx(by_fairlearn(of, made, rest)["demographic_parity"])
    alone = score_fairness("c", of, made, blocks, GroupSize(min_rows=200, min_of_each=5))
    assert (alone.compared, alone.demographic_parity, alone.least) == (0, Estimate(), "")


def test_a_group_without_both_outcomes_has_no_rates_to_compare() -> None:
    of, made, blocks = decision(2)
    truth = made.truth & (of != "a")
    found = score_fairness("c", of, Decision(decides="d", truth=truth, decided=made.decided), blocks, SMALL)
    first = found.groups[0]
    assert (first.true_positive_rate, first.false_positive_rate is None) == (None, False)
    assert (found.compared, found.odds_compared) == (3, 2)
    assert "a" not in {found.odds_least, found.odds_greatest}


@pytest.mark.parametrize("everyone", [True, False])
def test_who_treats_everyone_the_same_is_alike_even_where_nobody_is_selected(everyone: bool) -> None:
    of, made, blocks = decision(3)
    same = np.full(len(of), everyone)
    found: FairnessScore = score_fairness("c", of, Decision(decides="d", truth=made.truth, decided=same), blocks, SMALL)
    whole = Estimate(value=1.0, low=1.0, high=1.0)
    assert (found.demographic_parity, found.equalized_odds) == (whole, whole)
    assert found.demographic_parity_difference.value == 0


def test_what_counts_as_decided_depends_on_the_problem(use_case: UseCaseSpec) -> None:
    label, probability = np.array([0.0, 1.0, 1.0]), np.array([0.5, 0.49, 0.9])
    (binary,) = decisions(use_case, label, probability)
    assert (binary.decides, binary.decided.tolist()) == ("a probability of 0.5 or more", [True, False, True])
    assert decisions(use_case, label, probability, threshold=0.4)[0].decided.all()
    number = use_case.model_copy(update={"problem": "regression"})
    (above,) = decisions(number, np.array([10.0, 20.0, 30.0]), np.array([25.0, 20.0, 5.0]))
    assert "above 20" in above.decides
    assert (above.truth.tolist(), above.decided.tolist()) == ([False, False, True], [True, False, False])
    several = use_case.model_copy(update={"problem": "multiclass", "classes": ["x", "y", "z"]})
    each = decisions(several, np.array([0.0, 2.0]), np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]))
    assert [item.decides[0] for item in each] == ["x", "y", "z"]
    assert [item.decided.tolist() for item in each] == [[True, False], [False, True], [False, False]]
    assert each[2].truth.tolist() == [False, True]
