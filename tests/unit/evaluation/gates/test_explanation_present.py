"""A model that nothing explains is let through by nobody."""

from __future__ import annotations

import pytest

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Contribution, Explanation
from millrace.evaluation.gates.explanation_present import ExplanationPresent


def explained(evidence: Evidence, share: float, *, method: str = "contributions", rows: int = 300) -> Evidence:
    features = [Contribution(feature=name, share=share, value=share) for name in evidence.challenger_score.features]
    found = Explanation.model_validate({"method": method, "rows": rows, "features": features})
    return evidence.model_copy(update={"explanation": found})


def test_every_feature_of_the_package_must_be_told_of(evidence: Evidence) -> None:
    whole = explained(evidence, 0.05)
    assert ExplanationPresent().answer(whole).outcome == "pass"
    part = whole.explanation.model_copy(update={"features": whole.explanation.features[1:]})
    answer = ExplanationPresent().answer(whole.model_copy(update={"explanation": part}))
    assert answer.outcome == "fail"
    assert evidence.challenger_score.features[0] in answer.sentence


@pytest.mark.parametrize("share", [0.0, float("nan"), float("inf")])
def test_an_explanation_by_nothing_is_none(evidence: Evidence, share: float) -> None:
    assert ExplanationPresent().answer(explained(evidence, share)).outcome == "fail"


@pytest.mark.parametrize(("method", "rows"), [("none", 300), ("permutation", 49)])
def test_too_few_rows_explain_nothing(evidence: Evidence, method: str, rows: int) -> None:
    assert (
        ExplanationPresent().answer(explained(evidence, 0.1, method=method, rows=rows)).outcome == "insufficient_data"
    )
