"""The operators of a release, given what people can put there by hand: the ledger decides, not the XCom."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.deployment.conftest import House, house, sealed
from tests.unit.governance.proposal import Case, digest, record_proven
from tests.unit.step.champion import put_two_in_service

from millrace import settings as settings_module
from millrace.artifact import Verdict
from millrace.deployment.pointer import pointer_path
from millrace.errors import ReleaseRefusedError
from millrace.governance.approval import Approval
from millrace.governance.ledger import Ledger
from millrace.governance.release import Release, Releases
from millrace.governance.rollback import Rollback, restore
from millrace.settings import Settings

__all__ = ["house", "sealed"]
CONTEXT = {
    "dag_run": SimpleNamespace(triggering_user_name="olive", dag_id="flight_delay_train", run_id="manual__1", conf={}),
    "ti": SimpleNamespace(xcom_push=lambda **_: None, task_id="release_model", try_number=1, map_index=-1),
}
NONE_HANDED_ON = "skipped, cleared or marked a success by hand"


@pytest.fixture
def case(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    monkeypatch.setenv("MILLRACE_VAR", str(settings.var))
    monkeypatch.setenv("MILLRACE_DAGS", str(settings.dags))
    monkeypatch.setenv("MILLRACE_ROOT", str(settings.var))
    settings_module.settings.cache_clear()
    yield Case.of(dataclasses.replace(settings, root=settings.var))
    settings_module.settings.cache_clear()


def by_hand(case: Case) -> dict[str, Any]:
    """What somebody types into the XComs of tasks that never ran."""
    evaluation = case.evaluation("a", "2013-03")
    verdict = Verdict(outcome="pass", subject=digest("a"), reasons=["fine"], evidence=evaluation.evidence)
    approval = Approval(
        use_case="flight_delay",
        package=digest("a"),
        evidence=evaluation.evidence,
        policy=evaluation.policy,
        approvers=["olive"],
    )
    return {
        "evaluation": evaluation.to_dict(),
        "verdict": verdict.to_dict(),
        "registered": case.registered(evaluation).to_dict(),
        "approval": approval.to_dict(),
    }


def register(given: dict[str, Any]) -> Any:
    from millrace_airflow.operators.governance import RegisterModelOperator

    wanted = {name: given[name] for name in ("evaluation", "verdict")}
    operator = RegisterModelOperator(task_id="register_model", use_case="flight_delay", **wanted)
    return operator.execute(CONTEXT)


def release(given: dict[str, Any]) -> Any:
    from millrace_airflow.operators.governance import ReleaseModelOperator

    return ReleaseModelOperator(task_id="release_model", use_case="flight_delay", **given).execute(CONTEXT)


def deploy(release: Any) -> Any:
    from millrace_airflow.operators.deployment import DeployReleaseOperator

    operator = DeployReleaseOperator(task_id="deploy_release", use_case="flight_delay", release=release)
    return operator.execute(CONTEXT)


def nothing_came_of_it(case: Case) -> bool:
    pointer = pointer_path(case.settings.serving_dir, "flight_delay")
    kinds = {entry.kind for entry in Ledger(case.settings).entries()}
    return not pointer.exists() and not Releases(case.settings).list("flight_delay") and not kinds & {"released"}


@pytest.mark.parametrize("absent", ["evaluation", "verdict", "registered", "approval"])
def test_a_task_marked_a_success_by_hand_releases_nothing(case: Case, absent: str) -> None:
    with pytest.raises(ReleaseRefusedError, match=NONE_HANDED_ON):
        release({**by_hand(case), absent: None})
    assert nothing_came_of_it(case)


def test_a_gate_task_marked_a_success_by_hand_registers_and_deploys_nothing(case: Case) -> None:
    with pytest.raises(ReleaseRefusedError, match=NONE_HANDED_ON):
        register({**by_hand(case), "verdict": None})
    with pytest.raises(ReleaseRefusedError, match=NONE_HANDED_ON):
        deploy(None)
    assert nothing_came_of_it(case)


def test_xcoms_written_by_hand_do_not_stand_for_gates_registration_or_approval(case: Case) -> None:
    given = by_hand(case)
    with pytest.raises(ReleaseRefusedError, match="the ledger has no verdict"):
        register(given)
    with pytest.raises(ReleaseRefusedError, match="the ledger has no verdict"):
        release(given)
    evaluation = case.evaluation("a", "2013-03")
    case.judge(evaluation, "fail")
    with pytest.raises(ReleaseRefusedError, match="the last verdict is 'fail'"):
        release(given)
    case.judge(evaluation)
    with pytest.raises(ReleaseRefusedError, match="registered as version 1"):
        release(given)
    case.note_registered(evaluation)
    with pytest.raises(ReleaseRefusedError, match="0 of 1 approvals"):
        release(given)
    assert nothing_came_of_it(case)


def test_a_gate_task_that_was_cleared_and_now_fails_takes_its_pass_back(case: Case) -> None:
    given, evaluation = by_hand(case), case.evaluation("a", "2013-03")
    case.judge(evaluation)
    case.note_registered(evaluation)
    case.judge(evaluation, "insufficient_data")
    with pytest.raises(ReleaseRefusedError, match="the last verdict is 'insufficient_data'"):
        release(given)
    with pytest.raises(ReleaseRefusedError, match="the last verdict is 'insufficient_data'"):
        register(given)


def test_a_release_written_by_hand_is_not_deployed(case: Case) -> None:
    plain: dict[str, Any] = {
        **{"use_case": "flight_delay", "version": 1, "package": digest("a"), "candidate": "xgboost"},
        **{"trainer": "xgboost", "trained_through": "2013-02", "holdout": "2013-03"},
        **{"effective_at": "2013-04-01T04:00:00Z", "evidence": "", "policy": "", "feature_service": "s"},
        **{"threshold": 0.5, "reference": digest("reference")},
    }
    with pytest.raises(ReleaseRefusedError, match="no release of 'flight_delay' is in force"):
        deploy(plain)
    made = record_proven(case.settings, Release(**plain))
    with pytest.raises(ReleaseRefusedError, match="not the one of that number"):
        deploy({**made.to_dict(), "package": digest("evil")})
    with pytest.raises(ReleaseRefusedError, match="has no release 7"):
        deploy({**made.to_dict(), "version": 7})
    (case.settings.var / "evidence" / f"{made.evidence}.json").unlink()
    with pytest.raises(ReleaseRefusedError, match="cannot be had"):
        deploy(made.to_dict())
    assert not pointer_path(case.settings.serving_dir, "flight_delay").exists()


@pytest.fixture
def served(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[House, list[Release]]]:
    """Two releases, the second one in service."""
    releases = put_two_in_service(house, tmp_path)
    for name in ("root", "var", "dags", "packages", "serving_dir", "serving_url", "serving_token"):
        monkeypatch.setenv(f"MILLRACE_{name.upper()}", str(getattr(house.settings, name)))
    settings_module.settings.cache_clear()
    yield house, releases
    settings_module.settings.cache_clear()


def test_lineage_names_the_release_that_was_loaded_not_the_one_asked_for(served: tuple[House, list[Release]]) -> None:
    from millrace_airflow.operators.deployment import DeployReleaseOperator

    _, releases = served
    operator = DeployReleaseOperator(task_id="deploy_release", use_case="flight_delay", release=releases[0].to_dict())
    told = operator.execute(CONTEXT)
    assert (told["release"], told["superseded"]) == (2, 1)
    noted = [*operator.lineage.inputs, *operator.lineage.outputs]
    assert [item.version for item in noted] == ["2", "2"]
    assert noted[0].facts["package"] == releases[1].package


def test_a_rollback_asked_for_before_somebody_elses_does_not_go_one_further(
    served: tuple[House, list[Release]],
) -> None:
    from millrace_airflow.operators.governance import RollbackReleaseOperator

    house, _ = served
    run = {**vars(CONTEXT["dag_run"]), "run_after": datetime.now(UTC)}
    context = {**CONTEXT, "dag_run": SimpleNamespace(**run)}
    restore(house.settings, house.spec, Rollback(version=1, reason="r", actor="bob", key="k"))
    operator = RollbackReleaseOperator(task_id="rollback_release", use_case="flight_delay", reason="too slow")
    with pytest.raises(ReleaseRefusedError, match="release 2 is not in force any more, 1 is"):
        operator.execute(context)
    named = RollbackReleaseOperator(task_id="rollback_again", use_case="flight_delay", version="2", reason="too slow")
    assert named.execute(context)["version"] == 2
