"""Whoever calls, and whatever they hand over: nothing is registered, released or deployed without its proof."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.governance.proposal import Case, digest

from millrace.artifact import Verdict
from millrace.errors import ReleaseRefusedError, StaleEvidenceError
from millrace.evaluation.base import Evaluation
from millrace.governance.approval import Approval
from millrace.governance.ledger import Ledger
from millrace.governance.release import Releases
from millrace.governance.succession import succeed
from millrace.registry.base import RegisteredModel
from millrace.settings import Settings
from millrace.spec import load_use_case
from millrace.step.approval import approve_by_policy
from millrace.step.registry import register_model
from millrace.step.release import release_model

Judged = tuple[Evaluation, Verdict, RegisteredModel, Approval]


@pytest.fixture
def case(settings: Settings, tmp_path: Path) -> Case:
    (tmp_path / "root").mkdir()
    return Case.of(dataclasses.replace(settings, root=tmp_path / "root"))


@pytest.fixture
def judged(case: Case) -> Judged:
    """A challenger that passed, is registered and approved, and is not released yet."""
    return judge(case, "a", "2013-03")


def judge(case: Case, name: str, holdout: str, champion: int = 0) -> Judged:
    evaluation = case.evaluation(name, holdout, champion)
    verdict = case.judge(evaluation)
    approval = approve_by_policy(case.use_case, case.policy, evaluation, verdict, settings=case.settings)
    return evaluation, verdict, case.note_registered(evaluation), approval


def release(case: Case, judged: Judged, **changes: Any) -> Any:
    given: dict[str, Any] = {"use_case": case.use_case, "policy": case.policy, **changes}
    return release_model(given["use_case"], given["policy"], *judged, settings=case.settings, actor="olive")


def succeed_in_ledger(case: Case, judged: Judged) -> Any:
    """What `release_model` does but for MLflow's alias."""
    what = (case.settings, case.use_case, case.policy, judged[0])
    return succeed(*what, registry_version=judged[2].version, actor="olive")


def bundle(case: Case, evaluation: Evaluation) -> Path:
    return case.settings.var / "evidence" / f"{evaluation.evidence}.json"


def with_evidence(judged: Judged, evidence: str) -> Judged:
    """The same, everything said to rest on other evidence."""
    evaluation, verdict, registered, approval = judged
    return (
        dataclasses.replace(evaluation, evidence=evidence),
        dataclasses.replace(verdict, evidence=evidence),
        dataclasses.replace(registered, evidence=evidence),
        dataclasses.replace(approval, evidence=evidence),
    )


def test_a_release_names_all_that_it_rests_on(case: Case, judged: Judged) -> None:
    made = succeed_in_ledger(case, judged)
    entry = Ledger(case.settings).entries(kinds=("released",))[0]
    assert [entry.payload[name] for name in ("verdict", "registered", "approvals")] == [1, 3, [2]]
    assert (entry.actor, entry.payload["release"]) == ("olive", made.to_dict())
    assert (case.settings.var / "policies" / f"{made.policy}.json").is_file()


def test_a_digest_of_evidence_that_nobody_made_releases_nothing(case: Case, judged: Judged) -> None:
    with pytest.raises(ReleaseRefusedError, match=r"evidence .* cannot be had: no document"):
        release(case, with_evidence(judged, digest("wrong")))
    assert Releases(case.settings).list("flight_delay") == []


def test_evidence_of_another_model_releases_nothing(case: Case, judged: Judged) -> None:
    other = case.evaluation("b", "2013-03")
    case.judge(other)
    with pytest.raises(ReleaseRefusedError, match="is for package"):
        release(case, with_evidence(judged, other.evidence))


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{}")])
def test_evidence_that_is_gone_or_changed_releases_nothing(
    case: Case, judged: Judged, spoil: Callable[[Path], object]
) -> None:
    spoil(bundle(case, judged[0]))
    with pytest.raises(ReleaseRefusedError, match="cannot be had"):
        release(case, judged)
    assert Releases(case.settings).list("flight_delay") == []


def test_a_champion_that_only_the_caller_names_does_not_hide_that_evidence_is_stale(case: Case, judged: Judged) -> None:
    late = judge(case, "b", "2013-06")
    succeed_in_ledger(case, judged)
    with pytest.raises(StaleEvidenceError, match="in force is 1"):
        release(case, late)
    forged = (dataclasses.replace(late[0], champion=1), *late[1:])
    with pytest.raises(ReleaseRefusedError, match="is for champion 0, not 1"):
        release(case, forged)
    assert len(Releases(case.settings).list("flight_delay")) == 1


def test_a_version_of_the_registry_that_only_the_caller_knows_is_not_released(case: Case, judged: Judged) -> None:
    forged = (*judged[:2], dataclasses.replace(judged[2], version=9), judged[3])
    with pytest.raises(ReleaseRefusedError, match="registered as version 9"):
        release(case, forged)


@pytest.mark.parametrize("change", [{"threshold": 0.9}, {"description": "Another question."}])
def test_a_use_case_that_changed_since_its_evaluation_releases_nothing(
    case: Case, judged: Judged, change: dict[str, Any]
) -> None:
    path = case.settings.dags / "use_cases" / "flight_delay.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    changed = load_use_case(case.settings.dags, "flight_delay")
    with pytest.raises(ReleaseRefusedError, match="is for use case digest"):
        release(case, judged, use_case=changed)


def test_a_policy_that_became_milder_since_the_evaluation_releases_nothing(case: Case, judged: Judged) -> None:
    milder = case.policy.model_copy(update={"gates": {}})
    with pytest.raises(ReleaseRefusedError, match="for policy"):
        release(case, judged, policy=milder)


def test_a_model_without_its_evidence_and_card_is_not_registered(case: Case) -> None:
    evaluation = case.evaluation("a", "2013-03")
    verdict = case.judge(evaluation)
    bundle(case, evaluation).with_suffix(".html").unlink()
    with pytest.raises(ReleaseRefusedError, match=r"has no .*\.html"):
        register_model(case.use_case, case.domain, evaluation, verdict, settings=case.settings)
    bundle(case, evaluation).unlink()
    with pytest.raises(ReleaseRefusedError, match="cannot be had"):
        register_model(case.use_case, case.domain, evaluation, verdict, settings=case.settings)
    assert Ledger(case.settings).entries(kinds=("registered",)) == []
    assert not (case.settings.var / "mlflow" / "mlflow.db").exists()
