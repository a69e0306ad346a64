"""Groups compared: figures are fairlearn's, and the sums by day give what fairlearn gives on resampled rows."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fairlearn.metrics import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    equalized_odds_ratio,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.evaluation.audit_finding import FairnessScore
from millrace.evaluation.block import DayBlocks
from millrace.evaluation.card_audit import fairness_text
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.fairness import Decision, GroupSize, decisions, measure_fairness, score_fairness
from millrace.evaluation.finding import Estimate
from millrace.evaluation.gates.fairness import Fairness
from millrace.evaluation.holdout import make_holdout
from millrace.evaluation.score import estimate
from millrace.settings import Settings
from millrace.spec import UseCaseSpec, load_domain

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
        expected = estimate(value, np.array([item[name] for item in rounds]), days=DAYS)
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
def test_where_nobody_or_everybody_is_selected_nothing_is_decided_and_nothing_passes(
    evidence: Evidence, everyone: bool
) -> None:
    of, made, blocks = decision(3)
    same = np.full(len(of), everyone)
    found: FairnessScore = score_fairness("c", of, Decision(decides="d", truth=made.truth, decided=same), blocks, SMALL)
    assert (found.compared, found.demographic_parity, found.equalized_odds) == (3, Estimate(), Estimate())
    for asked in ({"min_demographic_parity": 0.8}, {"min_demographic_parity": 0.0, "min_equalized_odds": 0.7}):
        gate = Fairness.model_validate({"min_rows": 1, "min_of_each": 1, "required": True, **asked})
        answer = gate.answer(evidence.model_copy(update={"fairness": [found]}))
        assert answer.outcome == "insufficient_data"
        assert f"{'everybody' if everyone else 'nobody'} is selected (d)" in answer.sentence
    (told, _) = fairness_text(evidence.model_copy(update={"fairness": [found]}))
    assert f"is said of {'everybody' if everyone else 'nobody'}" in told


def test_a_class_that_is_never_named_is_set_aside_where_another_one_is_judged(evidence: Evidence) -> None:
    of, made, blocks = decision(3)
    named, never = (
        score_fairness("c", of, Decision(decides=told, truth=made.truth, decided=flags), blocks, SMALL)
        for told, flags in (("x is named", made.decided), ("y is named", np.zeros(len(of), bool)))
    )
    gate = Fairness(min_rows=1, min_of_each=1, min_demographic_parity=0.01)
    answer = gate.answer(evidence.model_copy(update={"fairness": [named, never]}))
    assert (answer.outcome, "Set aside: nobody is selected (y is named)" in answer.sentence) == ("pass", True)
    alone = gate.answer(evidence.model_copy(update={"fairness": [never, never]}))
    assert alone.outcome == "insufficient_data"


def test_a_rate_that_is_nought_in_every_group_is_not_compared() -> None:
    of, made, blocks = decision(3)
    decided = made.truth & made.decided
    found = score_fairness("c", of, Decision(decides="d", truth=made.truth, decided=decided), blocks, SMALL)
    assert found.odds_rate == "true"
    assert found.equalized_odds.value is not None
    assert found.equalized_odds.value < 1
    assert found.equalized_odds.low is not None


def test_on_a_single_day_a_ratio_has_no_bounds() -> None:
    of, made, blocks = decision(4)
    one = DayBlocks(of_row=np.zeros(len(of), np.int64), days=blocks.days[:1], draws=np.ones((ROUNDS, 1)))
    found = score_fairness("c", of, made, one, SMALL)
    assert found.demographic_parity.value is not None
    assert (found.demographic_parity.low, found.equalized_odds.low) == (None, None)


def test_codes_are_groups_by_value_and_only_other_numbers_are_cut(use_case: UseCaseSpec, settings: Settings) -> None:
    count = 4000
    columns = {
        "key": [f"{place:05d}" for place in range(count)],
        "event_timestamp": pa.array(
            np.datetime64("2013-03-02", "us") + np.arange(count) * np.timedelta64(5, "m"), pa.timestamp("us", "UTC")
        ),
        "label": np.tile([0.0, 1.0], count // 2),
    }
    codes = {"race_code": np.arange(count) % 20, "income": np.linspace(0, 1, count)}
    evaluation = use_case.evaluation.model_copy(update={"sensitive": list(codes)})
    asked = use_case.model_copy(update={"evaluation": evaluation})
    holdout = make_holdout(
        asked, load_domain(settings.dags, "flights"), pa.table(columns), "2013-03", attributes=pa.table(codes)
    )
    race, income = measure_fairness(asked, holdout, np.linspace(0, 1, count), size=SMALL)
    assert {group.value for group in race.groups} == {str(code) for code in range(20)}
    assert len(income.groups) == 4


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
