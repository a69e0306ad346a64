from __future__ import annotations

import dataclasses
import os
import subprocess
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.children import in_children, statuses
from tests.unit.governance.proposal import Case, digest, lay_mlflow

from millrace.artifact import Verdict
from millrace.errors import ReleaseRefusedError, StaleEvidenceError
from millrace.evaluation.base import Evaluation
from millrace.governance.approval import Approval, check_tree
from millrace.governance.approval_request import Asking, Response
from millrace.governance.approval_round import ApprovalRound
from millrace.governance.ledger import Ledger
from millrace.governance.release import Release, Releases
from millrace.governance.requester import Requester
from millrace.governance.rollback import Rollback, restore
from millrace.governance.waiver import record_waiver
from millrace.registry.base import RegisteredModel
from millrace.registry.mlflow_alias import get_aliases
from millrace.registry.mlflow_client import connect
from millrace.registry.mlflow_tracking import log_candidate
from millrace.settings import Settings
from millrace.step import release as step
from millrace.step.approval import approve_by_policy
from millrace.step.registry import register_model
from millrace.step.release import align_champion, release_model

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """With a root of its own, which is under no git."""
    (tmp_path / "root").mkdir()
    return dataclasses.replace(settings, root=tmp_path / "root")


@pytest.fixture
def case(settings: Settings) -> Case:
    lay_mlflow(settings)
    return Case.of(settings)


def log(case: Case, evaluation: Evaluation) -> Evaluation:
    run = log_candidate(
        case.use_case, evaluation.challenger, {"a": 1}, {"auc": 0.7}, case.seal(evaluation), settings=case.settings
    )
    return dataclasses.replace(evaluation, challenger=dataclasses.replace(evaluation.challenger, run_id=run))


def prepare(case: Case, name: str, holdout: str, champion: int = 0) -> tuple[Evaluation, Verdict, RegisteredModel]:
    evaluation = log(case, case.evaluation(name, holdout, champion))
    verdict = case.judge(evaluation)
    return evaluation, verdict, register_model(case.use_case, case.domain, evaluation, verdict, settings=case.settings)


def run_story(case: Case, name: str, holdout: str, champion: int = 0) -> Release:
    evaluation, verdict, registered = prepare(case, name, holdout, champion)
    approval = approve_by_policy(case.use_case, case.policy, evaluation, verdict, settings=case.settings)
    return release_model(case.use_case, case.policy, evaluation, verdict, registered, approval, settings=case.settings)


def test_a_story_told_twice_ends_with_the_same_releases_versions_and_head(case: Case) -> None:
    def tell() -> tuple[Any, ...]:
        run_story(case, "a", "2013-03")
        run_story(case, "b", "2013-06", 1)
        restore(case.settings, case.use_case, Rollback(version=1, reason="slow", actor="oncall", key="run 1"))
        align_champion(case.use_case, settings=case.settings)
        releases = Releases(case.settings)
        versions = connect(case.settings).search_model_versions("name = 'flight_delay'")
        return (
            releases.list(case.use_case),
            releases.in_force(case.use_case),
            get_aliases("flight_delay", settings=case.settings),
            len(versions),
            Ledger(case.settings).head(),
        )

    first = tell()
    assert first == tell()
    assert [release.version for release in first[0]] == [1, 2]
    assert first[1].version == 1
    assert first[2] == {"challenger": 2, "champion": 1}
    kinds = [entry.kind for entry in Ledger(case.settings).entries()]
    assert kinds == [*["gates_evaluated", "registered", "approved", "released"] * 2, "rolled_back"]
    assert Ledger(case.settings).verify().verified


def test_a_release_binds_all_that_was_judged(case: Case) -> None:
    release = run_story(case, "a", "2013-03")
    evaluation = case.evaluation("a", "2013-03")
    assert (release.package, release.evidence) == (digest("a"), evaluation.evidence)
    assert (release.effective_at, release.feature_service) == ("2013-04-01T04:00:00Z", "flight_delay_v2")
    assert (release.reference, release.threshold, release.policy) == (digest("reference"), 0.5, evaluation.policy)
    assert (release.replaces, release.registry_version) == (0, 1)


