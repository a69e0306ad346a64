"""The gate on groups: which it compares, which it names, and what it asks of the use case."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.errors import SpecError
from millrace.evaluation.audit_finding import FairnessScore
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import check_policy, load_gates
from millrace.evaluation.gates.fairness import Fairness
from millrace.spec import GateSpec, PolicySpec, UseCaseSpec


def score(column: str = "sex", **changes: Any) -> FairnessScore:
    return FairnessScore.model_validate(
        {
            "column": column,
            "decides": "a probability of 0.5 or more",
            "min_rows": 100,
            "min_of_each": 20,
            "compared": 2,
            "odds_compared": 2,
            "demographic_parity": {"value": 0.3, "low": 0.26, "high": 0.34},
            "equalized_odds": {"value": 0.7, "low": 0.6, "high": 0.8},
            "least": "Female",
            "greatest": "Male",
            "odds_rate": "false",
            "odds_least": "Female",
            "odds_greatest": "Male",
            "groups": [
                {"value": "Female", "rows": 900, "mean_label": 0.1, "selected": 0.09, "false_positive_rate": 0.021},
                {"value": "Male", "rows": 2100, "mean_label": 0.3, "selected": 0.30, "false_positive_rate": 0.03},
                {"value": "Other", "rows": 7, "mean_label": 0.5, "selected": 1.0},
            ],
            **changes,
        }
    )


def given(evidence: Evidence, *scores: FairnessScore) -> Evidence:
    return evidence.model_copy(update={"fairness": list(scores)})


def test_the_group_and_the_ratio_are_named_where_one_is_selected_too_seldom(evidence: Evidence) -> None:
    answer = Fairness().answer(given(evidence, score()))
    assert answer.outcome == "fail"
    for word in ("sex Female", "9.0%", "Male", "30.0%", "demographic parity 0.30 (0.26 to 0.34)", "0.8 is asked for"):
        assert word in answer.sentence
    assert "Too few rows to compare: sex Other" in answer.sentence
    assert answer.numbers["demographic_parity"] == 0.3


def test_unequal_odds_fail_alone_and_name_their_rate(evidence: Evidence) -> None:
    answer = Fairness(min_demographic_parity=0.2, min_equalized_odds=0.8).answer(given(evidence, score()))
    assert answer.outcome == "fail"
    assert "false positive rate of sex Female is 2.1%, of Male 3.0%: equalized odds 0.70" in answer.sentence
    assert "is selected in" not in answer.sentence
    assert (
        Fairness(min_demographic_parity=0.3, min_equalized_odds=0.7).answer(given(evidence, score())).outcome == "pass"
    )


def test_a_column_whose_groups_cannot_be_compared_is_no_pass(evidence: Evidence) -> None:
    few = score(compared=1, odds_compared=1, demographic_parity={}, equalized_odds={}, least="", greatest="")
    answer = Fairness().answer(given(evidence, few))
    assert answer.outcome == "insufficient_data"
    assert "fewer than two groups of sex have 100 rows" in answer.sentence
    rare = score(odds_compared=1, demographic_parity={"value": 0.9}, equalized_odds={}, odds_rate="")
    assert Fairness().answer(given(evidence, rare)).outcome == "pass"
    answer = Fairness(min_equalized_odds=0.5).answer(given(evidence, rare))
    assert (answer.outcome, "20 of each outcome" in answer.sentence) == ("insufficient_data", True)
    assert Fairness().answer(given(evidence, few, score("race"))).outcome == "fail"


def test_only_the_columns_asked_for_are_judged_and_each_must_have_been_measured(evidence: Evidence) -> None:
    fair = score("race", demographic_parity={"value": 0.95})
    assert Fairness(columns=["race"]).answer(given(evidence, score(), fair)).outcome == "pass"
    answer = Fairness(columns=["age"]).answer(given(evidence, score(), fair))
    assert (answer.outcome, "age" in answer.sentence) == ("insufficient_data", True)


def test_groups_compared_at_other_sizes_than_asked_for_prove_nothing(evidence: Evidence) -> None:
    answer = Fairness(min_rows=50).answer(given(evidence, score(demographic_parity={"value": 1.0})))
    assert answer.outcome == "insufficient_data"


def test_no_sensitive_column_passes_only_where_none_is_required(evidence: Evidence) -> None:
    answer = Fairness().answer(evidence)
    assert (answer.outcome, "declares no sensitive column" in answer.sentence) == ("pass", True)
    assert Fairness(required=True).answer(evidence).outcome == "insufficient_data"


def sensitive(use_case: UseCaseSpec, *columns: str) -> UseCaseSpec:
    evaluation = use_case.evaluation.model_copy(update={"sensitive": list(columns)})
    return use_case.model_copy(update={"evaluation": evaluation})


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"required": True}, ["evaluation.sensitive of the use case names no column", "gates.all.0"]),
        ({"columns": ["carrier"]}, ["columns names carrier", "gates.all.0.args"]),
        ({"min_demographic_parity": "most"}, ["min_demographic_parity", "'most'"]),
        ({"min_demographic_parity": 80}, ["min_demographic_parity", "(is 80)"]),
        ({"colums": ["carrier"]}, ["no argument 'colums'", "did you mean 'columns'"]),
    ],
)
def test_a_gate_that_does_not_fit_is_named_with_file_key_and_remedy(
    use_case: UseCaseSpec, args: dict[str, Any], says: list[str]
) -> None:
    policy = PolicySpec(tier="low", description="", gates={"all": [GateSpec(kind="fairness", args=args)]})
    (fault,) = check_policy(policy, use_case)
    for word in (*says, "policies/low.yaml", "remedy"):
        assert word in fault
    with pytest.raises(SpecError):
        load_gates(policy, use_case)


def test_a_use_case_may_ask_for_more_fairness_but_of_groups_of_the_same_size(use_case: UseCaseSpec) -> None:
    policy = PolicySpec(tier="low", description="", gates={"all": [GateSpec(kind="fairness", args={"min_rows": 200})]})
    spec = sensitive(use_case, "carrier")
    for size, faults in ((200, 0), (100, 1)):
        own = GateSpec(kind="fairness", id="stricter", args={"min_demographic_parity": 0.9, "min_rows": size})
        found = check_policy(policy, spec.model_copy(update={"gates": [own]}))
        assert len(found) == faults
    assert "min_rows is 100, another gate of its kind has 200" in found[0]
    assert "use_cases/flight_delay.yaml: gates.0.args.min_rows" in found[0]
