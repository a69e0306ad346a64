"""What noise and missing inputs may do to a model."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.errors import SpecError
from millrace.evaluation.audit_finding import StabilityTest
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import load_gates
from millrace.evaluation.gates.stability import Stability
from millrace.spec import GateSpec, PolicySpec, UseCaseSpec


def tried(change: Any, feature: str = "", **more: Any) -> StabilityTest:
    return StabilityTest(change=change, feature=feature, rows=2000, **{"moved": 0.01, "drop": 0.01, **more})


def answer(evidence: Evidence, gate: Stability, *tests: StabilityTest) -> tuple[str, str]:
    found = gate.answer(evidence.model_copy(update={"stability": list(tests)}))
    return found.outcome, found.sentence


@pytest.mark.parametrize(("moved", "outcome"), [(0.05, "pass"), (0.0501, "fail")])
def test_noise_may_move_predictions_up_to_a_limit(evidence: Evidence, moved: float, outcome: str) -> None:
    found, sentence = answer(evidence, Stability(max_moved=0.05), tried("perturbed", moved=moved))
    assert found == outcome
    assert f"{moved:.4f}" in sentence


def test_a_prediction_that_is_no_number_fails_whatever_the_limits(evidence: Evidence) -> None:
    found, sentence = answer(
        evidence, Stability(max_moved=9), tried("perturbed"), tried("missing", "temp", broken=3, drop=None)
    )
    assert (found, sentence) == ("fail", "with temp missing 3 of 2000 predictions are no numbers.")


def test_what_a_missing_feature_costs_is_asked_only_where_a_limit_is_given(evidence: Evidence) -> None:
    tests = tried("perturbed"), tried("missing", "temp", drop=0.2), tried("missing", "dest")
    assert answer(evidence, Stability(), *tests)[0] == "pass"
    found, sentence = answer(evidence, Stability(max_missing_drop=0.1), *tests)
    assert (found, sentence) == ("fail", "temp missing costs 0.2000 of AUC, over 0.1.")
    assert answer(evidence, Stability(max_drop=0.005), *tests)[0] == "fail"


def test_what_was_not_tried_or_cannot_be_measured_is_no_pass(evidence: Evidence) -> None:
    assert answer(evidence, Stability())[0] == "insufficient_data"
    undefined = tried("perturbed", drop=None)
    assert answer(evidence, Stability(), undefined)[0] == "pass"
    assert answer(evidence, Stability(max_drop=0.1), undefined)[0] == "insufficient_data"


def test_a_model_without_numbers_is_judged_by_what_goes_missing(evidence: Evidence) -> None:
    found, sentence = answer(evidence, Stability(max_drop=0.1), tried("missing", "dest"))
    assert found == "pass"
    assert "no numbers" in sentence


def test_a_limit_that_the_metric_can_never_reach_is_a_fault_of_the_spec(
    policy: PolicySpec, use_case: UseCaseSpec
) -> None:
    own = use_case.model_copy(
        update={"gates": [GateSpec.model_validate({"kind": "stability", "id": "own", "args": {"max_drop": 2}})]}
    )
    with pytest.raises(SpecError, match=r"max_drop is over 1"):
        load_gates(policy, own)
