"""Non-inferiority: the lower bound of the paired gain against a margin, on all rows and slice by slice."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Comparison, Estimate, SliceScore
from millrace.evaluation.gates.not_worse_than import NotWorseThan


def part(value: str, rows: int, low: float | None, *, column: str = "origin", known: bool = True) -> SliceScore:
    found = Estimate() if low is None else Estimate(value=low + 0.02, low=low, high=low + 0.04)
    score = Estimate(value=0.7) if known else Estimate()
    return SliceScore(column=column, value=value, rows=rows, mean_label=0.2, score=score, gain=found)


def bundle(evidence: Evidence, *slices: SliceScore, **gain: Any) -> Evidence:
    versus = evidence.versus_champion.model_copy(update={"gain": Estimate(**gain)}) if gain else None
    return evidence.model_copy(update={"slices": list(slices), "versus_champion": versus or evidence.versus_champion})


GATE = NotWorseThan(margin=0.005, slice_margin=0.03, min_rows=500)


@pytest.mark.parametrize(("low", "outcome"), [(-0.0049, "pass"), (-0.005, "fail"), (-0.2, "fail"), (0.1, "pass")])
def test_all_rows_are_held_by_the_lower_bound(evidence: Evidence, low: float, outcome: str) -> None:
    answer = GATE.answer(bundle(evidence, value=low + 0.01, low=low, high=low + 0.02))
    assert answer.outcome == outcome
    assert "AUC gain on all rows" in answer.sentence
    assert f"lower bound {low:+.4f}" in answer.sentence


def test_one_slice_or_crossing_that_may_be_worse_is_enough_to_fail(evidence: Evidence) -> None:
    crossed = part("JFK × AA", 900, -0.031, column="origin × carrier")
    answer = GATE.answer(bundle(evidence, part("EWR", 900, 0.01), crossed, part("LGA", 900, -0.01)))
    assert answer.outcome == "fail"
    assert "origin × carrier JFK × AA" in answer.sentence
    assert answer.numbers["worst_slice_low"] == -0.031
    holds = GATE.answer(bundle(evidence, part("EWR", 900, 0.01), part("LGA", 900, -0.02)))
    assert holds.outcome == "pass"
    assert "the weakest of 2 slices: AUC gain on origin LGA" in holds.sentence


def test_slices_of_few_rows_or_one_class_are_named_and_fail_nothing(evidence: Evidence) -> None:
    one_class = part("JFK", 900, None, known=False)
    answer = GATE.answer(bundle(evidence, part("EWR", 900, 0.0), part("LGA", 499, -0.5), one_class))
    assert answer.outcome == "pass"
    assert "Not judged, for want of rows: origin LGA. Not judged, for want of a class: origin JFK." in answer.sentence
    none = GATE.answer(bundle(evidence, part("LGA", 499, 0.5)))
    assert (none.outcome, "No slice has 500 rows" in none.sentence) == ("insufficient_data", True)


@pytest.mark.parametrize("gain", [None, Estimate(), Estimate(value=0.01)])
def test_a_large_slice_whose_gain_has_no_bounds_is_no_pass(evidence: Evidence, gain: Estimate | None) -> None:
    unsure = part("JFK", 900, None).model_copy(update={"gain": gain})
    answer = GATE.answer(bundle(evidence, part("EWR", 900, 0.0), unsure))
    assert (answer.outcome, "no bounds, for want of days, on origin JFK" in answer.sentence) == (
        "insufficient_data",
        True,
    )
    assert GATE.answer(bundle(evidence, part("EWR", 900, -0.5), unsure)).outcome == "fail"


def test_without_a_champion_it_passes_and_says_so_but_one_that_cannot_be_compared_blocks(evidence: Evidence) -> None:
    free = evidence.model_copy(update={"champion": None, "versus_champion": Comparison(against="champion")})
    answer = GATE.answer(free)
    assert (answer.outcome, "No champion is in force" in answer.sentence) == ("pass", True)
    other = Comparison(against="champion", release=3, reason="release 3 reads other features")
    blocked = GATE.answer(evidence.model_copy(update={"champion": None, "versus_champion": other}))
    assert (blocked.outcome, "other features" in blocked.sentence) == ("insufficient_data", True)


def test_more_failing_slices_than_fit_are_all_named(evidence: Evidence) -> None:
    answer = GATE.answer(bundle(evidence, *(part(f"A{number}", 900, -0.1 - number / 100) for number in range(5))))
    assert answer.outcome == "fail"
    assert "all failing slices: origin A4, origin A3, origin A2, origin A1, origin A0" in answer.sentence
