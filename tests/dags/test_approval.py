from __future__ import annotations

import pydoc
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import HITLDetailResponse, HITLUser
from airflow.sdk.definitions.retry_policy import RetryAction
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from tests.unit.governance.proposal import Case, digest

from millrace.artifact import Verdict
from millrace.errors import ReleaseRefusedError, StaleEvidenceError, StateUnavailableError
from millrace.evaluation.base import Evaluation
from millrace.governance.approval_request import Asking
from millrace.governance.ledger import Ledger
from millrace.governance.succession import succeed
from millrace.governance.waiver import record_waiver
from millrace.settings import Settings
from millrace.settings import settings as loaded
from millrace.step.approval import approve_by_policy
from millrace_airflow.operators.approval import (
    ASK_AGAIN,
    ApproveReleaseOperator,
    AskAgainError,
    RequestApprovalOperator,
    RequestEvaluationOperator,
    _kept,
    round_of,
)
from millrace_airflow.operators.governance import ReleaseModelOperator
from millrace_airflow.triggers.kept_answer import answer_of

OLIVE = {"id": "7", "name": "olive"}


@pytest.fixture
def here(settings: Settings, dags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The installation that operators find: flight_delay under policy `medium`."""
    path = dags / "use_cases" / "flight_delay.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("tier: low", "tier: medium"), encoding="utf-8")
    for name, value in (("ROOT", tmp_path), ("VAR", settings.var), ("DAGS", dags)):
        monkeypatch.setenv(f"MILLRACE_{name}", str(value))
    loaded.cache_clear()
    yield loaded()
    loaded.cache_clear()


class Announced:
    """What a task says of one asset."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self.keys: list[str] = []

    def add_partitions(self, key: str) -> None:
        self.keys.append(key)


def context(run: str = "run 1", *, attempt: int = 1, user: str | None = "zoe", events: Any = None) -> dict[str, Any]:
    return {
        "dag_run": SimpleNamespace(dag_id="flight_delay_train", run_id=run, triggering_user_name=user),
        "ti": SimpleNamespace(try_number=attempt, xcom_push=lambda key, value: None),
        "triggering_asset_events": events or {},
        "outlet_events": defaultdict(Announced),
    }


def event(chosen: list[str], user: dict[str, str] | None = None, comment: str = "read it") -> dict[str, Any]:
    return {
        "chosen_options": chosen,
        "params_input": {"comment": comment},
        "responded_at": datetime.now(UTC),
        "responded_by_user": user,
        "timedout": False,
    }


def judged(here: Settings, name: str = "a") -> tuple[Case, Evaluation, Verdict]:
    case = Case.of(here, "medium")
    evaluation = case.evaluation(name, "2013-03")
    verdict = case.judge(evaluation)
    record_waiver(case.use_case, "dirty_tree", digest(name), "demo", holdout="2013-03", actor="olive", settings=here)
    return case, evaluation, verdict


def given(evaluation: Evaluation, verdict: Verdict) -> dict[str, Any]:
    return {"use_case": "flight_delay", "evaluation": evaluation.to_dict(), "verdict": verdict.to_dict()}


def request(evaluation: Evaluation, verdict: Verdict) -> RequestApprovalOperator:
    return RequestApprovalOperator(
        task_id="request_approval_1", subject="?", timeout_hours=72, **given(evaluation, verdict)
    )


def opened(here: Settings, evaluation: Evaluation, *, now: datetime | None = None, attempt: int = 1) -> None:
    asked = round_of(context(), here, "flight_delay", evaluation.to_dict())
    asked.open(Asking(task="request_approval_1", attempt=attempt), now=now or datetime.now(UTC))


def test_an_answer_goes_from_airflows_record_to_the_ledger_and_allows_the_release(here: Settings) -> None:
    _, evaluation, verdict = judged(here)
    opened(here, evaluation)
    outcome = request(evaluation, verdict).execute_complete(context(), event(["Approve"], OLIVE))
    assert (outcome["decision"], outcome["name"]) == ("approved", "olive")
    approve = ApproveReleaseOperator(task_id="approve_release", **given(evaluation, verdict))
    assert approve.execute(context())["approvers"] == ["olive"]


@pytest.mark.parametrize(
    ("chosen", "user", "said"),
    [
        (["Approve"], {"id": "1", "name": "admin"}, "owner of the use case"),
        (["Approve"], {"id": "3", "name": "zoe"}, "started the run"),
        (["Approve"], None, "without a name"),
        ([], OLIVE, "neither approved nor rejected"),
    ],
)
def test_an_answer_that_does_not_count_asks_again_however_often(
    here: Settings, chosen: list[str], user: dict[str, str] | None, said: str
) -> None:
    _, evaluation, verdict = judged(here)
    opened(here, evaluation)
    task = request(evaluation, verdict)
    with pytest.raises(AskAgainError, match=said) as caught:
        task.execute_complete(context(), event(chosen, user))
    decision = task.retry_policy.evaluate(caught.value, 9, task.retries)  # type: ignore[union-attr]
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(seconds=1))
    assert task.retries >= 1000
    assert [entry.kind for entry in Ledger(here).entries()][-2:] == ["approval_requested", "approval_refused"]


