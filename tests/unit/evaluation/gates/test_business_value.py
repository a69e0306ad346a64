"""The floor in money: the bound decides, and without money or days there is no answer."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.errors import SpecError
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import BusinessValue, Estimate
from millrace.evaluation.gate import check_policy, load_gates
from millrace.evaluation.gates.business_value import BusinessValueFloor
from millrace.spec import GateSpec, PolicySpec, UseCaseSpec


def worth(evidence: Evidence, per_row: tuple[float, float], gain: tuple[float, float], *, champion: bool) -> Evidence:
    """The bundle with money; each figure with its lower bound."""

    def figure(pair: tuple[float, float]) -> Estimate:
        return Estimate(value=pair[0], low=pair[1], high=2 * pair[0] - pair[1])

    value = BusinessValue(
        currency="EUR",
        rows=1000,
        total=1000 * per_row[0],
        per_row=figure(per_row),
        champion=Estimate(value=0.1) if champion else None,
        baseline=Estimate(value=0.0),
        gain=figure(gain),
    )
    return evidence.model_copy(update={"value": value})


@pytest.mark.parametrize(
    ("gate", "outcome"),
    [
        ({"at_least": 0.9}, "pass"),
        ({"at_least": 0.91}, "fail"),
        ({"at_least": 0.0, "min_gain": 0.05}, "pass"),
        ({"at_least": 0.0, "min_gain": 0.06}, "fail"),
        ({"at_least": 2.0, "min_gain": 0.0}, "fail"),
        ({"at_least": -5}, "pass"),
    ],
)
def test_the_lower_bounds_are_held_against_the_floors(evidence: Evidence, gate: dict[str, Any], outcome: str) -> None:
    answer = BusinessValueFloor(**gate).answer(worth(evidence, (1.0, 0.9), (0.1, 0.05), champion=True))
    assert answer.outcome == outcome
    assert answer.numbers["worth_low"] == 0.9
    assert answer.sentence.startswith("A row is worth 1 EUR (at least 0.9 with 95 % certainty)")
    assert ("over the champion it gains 0.1 EUR" in answer.sentence) == ("min_gain" in gate)


def test_without_a_champion_the_gain_is_over_the_best_single_answer(evidence: Evidence) -> None:
    answer = BusinessValueFloor(at_least=0, min_gain=0).answer(worth(evidence, (1, 0.9), (0.1, 0.05), champion=False))
    assert "over the best single answer to all rows it gains" in answer.sentence


def test_money_that_was_not_measured_or_has_no_bounds_is_no_pass(evidence: Evidence) -> None:
    gate = BusinessValueFloor(at_least=0, min_gain=0)
    assert gate.answer(evidence).outcome == "insufficient_data"
    known = worth(evidence, (1, 0.9), (0.1, 0.05), champion=True)
    assert known.value is not None
    for name in ("per_row", "gain"):
        bare = known.value.model_copy(update={name: Estimate(value=1.0)})
        assert gate.answer(known.model_copy(update={"value": bare})).outcome == "insufficient_data"


def test_a_use_case_that_asks_for_it_must_say_what_decisions_are_worth(use_case: UseCaseSpec) -> None:
    asked = GateSpec(kind="business_value", args={"at_least": 1})
    policy = PolicySpec(tier="low", description="", gates={"all": [asked]})
    without = use_case.model_copy(update={"evaluation": use_case.evaluation.model_copy(update={"value": None})})
    (fault,) = check_policy(policy, without)
    assert all(word in fault for word in ("evaluation.value", "policies/low.yaml: gates.all.0", "remedy"))
    with pytest.raises(SpecError, match=r"evaluation\.value"):
        load_gates(policy, without)
    nothing = PolicySpec(tier="low", description="", gates={"all": [GateSpec(kind="business_value")]})
    assert "needs the argument 'at_least'" in check_policy(nothing, use_case)[0]
