from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.governance.proposal import Case, digest

from millrace.artifact import Verdict
from millrace.errors import ReleaseRefusedError, SpecError, StaleEvidenceError
from millrace.evaluation.base import Evaluation
from millrace.governance.approval import Approval
from millrace.governance.approval_request import Asking, Outcome, Response
from millrace.governance.approval_round import ApprovalRound, stale_in
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.requester import Requester
from millrace.governance.succession import succeed
from millrace.governance.waiver import record_waiver
from millrace.settings import Settings
from millrace.spec import load_policy
from millrace.step.approval import (
    approve_by_policy,
    grant_approval,
    noting_stale,
    record_approval,
    record_rejection,
    request_approval,
)

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
OLIVE, PAUL = {"name": "olive", "comment": "looked at"}, {"name": "paul", "comment": ""}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """With a root of its own, which is under no git."""
    (tmp_path / "root").mkdir()
    return dataclasses.replace(settings, root=tmp_path / "root")


def prepare(settings: Settings, tier: str, champion: int = 0) -> tuple[Case, Evaluation, Verdict]:
    """A challenger that passed its gates under a policy, with a waiver of the tree."""
    case = Case.of(settings, tier)
    evaluation = case.evaluation("a", "2013-03", champion)
    verdict = case.judge(evaluation)
    record_waiver(case.use_case, "dirty_tree", digest("a"), "demo", holdout="2013-03", actor="olive", settings=settings)
    return case, evaluation, verdict


def round_of(case: Case, evaluation: Evaluation, run: str = "run 1", on_timeout: str = "reject") -> ApprovalRound:
    policy = case.policy.model_copy(update={"on_timeout": on_timeout})
    return ApprovalRound(settings=case.settings, use_case=case.use_case, policy=policy, proposal=evaluation, run=run)


def ask(number: int = 1, attempt: int = 1, started_by: str = "zoe") -> Asking:
    return Asking(task=f"request_approval_{number}", attempt=attempt, requester=Requester(name=started_by))


def answer(
    asked: ApprovalRound, asking: Asking, name: str, *, approves: bool | None = True, at: datetime = NOW
) -> Outcome:
    asked.open(asking, now=NOW)
    return asked.close(asking, Response(name=name, approves=approves, comment="read it", at=at), now=at)


def written(settings: Settings, *kinds: str) -> list[Entry]:
    return Ledger(settings).entries("flight_delay", kinds=kinds)


# --- tiers


def test_a_policy_that_asks_for_nobody_approves_in_its_own_name(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "low")
    approval = grant_approval(round_of(case, evaluation), verdict)
    assert approval.approvers == ["policy:low"]
    assert approval == approve_by_policy(case.use_case, case.policy, evaluation, verdict, settings=settings)


