from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.governance.proposal import Case
from tests.unit.governance.test_proof import make, rehashed, tamper

from millrace.artifact import Verdict, canonical
from millrace.errors import ReleaseRefusedError
from millrace.evaluation.base import Evaluation
from millrace.governance.approval import require_verdict
from millrace.governance.ledger import Ledger
from millrace.governance.release import Releases
from millrace.governance.rollback import Rollback, restore
from millrace.governance.succession import succeed
from millrace.governance.verdict_record import note_verdict
from millrace.settings import Settings
from millrace.spec import load_use_case
from millrace.step.approval import approve_by_policy

T = datetime(2013, 4, 1, 4, tzinfo=UTC)
VERDICT = Verdict(outcome="pass", subject="", reasons=[], evidence="")
BACK = Rollback(version=1, reason="slow", actor="oncall", key="run 1")


def test_a_rollback_goes_to_a_proven_release_only(settings: Settings) -> None:
    use_case = load_use_case(settings.dags, "flight_delay")
    first, second = make(settings), make(settings, 2)
    evidence = settings.var / "evidence" / f"{first.evidence}.json"
    kept = evidence.read_bytes()
    evidence.unlink()
    head = Ledger(settings).head()
    with pytest.raises(ReleaseRefusedError, match="cannot be had"):
        restore(settings, use_case, BACK)
    assert (Ledger(settings).head(), Releases(settings).in_force(use_case)) == (head, second)
    evidence.write_bytes(kept)
    assert restore(settings, use_case, BACK) == first == Releases(settings).in_force(use_case)


def test_a_release_in_force_that_lost_its_proof_does_not_hold_up_the_way_back(settings: Settings) -> None:
    use_case = load_use_case(settings.dags, "flight_delay")
    first, second = make(settings), make(settings, 2)
    (settings.var / "evidence" / f"{second.evidence}.json").unlink()
    assert restore(settings, use_case, BACK) == first
    (entry,) = Ledger(settings).entries(kinds=("rolled_back",))
    assert entry.effective_at == T + timedelta(days=60)


def test_nothing_goes_back_on_a_ledger_that_hides_a_decision(settings: Settings) -> None:
    use_case = load_use_case(settings.dags, "flight_delay")
    make(settings)
    make(settings, 2)
    make(settings, 3)
    head = Ledger(settings).head()
    tamper(settings, "UPDATE ledger SET use_case = 'another' WHERE kind = 'released' AND seq = 8")
    for asked in (BACK, dataclasses.replace(BACK, version=3)):
        with pytest.raises(ReleaseRefusedError, match="broken at entry 8"):
            restore(settings, use_case, asked)
    assert Ledger(settings).head() == head


def test_a_verdict_forged_with_its_link_releases_nothing(settings: Settings, tmp_path: Path) -> None:
    case = Case.of(dataclasses.replace(settings, root=tmp_path))
    evaluation = case.evaluation("bad", "2013-03")
    failed = case.judged(evaluation, "fail")
    for name in ("b", "c"):
        case.judged(case.evaluation(name, "2013-03"), "pass")
    case.note_registered(evaluation)
    rehashed(settings, 1, payload=canonical({**failed.payload, "outcome": "pass"}).decode())
    verdict = dataclasses.replace(VERDICT, subject=evaluation.challenger.digest, evidence=evaluation.evidence)
    with pytest.raises(ReleaseRefusedError, match="broken at entry 3"):
        approve_by_policy(case.use_case, case.policy, evaluation, verdict, settings=case.settings)
    with pytest.raises(ReleaseRefusedError, match="broken at entry 3"):
        succeed(case.settings, case.use_case, case.policy, evaluation, registry_version=1, actor="system")


def ready(case: Case, name: str, holdout: str, champion: int = 0) -> Evaluation:
    """A challenger that may be released."""
    evaluation = case.evaluation(name, holdout, champion)
    verdict = case.judge(evaluation)
    case.note_registered(evaluation)
    approve_by_policy(case.use_case, case.policy, evaluation, verdict, settings=case.settings)
    return evaluation


@pytest.mark.parametrize("name", ["candidate", "trainer", "trained_through"])
def test_what_a_release_says_of_its_model_is_what_the_evidence_says(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    case = Case.of(dataclasses.replace(settings, root=tmp_path))
    honest = ready(case, "a", "2013-03")
    forged = dataclasses.replace(honest, challenger=dataclasses.replace(honest.challenger, **{name: "forged"}))
    with pytest.raises(ReleaseRefusedError, match=f"is for {name.replace('_', ' ')} .*, not forged"):
        succeed(case.settings, case.use_case, case.policy, forged, registry_version=1, actor="system")


def test_a_release_that_a_later_decision_would_keep_out_of_force_is_refused(settings: Settings, tmp_path: Path) -> None:
    case = Case.of(dataclasses.replace(settings, root=tmp_path))
    what = (case.settings, case.use_case, case.policy)

    def release(name: str, holdout: str, champion: int) -> int:
        proposal = ready(case, name, holdout, champion)
        return succeed(*what, proposal, registry_version=1, actor="system").version

    assert [release("a", "2013-03", 0), release("b", "2013-04", 1)] == [1, 2]
    Ledger(settings).append(
        "retrain_decided",
        use_case="flight_delay",
        subject="2013-07",
        effective_at=case.domain.partition("2013-07").end,
        actor="system",
        payload={},
    )
    assert restore(case.settings, case.use_case, BACK).version == 1
    with pytest.raises(ReleaseRefusedError, match="never be in force: release 1 is") as caught:
        release("c", "2013-05", 2)
    assert "ends at 2013-08-01" in caught.value.remedy
    assert release("d", "2013-07", 1) == 3
    in_force = Releases(settings).in_force("flight_delay")
    assert in_force is not None and in_force.version == 3


def test_gates_that_answer_pass_then_fail_then_pass_have_answered_three_times(
    settings: Settings, tmp_path: Path
) -> None:
    def judge(outcome: str) -> int:
        about = {"evidence": "e", "policy": "p", "outcome": outcome}
        return note_verdict(Ledger(settings), "u", "package", effective_at=T, actor="system", payload=about).seq

    assert [judge(outcome) for outcome in ("pass", "pass", "fail", "fail", "pass", "pass")] == [1, 1, 2, 2, 3, 3]
    assert require_verdict(Ledger(settings), "u", "package", "e", "p").seq == 3
