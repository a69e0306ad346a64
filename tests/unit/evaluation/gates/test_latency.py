"""How long a package may take."""

from __future__ import annotations

import pytest

from millrace.errors import SpecError
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Latency
from millrace.evaluation.gate import load_gates
from millrace.evaluation.gates.latency import GATE as LATENCY
from millrace.spec import GateSpec, PolicySpec, UseCaseSpec

MEASURED = Latency(rows=1000, load=800, one_median=0.5, one_p99=2, batch=9)


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("max_one_ms", 0.4, "One row takes 0.5 ms, 0.4 ms are allowed."),
        ("max_p99_ms", 1, "One row, in 99 of 100 cases, takes 2 ms"),
        ("max_batch_ms", 8, "A batch of 1,000 rows takes 9 ms"),
        ("max_load_ms", 100, "Loading takes 800 ms"),
    ],
)
def test_each_limit_is_held(evidence: Evidence, limit: str, value: float, says: str) -> None:
    measured = evidence.model_copy(update={"latency": MEASURED})
    answer = LATENCY.model_validate({limit: value}).answer(measured)
    assert answer.outcome == "fail"
    assert says in answer.sentence
    assert LATENCY.model_validate({limit: 1000}).answer(measured).outcome == "pass"


def test_what_was_not_measured_is_no_pass(evidence: Evidence) -> None:
    answer = LATENCY(max_one_ms=1).answer(evidence.model_copy(update={"latency": None}))
    assert answer.outcome == "insufficient_data"


def test_a_gate_without_a_limit_is_a_fault_of_the_spec(policy: PolicySpec, use_case: UseCaseSpec) -> None:
    own = use_case.model_copy(update={"gates": [GateSpec.model_validate({"kind": "latency", "id": "own"})]})
    with pytest.raises(SpecError, match=r"it has no limit"):
        load_gates(policy, own)