def test_registration_asks_the_ledger_for_a_passing_verdict(case: Case) -> None:
    evaluation = log(case, case.evaluation("a", "2013-03"))
    claimed = Verdict(outcome="pass", subject=digest("a"), reasons=[], evidence=evaluation.evidence)
    with pytest.raises(ReleaseRefusedError, match="the ledger has no verdict"):
        register_model(case.use_case, case.domain, evaluation, claimed, settings=case.settings)
    case.judged(evaluation, "fail")
    with pytest.raises(ReleaseRefusedError, match="'fail'"):
        register_model(case.use_case, case.domain, evaluation, claimed, settings=case.settings)
    unsure = dataclasses.replace(claimed, outcome="insufficient_data")
    with pytest.raises(ReleaseRefusedError, match="insufficient_data"):
        register_model(case.use_case, case.domain, evaluation, unsure, settings=case.settings)
    assert get_aliases("flight_delay", settings=case.settings) == {}


def test_an_approval_that_only_the_caller_knows_of_releases_nothing(case: Case) -> None:
    evaluation, verdict, registered = prepare(case, "a", "2013-03")
    forged = Approval(
        use_case="flight_delay",
        package=digest("a"),
        evidence=evaluation.evidence,
        policy=evaluation.policy,
        approvers=["olive"],
    )
    with pytest.raises(ReleaseRefusedError, match="0 of 1 approvals"):
        release_model(case.use_case, case.policy, evaluation, verdict, registered, forged, settings=case.settings)
    assert Releases(case.settings).list("flight_delay") == []


@pytest.mark.parametrize("part", ["evidence", "package", "policy"])
def test_what_does_not_belong_together_is_not_released(case: Case, part: str) -> None:
    evaluation, verdict, registered = prepare(case, "a", "2013-03")
    approval = approve_by_policy(case.use_case, case.policy, evaluation, verdict, settings=case.settings)
    wrong = dataclasses.replace(approval, **{part: digest("wrong")})
    with pytest.raises(ReleaseRefusedError, match=part):
        release_model(case.use_case, case.policy, evaluation, verdict, registered, wrong, settings=case.settings)


def test_evidence_against_another_champion_is_stale_also_after_its_approval(case: Case) -> None:
    run_story(case, "a", "2013-03")
    with pytest.raises(StaleEvidenceError, match="in force is 1"):
        run_story(case, "b", "2013-06", 0)
    evaluation, verdict, registered = prepare(case, "c", "2013-06", 1)
    approval = approve_by_policy(case.use_case, case.policy, evaluation, verdict, settings=case.settings)
    run_story(case, "d", "2013-05", 1)
    with pytest.raises(StaleEvidenceError, match="in force is 2"):
        release_model(case.use_case, case.policy, evaluation, verdict, registered, approval, settings=case.settings)
    assert len(Releases(case.settings).list("flight_delay")) == 2


def test_two_releases_at_once_leave_one_champion(case: Case) -> None:
    prepared = [prepare(case, name, "2013-03") for name in ("a", "b")]
    approvals = [
        approve_by_policy(case.use_case, case.policy, evaluation, verdict, settings=case.settings)
        for evaluation, verdict, _ in prepared
    ]
    ended = in_children(
        *(
            partial(release_model, case.use_case, case.policy, *what, approval, settings=case.settings)
            for what, approval in zip(prepared, approvals, strict=True)
        )
    )
    late = min(ended, key=lambda child: child.status == 0)
    assert [child.status == 0 for child in ended].count(True) == 1, ended
    assert StaleEvidenceError.__name__ in late.error
    assert len(Releases(case.settings).list("flight_delay")) == 1


def die_at(case: Case, act: str) -> None:
    setattr(step, act, lambda *_, **__: os._exit(9))
    run_story(case, "b", "2013-06", 1)


