from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluation.conftest import plain, policy, use_case
from tests.unit.governance.proposal import Case

from millrace.artifact import Verdict
from millrace.errors import DocumentError, RegistryUnavailableError
from millrace.evaluation.base import Evaluation
from millrace.evaluation.evidence import Evidence, evidence_folder, store_evidence
from millrace.evaluation.model_card import render_card, store_card
from millrace.evaluation.verdict import answer_gates
from millrace.governance.approval_request import Asking
from millrace.governance.approval_round import ApprovalRound
from millrace.governance.ledger import Ledger
from millrace.governance.requester import Requester
from millrace.settings import Settings
from millrace.step.approval import request_approval
from millrace.step.evaluation import check_gates
from millrace.step.registry import register_model

__all__ = ["plain", "policy", "use_case"]
KINDS = ("html", "md")
Judged = tuple[Case, Evaluation, Verdict]


@pytest.fixture
def judged(settings: Settings, plain: dict[str, Any]) -> Judged:
    """A challenger with its whole bundle and card, and a passing verdict on it that names the gates' answers."""
    case = Case.of(settings)
    evaluation = case.evaluation("a", "2013-03")
    model = next(item for item in plain["candidates"] if item["name"] == "xgboost")
    told = {
        **plain,
        "candidates": [plain["candidates"][0], {**model, "package": evaluation.challenger.digest}],
        "champion": None,
        "versus_champion": {"against": "champion", "reason": "No champion is in force."},
        "reference": evaluation.reference,
    }
    evidence = Evidence.model_validate(told)
    digest, folder = store_evidence(evidence, settings), evidence_folder(settings)
    store_card(folder, digest, render_card(evidence, digest, answer_gates(case.policy, case.use_case, evidence)))
    evaluation = dataclasses.replace(evaluation, evidence=digest)
    verdict = check_gates(case.use_case, case.policy, evaluation, settings=settings)
    if not verdict.passed:
        answers = Ledger(settings).entries(kinds=("gates_evaluated",))[-1].payload["verdict"]
        Ledger(settings).append(
            "gates_evaluated",
            use_case="flight_delay",
            subject=evaluation.challenger.digest,
            effective_at=case.domain.partition("2013-03").end,
            actor="system",
            payload={"outcome": "pass", "evidence": digest, "policy": evaluation.policy, "verdict": answers},
        )
    return case, evaluation, dataclasses.replace(verdict, outcome="pass")


def cards(case: Case, evaluation: Evaluation) -> list[Path]:
    return [evidence_folder(case.settings) / f"{evaluation.evidence}.{kind}" for kind in KINDS]


def ask(judged: Judged) -> None:
    case, evaluation, verdict = judged
    asked = ApprovalRound(
        settings=case.settings,
        use_case=case.use_case,
        policy=case.policy,
        proposal=evaluation,
        run="run 1",
        requester=Requester(name="zoe"),
    )
    asking = Asking(task="request_approval_1", attempt=1)
    request_approval(asked, asking, verdict, card="", now=datetime(2026, 1, 5, tzinfo=UTC))


def register(judged: Judged) -> None:
    """As far as it goes where MLflow is away."""
    case, evaluation, verdict = judged
    away = dataclasses.replace(case.settings, mlflow_url="http://127.0.0.1:9")
    with pytest.raises(RegistryUnavailableError):
        register_model(case.use_case, case.domain, evaluation, verdict, settings=away)


@pytest.mark.parametrize("act", [ask, register])
@pytest.mark.parametrize("spoil", ["changed", "gone"])
def test_a_card_that_was_changed_on_disk_is_what_its_evidence_says_again_before_anybody_reads_or_keeps_it(
    judged: Judged, act: Any, spoil: str
) -> None:
    case, evaluation, _ = judged
    before = [path.read_bytes() for path in cards(case, evaluation)]
    for path in cards(case, evaluation):
        path.unlink()
        if spoil == "changed":
            path.write_text("A far better model.", encoding="utf-8")
    act(judged)
    assert [path.read_bytes() for path in cards(case, evaluation)] == before


def test_gates_answers_that_were_changed_on_disk_are_shown_to_nobody(judged: Judged) -> None:
    case, _, _ = judged
    named = Ledger(case.settings).entries(kinds=("gates_evaluated",))[-1].payload["verdict"]
    path = evidence_folder(case.settings) / f"{named}.json"
    path.write_bytes(path.read_bytes().replace(b"pass", b"fail"))
    with pytest.raises(DocumentError):
        ask(judged)