def test_what_asking_again_does_not_mend_fails_and_what_waiting_mends_is_retried() -> None:
    told = [
        ASK_AGAIN.evaluate(error, 1, 1000).action
        for error in (KeyError("x"), ReleaseRefusedError("x"), StateUnavailableError("x"))
    ]
    assert told == [RetryAction.FAIL, RetryAction.FAIL, RetryAction.RETRY]


def test_a_rejection_fails_the_task_for_good_with_its_comment(here: Settings) -> None:
    _, evaluation, verdict = judged(here)
    opened(here, evaluation)
    with pytest.raises(AirflowFailException, match="rejected by olive: not now; nothing was released"):
        request(evaluation, verdict).execute_complete(context(), event(["Reject"], OLIVE, "not now"))
    (entry,) = Ledger(here).entries(kinds=("rejected",))
    assert (entry.actor, entry.payload["comment"]) == ("olive", "not now")


def test_no_answer_in_time_fails_the_task_and_says_when_it_was_due(here: Settings) -> None:
    _, evaluation, verdict = judged(here)
    opened(here, evaluation, now=datetime.now(UTC) - timedelta(hours=73))
    with pytest.raises(AirflowFailException, match="nobody answered by"):
        request(evaluation, verdict).execute_complete(context(), {"error": "late", "error_type": "timeout"})
    (entry,) = Ledger(here).entries(kinds=("rejected",))
    assert entry.payload["due"] < entry.payload["noticed"]


def test_a_request_marked_a_success_by_hand_allows_nothing(here: Settings) -> None:
    _, evaluation, verdict = judged(here)
    approve = ApproveReleaseOperator(task_id="approve_release", **given(evaluation, verdict))
    with pytest.raises(ReleaseRefusedError, match="0 of 1"):
        approve.execute(context())


def test_a_run_that_goes_stale_is_red_and_asks_for_a_new_one_in_the_name_of_who_started_it(here: Settings) -> None:
    _, evaluation, verdict = judged(here)
    opened(here, evaluation)
    request(evaluation, verdict).execute_complete(context(), event(["Approve"], OLIVE))
    approval = ApproveReleaseOperator(task_id="approve_release", **given(evaluation, verdict)).execute(context())
    low = Case.of(here)
    other = low.evaluation("b", "2013-03")
    passed = low.judge(other)
    low.note_registered(other)
    approve_by_policy(low.use_case, low.policy, other, passed, settings=here)
    succeed(here, low.use_case, low.policy, other, registry_version=1, actor="system")
    release = ReleaseModelOperator(
        task_id="release_model",
        registered=Case.of(here, "medium").note_registered(evaluation).to_dict(),
        approval=approval,
        **given(evaluation, verdict),
    )
    with pytest.raises(StaleEvidenceError, match="evaluates again"):
        release.execute(context())
    again, told = RequestEvaluationOperator(task_id="r", use_case="flight_delay", partition="2013-03"), context()
    assert again.execute(told) == "2013-03"
    (events,) = told["outlet_events"].values()
    (noted,) = Ledger(here).entries(kinds=("approval_stale",))
    assert (events.keys, events.extra["stale"], noted.payload["started_by"]) == (["2013-03"], noted.seq, "zoe")
    assert "in force is 1" in events.extra["reasons"][0]
    with pytest.raises(AirflowSkipException):
        again.execute(context("run 2"))


def started_by_event(**extra: Any) -> dict[str, Any]:
    """The context of a run that nobody triggered but an asset event."""
    return context("run 2", user=None, events={"asset": [SimpleNamespace(extra=extra)]})


def test_who_started_a_stale_run_may_not_approve_the_one_that_follows(here: Settings) -> None:
    _, evaluation, verdict = judged(here)
    stale = round_of(context(), here, "flight_delay", evaluation.to_dict()).note_stale("in force is 1")
    told = started_by_event(reasons=["stale"], stale=stale.seq)
    with pytest.raises(AskAgainError, match="zoe may not approve"):
        request(evaluation, verdict).execute_complete(told, event(["Approve"], {"id": "3", "name": "zoe"}))