@pytest.mark.parametrize("act", ["set_alias", "succeed"])
def test_a_kill_between_steps_ends_in_the_same_state_once_run_again(case: Case, act: str) -> None:
    run_story(case, "a", "2013-03")
    assert statuses(partial(die_at, case, act)) == [9]
    release = run_story(case, "b", "2013-06", 1)
    assert [item.version for item in Releases(case.settings).list("flight_delay")] == [1, 2]
    assert get_aliases("flight_delay", settings=case.settings) == {"challenger": 2, "champion": 2}
    assert release.registry_version == 2
    assert [entry.kind for entry in Ledger(case.settings).entries()].count("released") == 2


# --- approval


def medium(case: Case, tier: str = "medium") -> tuple[Case, Evaluation, Verdict]:
    case = Case.of(case.settings, tier)
    evaluation = case.evaluation("a", "2013-03")
    verdict = case.judge(evaluation)
    waive(case)
    return case, evaluation, verdict


def waive(case: Case) -> None:
    record_waiver(
        case.use_case, "dirty_tree", digest("a"), "demo", holdout="2013-03", actor="olive", settings=case.settings
    )


def asking(case: Case, evaluation: Evaluation) -> ApprovalRound:
    return ApprovalRound(
        settings=case.settings,
        use_case=case.use_case,
        policy=case.policy,
        proposal=evaluation,
        run="run 1",
        requester=Requester(name="zoe"),
    )


def answer(asked: ApprovalRound, name: str, attempt: int, *, approves: bool = True) -> None:
    one = Asking(task="request_approval_1", attempt=attempt)
    asked.open(one, now=NOW)
    asked.close(one, Response(name=name, approves=approves, at=NOW), now=NOW)


def test_a_rejection_outweighs_the_approvals_before_it_until_somebody_approves_anew(case: Case) -> None:
    case, evaluation, verdict = medium(case)
    evaluation = log(case, evaluation)
    registered = register_model(case.use_case, case.domain, evaluation, verdict, settings=case.settings)
    asked, ask = asking(case, evaluation), (case.use_case, case.policy, evaluation, verdict)
    given = {"settings": case.settings, "run": asked.run, "requester": asked.requester}
    answer(asked, "olive", 1)
    approval = asked.grant()
    answer(asked, "paul", 2, approves=False)
    with pytest.raises(ReleaseRefusedError, match=r"0 of 1 .* since it was last rejected"):
        release_model(*ask, registered, approval, **given)  # type: ignore[arg-type]
    answer(asked, "olive", 3)
    assert release_model(*ask, registered, asked.grant(), **given).version == 1  # type: ignore[arg-type]


def test_a_tree_that_is_not_clean_is_noted_or_refused_by_policy_and_let_pass_by_a_waiver(case: Case) -> None:
    strict = Case.of(case.settings, "medium")
    assert check_tree(case.settings, case.use_case, case.policy, digest("a")).state == "none"
    with pytest.raises(ReleaseRefusedError, match="record a waiver"):
        check_tree(case.settings, strict.use_case, strict.policy, digest("a"))
    waive(strict)
    assert check_tree(case.settings, strict.use_case, strict.policy, digest("a")).state == "none"
    with pytest.raises(ReleaseRefusedError):
        check_tree(case.settings, strict.use_case, strict.policy, digest("b"))


@pytest.mark.parametrize(
    ("rule", "reason", "actor"), [("tests", "r", "o"), ("dirty_tree", " ", "o"), ("dirty_tree", "r", "")]
)
def test_a_waiver_names_a_rule_a_reason_and_a_person(case: Case, rule: str, reason: str, actor: str) -> None:
    with pytest.raises(ReleaseRefusedError, match="dirty_tree"):
        record_waiver(case.use_case, rule, digest("a"), reason, holdout="2013-03", actor=actor, settings=case.settings)


def test_a_run_on_another_commit_appends_nothing(case: Case) -> None:
    run_story(case, "a", "2013-03")
    head = Ledger(case.settings).head()
    subprocess.run(["git", "init", "-q", str(case.settings.root)], check=True)
    (case.settings.root / "dags").mkdir()
    (case.settings.root / "dags" / "changed.py").write_text("x")
    run_story(case, "a", "2013-03")
    assert Ledger(case.settings).head() == head