def test_a_policy_that_asks_for_people_does_not_approve_by_itself(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    with pytest.raises(ReleaseRefusedError, match="asks for 1 approvals"):
        approve_by_policy(case.use_case, case.policy, evaluation, verdict, settings=settings)
    with pytest.raises(ReleaseRefusedError, match="0 of 1"):
        grant_approval(round_of(case, evaluation), verdict)


def test_one_person_is_enough_for_medium_and_their_answer_is_kept_as_given(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    assert answer(asked, ask(), "olive").sentence == "approved by olive: read it"
    assert grant_approval(asked, verdict).approvers == ["olive"]
    (entry,) = written(settings, "approved")
    said = {name: entry.payload[name] for name in ("comment", "answered_at", "run", "task", "requested_by")}
    assert said == {
        "comment": "read it",
        "answered_at": "2026-01-05T09:00:00Z",
        "run": "run 1",
        "task": "request_approval_1",
        "requested_by": "zoe",
    }
    assert Ledger(settings).verify().verified


def test_two_approvals_are_those_of_two_different_people(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "high")
    asked = round_of(case, evaluation)
    answer(asked, ask(1), "olive")
    with pytest.raises(ReleaseRefusedError, match="1 of 2"):
        grant_approval(asked, verdict)
    again = answer(asked, ask(2), "Olive")
    assert (again.decision, again.sentence) == (
        "refused",
        "Olive has approved already, and one person counts once; it is asked again",
    )
    answer(asked, ask(2, attempt=2), "paul")
    assert grant_approval(asked, verdict).approvers == ["olive", "paul"]


# --- answers that do not count


@pytest.mark.parametrize(
    ("name", "approves", "said"),
    [
        ("admin", True, "admin may not approve: owner of the use case"),
        ("zoe", True, "zoe may not approve: started the run"),
        ("system", True, "not a person"),
        ("", True, "without a name"),
        ("", False, "without a name"),
        ("olive", None, "neither approved nor rejected"),
    ],
)
def test_an_answer_that_does_not_count_is_recorded_and_the_next_request_is_open(
    settings: Settings, name: str, approves: bool | None, said: str
) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    outcome = answer(asked, ask(), name, approves=approves)
    assert outcome.decision == "refused"
    assert said in outcome.sentence
    (entry,) = written(settings, "approval_refused")
    assert (entry.actor, entry.payload["comment"]) == (name, "read it")
    with pytest.raises(ReleaseRefusedError):
        grant_approval(asked, verdict)
    second = asked.open(ask(attempt=2), now=NOW + timedelta(hours=1))
    assert second.due == NOW + timedelta(hours=72)
    assert second.answers == [outcome.sentence]
    assert answer(asked, ask(attempt=2), "olive").decision == "approved"
    assert [entry.kind for entry in written(settings)][-4:] == [
        "approval_requested",
        "approval_refused",
        "approval_requested",
        "approved",
    ]


def test_an_owner_may_reject_what_they_may_not_approve(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    assert answer(round_of(case, evaluation), ask(), "admin", approves=False).decision == "rejected"


def test_an_approval_handed_on_by_the_caller_alone_is_none(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    other = round_of(case, evaluation, run="another run")
    answer(other, ask(), "olive")
    with pytest.raises(ReleaseRefusedError, match="of this run"):
        grant_approval(round_of(case, evaluation), verdict)


def test_a_task_that_has_its_answer_asks_nobody_again(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    answer(asked, ask(), "olive")
    settled = asked.open(ask(attempt=2), now=NOW).settled
    assert settled is not None
    assert settled.actor == "olive"
    assert len(written(settings, "approval_requested")) == 1


# --- rejection


def test_a_rejection_says_who_and_why_and_outweighs_the_approvals_before_it(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "high")
    asked = round_of(case, evaluation)
    answer(asked, ask(1), "olive")
    outcome = answer(asked, ask(2), "paul", approves=False)
    assert (outcome.decision, outcome.sentence) == ("rejected", "rejected by paul: read it; nothing was released")
    answer(asked, ask(2, attempt=2), "paul")
    with pytest.raises(ReleaseRefusedError, match="1 of 2"):
        grant_approval(asked, verdict)
    answer(asked, ask(1, attempt=2), "olive")
    assert grant_approval(asked, verdict).approvers == ["paul", "olive"]


# --- time


@pytest.mark.parametrize("late", [None, "olive"])
def test_no_answer_in_time_is_a_rejection_that_says_when_it_was_due_and_noticed(
    settings: Settings, late: str | None
) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    asked.open(ask(), now=NOW)
    noticed = NOW + timedelta(hours=72, seconds=14)
    given = Response(name=late, approves=True, at=noticed) if late else None
    outcome = asked.close(ask(), given, now=noticed)
    assert outcome.decision == "rejected"
    assert outcome.sentence.startswith("nobody answered by 2026-01-08T09:00:00Z")
    assert ("olive answered" in outcome.sentence) == bool(late)
    (entry,) = written(settings, "rejected")
    assert entry.actor == "policy:medium"
    assert (entry.payload["due"], entry.payload["noticed"]) == ("2026-01-08T09:00:00Z", "2026-01-08T09:00:14Z")
    with pytest.raises(ReleaseRefusedError):
        grant_approval(asked, verdict)


def test_a_policy_may_ask_again_and_a_new_time_starts_then(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    asked = round_of(case, evaluation, on_timeout="ask_again")
    asked.open(ask(), now=NOW)
    noticed = NOW + timedelta(hours=73)
    outcome = asked.close(ask(), None, now=noticed)
    assert (outcome.decision, outcome.sentence.endswith("it is asked again")) == ("expired", True)
    assert written(settings, "approval_expired")[0].payload["noticed"] == "2026-01-08T10:00:00Z"
    assert asked.open(ask(attempt=2), now=noticed).due == noticed + timedelta(hours=72)
    assert not asked.approved()


def test_what_no_answer_counts_as_is_never_an_approval(settings: Settings) -> None:
    path = settings.dags / "policies" / "medium.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("on_timeout: reject", "on_timeout: approve"), encoding="utf-8")
    with pytest.raises(SpecError, match="on_timeout") as caught:
        load_policy(settings.dags, "medium")
    assert str(path) in str(caught.value)
    assert "ask_again" in str(caught.value)


# --- stale evidence


def champion_changes(case: Case) -> None:
    """Another challenger is released for the same instant while people are asked."""
    low = Case.of(case.settings)
    other = low.evaluation("b", "2013-03")
    verdict = low.judge(other)
    low.note_registered(other)
    approve_by_policy(low.use_case, low.policy, other, verdict, settings=case.settings)
    succeed(case.settings, low.use_case, low.policy, other, registry_version=1, actor="system")


def let(asked: ApprovalRound, verdict: Verdict, *, again: bool = True) -> Approval:
    with noting_stale(asked, again=again):
        return grant_approval(asked, verdict)


def test_an_approval_is_stale_where_the_champion_changed_and_the_evaluation_is_asked_for_anew(
    settings: Settings,
) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    answer(asked, ask(), "olive")
    champion_changes(case)
    with pytest.raises(StaleEvidenceError, match="evaluates again"):
        let(asked, verdict)
    (entry,) = written(settings, "approval_stale")
    assert (entry.payload["champion"], entry.payload["approvers"]) == (0, ["olive"])
    assert "in force is 1" in entry.payload["sentence"]
    assert stale_in(settings, case.use_case, "run 1") == entry
    assert stale_in(settings, case.use_case, "run 2") is None
    with pytest.raises(StaleEvidenceError, match="evaluates again"):
        let(asked, verdict)
    assert len(written(settings, "approval_stale")) == 1


def test_nobody_is_asked_about_stale_evidence(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    champion_changes(case)
    with pytest.raises(StaleEvidenceError):
        request_approval(round_of(case, evaluation), ask(), verdict, card="", now=NOW)
    assert not written(settings, "approval_requested")


def test_evaluating_again_ends_where_it_gives_the_same_evidence(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    champion_changes(case)
    for run in ("run 1", "run 2"):
        with pytest.raises(StaleEvidenceError) as caught:
            let(round_of(case, evaluation, run), verdict)
        assert ("evaluates again" in str(caught.value)) == (run == "run 1")
    assert stale_in(settings, case.use_case, "run 2") is None
    assert len(written(settings, "approval_stale")) == 2


def test_a_run_that_asked_about_other_evidence_does_not_ask_again_under_its_text(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    answer(round_of(case, evaluation), ask(), "admin")
    other = case.evaluation("a", "2013-03", evidence="measured anew")
    verdict = case.judge(other)
    with pytest.raises(StaleEvidenceError, match="goes on showing that"):
        request_approval(round_of(case, other), ask(attempt=2), verdict, card="", now=NOW)


# --- outside Airflow


@pytest.mark.parametrize(
    ("approvers", "requested_by", "said"),
    [
        ([{"name": "admin"}], "system", "admin may not approve"),
        ([OLIVE], "olive", "olive may not approve"),
        ([{"name": ""}], "system", "without a name"),
        ([], "system", "0 of 1"),
    ],
)
def test_four_eyes(settings: Settings, approvers: list[dict[str, str]], requested_by: str, said: str) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    with pytest.raises(ReleaseRefusedError, match=said):
        record_approval(
            case.use_case,
            case.policy,
            evaluation,
            verdict,
            approvers=approvers,
            requested_by=requested_by,
            settings=settings,
        )


def test_approvals_written_at_once_are_those_of_two_people(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "high")
    proposed = (case.use_case, case.policy, evaluation, verdict)
    with pytest.raises(ReleaseRefusedError, match="1 of 2"):
        record_approval(*proposed, approvers=[OLIVE, OLIVE], settings=settings)
    approval = record_approval(*proposed, approvers=[OLIVE, PAUL], settings=settings)
    assert approval.approvers == ["olive", "paul"]
    assert record_approval(*proposed, approvers=[OLIVE, PAUL], settings=settings) == approval
    assert [entry.payload["comment"] for entry in written(settings, "approved")] == ["looked at", ""]


def test_a_rejection_written_outside_airflow_counts_too(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    answer(asked, ask(), "olive")
    record_rejection(case.use_case, case.policy, evaluation, name="paul", comment="no", settings=settings)
    with pytest.raises(ReleaseRefusedError, match="0 of 1"):
        grant_approval(asked, verdict)
