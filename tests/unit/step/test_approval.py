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
from millrace.step.approval import approve_by_policy, grant_approval, noting_stale, request_approval

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


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


def round_of(
    case: Case, evaluation: Evaluation, run: str = "run 1", on_timeout: str = "reject", started_by: str = "zoe"
) -> ApprovalRound:
    return ApprovalRound(
        settings=case.settings,
        use_case=case.use_case,
        policy=case.policy.model_copy(update={"on_timeout": on_timeout}),
        proposal=evaluation,
        run=run,
        requester=Requester(name=started_by),
    )


def ask(number: int = 1, attempt: int = 1) -> Asking:
    return Asking(task=f"request_approval_{number}", attempt=attempt)


def answer(
    asked: ApprovalRound,
    asking: Asking,
    name: str,
    *,
    approves: bool | None = True,
    at: datetime = NOW,
    comment: str = "read it",
) -> Outcome:
    asked.open(asking, now=NOW)
    return asked.close(asking, Response(name=name, approves=approves, comment=comment, at=at), now=at)


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
    with pytest.raises(ReleaseRefusedError, match="in run run 1"):
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


# --- who counts when a release is made


def released_by(case: Case, evaluation: Evaluation, run: str, started_by: str) -> Entry:
    """The ledger's entry of a release in the name of a run."""
    case.note_registered(evaluation)
    asks = {"run": run, "requester": Requester(name=started_by)}
    succeed(case.settings, case.use_case, case.policy, evaluation, registry_version=1, actor=started_by, **asks)  # type: ignore[arg-type]
    return written(case.settings, "released")[-1]


def test_a_release_counts_only_what_people_answered_in_its_own_run(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "high")
    answer(round_of(case, evaluation, "run 1", started_by="carl"), ask(), "ann")
    second = round_of(case, evaluation, "run 2", started_by="ann")
    answer(second, ask(), "bob")
    with pytest.raises(ReleaseRefusedError, match="1 of 2"):
        grant_approval(second, verdict)
    with pytest.raises(ReleaseRefusedError, match="1 of 2"):
        released_by(case, evaluation, "run 2", "ann")
    assert not written(settings, "released")


def test_a_release_without_a_run_counts_nobodys_approval(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    answer(round_of(case, evaluation), ask(), "olive")
    with pytest.raises(ReleaseRefusedError, match="0 of 1"):
        released_by(case, evaluation, "", "zoe")


def test_a_release_names_the_run_its_approvals_were_given_in(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    answer(round_of(case, evaluation), ask(), "olive")
    entry = released_by(case, evaluation, "run 1", "zoe")
    assert [entry.payload[name] for name in ("run", "requested_by", "approvers")] == ["run 1", "zoe", ["olive"]]


def test_who_starts_a_run_of_the_same_name_anew_is_not_helped_by_their_own_approval_of_it(settings: Settings) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    answer(round_of(case, evaluation, started_by="carl"), ask(), "ann")
    again = round_of(case, evaluation, started_by="ann")
    assert again.open(ask(), now=NOW).settled is None
    with pytest.raises(ReleaseRefusedError, match="0 of 1"):
        grant_approval(again, verdict)
    with pytest.raises(ReleaseRefusedError, match="0 of 1"):
        released_by(case, evaluation, "run 1", "ann")


def test_another_spelling_of_a_name_is_the_same_person_wherever_people_are_counted(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "high")
    asked = round_of(case, evaluation)
    answer(asked, ask(1), "Jos\u00e9")
    assert "has approved already" in answer(asked, ask(2), "jose\u0301").sentence


# --- answers that were not written down


def test_an_answer_that_airflow_kept_and_the_ledger_has_not_is_found(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    given = Response(name="olive", approves=False, comment="no", at=NOW)
    assert asked.unheard("request_approval_1", given) is None
    assert not asked.is_open("request_approval_1")
    asked.open(ask(), now=NOW)
    assert asked.is_open("request_approval_1")
    assert asked.unheard("request_approval_1", given) == ask()
    assert asked.close(ask(), given, now=NOW).decision == "rejected"
    assert asked.unheard("request_approval_1", given) is None
    assert not asked.is_open("request_approval_1")


def test_an_answer_that_was_refused_is_not_taken_for_one_to_the_next_request(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    answer(asked, ask(), "admin")
    asked.open(ask(attempt=2), now=NOW)
    assert asked.unheard("request_approval_1", Response(name="admin", approves=True, at=NOW)) is None


# --- what people write


def test_whatever_is_written_into_a_comment_the_rejection_is_recorded(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    assert answer(asked, ask(), "olive", approves=False, comment="bad \ud800").decision == "rejected"
    assert answer(asked, ask(attempt=2), "olive", approves=False, comment="x\n" * 50_000).decision == "rejected"
    comments = [entry.payload["comment"] for entry in written(settings, "rejected")]
    assert comments[0] == "bad ?"
    assert len(comments[1]) == 2_000
    assert Ledger(settings).verify().verified


@pytest.mark.parametrize("name", ["olive\u200b", "oli\nve", "policy:medium"])
def test_a_name_that_nobody_can_tell_or_that_a_policy_has_does_not_count(settings: Settings, name: str) -> None:
    case, evaluation, verdict = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    assert answer(asked, ask(), name).decision == "refused"
    with pytest.raises(ReleaseRefusedError, match="0 of 1"):
        grant_approval(asked, verdict)


def test_a_policy_edited_while_people_are_asked_gives_nobody_more_time(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    asked = round_of(case, evaluation)
    asked.open(ask(), now=NOW)
    edited = dataclasses.replace(asked, policy=asked.policy.model_copy(update={"description": "changed"}))
    late = NOW + timedelta(days=900)
    outcome = edited.close(ask(), Response(name="olive", approves=True, at=late), now=late)
    assert outcome.decision == "rejected"
    assert "nobody answered by 2026-01-08" in outcome.sentence


# --- waivers


def waive(case: Case, reason: str, actor: str) -> Entry:
    return record_waiver(
        case.use_case, "dirty_tree", digest("a"), reason, holdout="2013-03", actor=actor, settings=case.settings
    )


def test_a_second_reason_is_a_second_waiver_and_the_same_one_is_not(settings: Settings) -> None:
    case, _, _ = prepare(settings, "medium")
    assert [waive(case, text, "paul").seq for text in ("one", "two", "one")] == [3, 4, 3]


def test_an_owners_waiver_says_that_it_is_one_to_the_ledger_and_to_whoever_approves(settings: Settings) -> None:
    case, evaluation, _ = prepare(settings, "medium")
    assert "own" not in waive(case, "paul's", "paul").payload
    assert waive(case, "mine", "ADMIN").payload["own"] == "owner of the use case"
    waive(case, "my run", "zoe")
    assert round_of(case, evaluation).open(ask(), now=NOW).waivers == [
        "olive waives dirty_tree: demo",
        "paul waives dirty_tree: paul's",
        "ADMIN (owner of the use case) waives dirty_tree: mine",
        "zoe (started the run) waives dirty_tree: my run",
    ]