def test_a_name_that_an_event_claims_is_believed_of_none(here: Settings) -> None:
    _, evaluation, _ = judged(here)
    for extra in ({"requested_by": "bob"}, {"stale": 1}, {"stale": "bob"}, {}):
        asked = round_of(started_by_event(**extra), here, "flight_delay", evaluation.to_dict())
        assert asked.requester.automatic


@pytest.mark.parametrize("extra", [{}, {"requested_by": "bob"}, {"stale": 1}])
def test_nobody_is_asked_where_an_event_sent_to_the_api_started_the_run(here: Settings, extra: dict[str, Any]) -> None:
    _, evaluation, verdict = judged(here)
    told = started_by_event(from_rest_api=True, **extra)
    for task in (request(evaluation, verdict), ApproveReleaseOperator(task_id="a", **given(evaluation, verdict))):
        with pytest.raises(ReleaseRefusedError, match="nobody knows who started this run") as caught:
            task.execute(told)
        assert "trigger the DAG flight_delay_train" in str(caught.value)
    assert not Ledger(here).entries(kinds=("approval_requested",))


def test_a_release_asks_the_ledger_who_approved_in_this_run_and_not_the_task_before(here: Settings) -> None:
    _, evaluation, verdict = judged(here)
    opened(here, evaluation)
    request(evaluation, verdict).execute_complete(context(), event(["Approve"], OLIVE))
    approval = ApproveReleaseOperator(task_id="approve_release", **given(evaluation, verdict)).execute(context())
    registered = Case.of(here, "medium").note_registered(evaluation).to_dict()
    release = ReleaseModelOperator(
        task_id="release_model", registered=registered, approval=approval, **given(evaluation, verdict)
    )
    for run, user in (("run 2", "olive"), ("run 1", "olive")):
        with pytest.raises(ReleaseRefusedError, match="0 of 1"):
            release.execute(context(run, user=user))


# --- answers that Airflow has and the ledger has not


def kept(chosen: list[str], comment: str = "no", minutes: int = 5) -> dict[str, Any]:
    """What the trigger reads of an answer to the first attempt."""
    answered = datetime.now(UTC) - timedelta(minutes=minutes)
    return answer_of(
        HITLDetailResponse(
            response_received=True,
            responded_by_user=HITLUser(id="7", name="olive"),
            responded_at=answered,
            chosen_options=chosen,
            params_input={"comment": comment},
        )
    )


def test_an_attempt_after_one_without_an_answer_asks_airflow_before_it_asks_people(here: Settings) -> None:
    _, evaluation, verdict = judged(here)
    opened(here, evaluation)
    told = context(attempt=2)
    told["ti"].id = uuid.uuid4()
    with pytest.raises(TaskDeferred) as caught:
        request(evaluation, verdict).execute(told)
    assert caught.value.method_name == "execute_kept"
    path, what = caught.value.trigger.serialize()
    trigger: Any = pydoc.locate(path)
    assert trigger(**what).serialize() == (path, {"ti_id": str(told["ti"].id)})


def test_a_rejection_that_nobody_wrote_down_is_written_down_before_anybody_is_asked_again(here: Settings) -> None:
    _, evaluation, verdict = judged(here)
    opened(here, evaluation, now=datetime.now(UTC) - timedelta(minutes=10))
    with pytest.raises(AirflowFailException, match="rejected by olive: no"):
        request(evaluation, verdict).execute_kept(context(attempt=2), kept(["Reject"]))
    (entry,) = Ledger(here).entries(kinds=("rejected",))
    assert (entry.actor, entry.payload["attempt"], entry.payload["comment"]) == ("olive", 1, "no")


def test_an_approval_that_nobody_wrote_down_settles_the_request(here: Settings) -> None:
    _, evaluation, _ = judged(here)
    opened(here, evaluation, now=datetime.now(UTC) - timedelta(minutes=10))
    asked = round_of(context(attempt=2), here, "flight_delay", evaluation.to_dict())
    response = _kept(kept(["Approve"], "fine"))
    assert response is not None
    found = asked.unheard("request_approval_1", response)
    assert found is not None
    assert asked.close(found, response, now=datetime.now(UTC)).decision == "approved"
    assert asked.grant().approvers == ["olive"]


def test_where_airflow_kept_no_answer_there_is_none() -> None:
    nothing = HITLDetailResponse(response_received=False, responded_at=None, chosen_options=None)
    assert answer_of(nothing) == {}
    assert _kept({}) is None
