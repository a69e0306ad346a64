from __future__ import annotations

from datetime import UTC, datetime

from tests.unit.governance.proposal import Case

from millrace.document import load_document
from millrace.governance.ledger import Ledger
from millrace.governance.policy import effective_at, fix_policy, policy_digest, policy_folder
from millrace.settings import Settings
from millrace.spec import load_policy


def test_policy_and_candidates_are_fixed_once(settings: Settings) -> None:
    case = Case.of(settings)
    first = fix_policy(case.use_case, case.policy, settings=settings)
    assert fix_policy(case.use_case, case.policy, settings=settings, actor="bob") == first
    assert first.payload["policy"] == policy_digest(case.policy)
    assert first.effective_at == case.domain.first_start
    assert len(Ledger(settings).entries()) == 1


def test_a_change_and_its_undoing_are_both_on_record(settings: Settings) -> None:
    case = Case.of(settings)
    medium = load_policy(settings.dags, "medium")
    for policy in (case.policy, medium, medium, case.policy, case.policy):
        fix_policy(case.use_case, policy, settings=settings)
    tiers = [entry.payload["tier"] for entry in Ledger(settings).entries()]
    assert tiers == ["low", "medium", "low"]
    told = [(entry.kind, entry.payload.get("before")) for entry in Ledger(settings).entries()]
    low, middle = policy_digest(case.policy), policy_digest(medium)
    assert told == [("policy_fixed", None), ("policy_changed", low), ("policy_changed", middle)]


def test_a_policy_is_kept_as_it_was_under_its_digest(settings: Settings) -> None:
    case = Case.of(settings)
    fix_policy(case.use_case, case.policy, settings=settings)
    kept = load_document(policy_folder(settings), policy_digest(case.policy))
    assert (kept["tier"], kept["approvals"], len(kept["gates"])) == ("low", 0, len(case.policy.gates))


def test_a_changed_parameter_of_a_candidate_changes_the_digest(settings: Settings) -> None:
    case = Case.of(settings)
    fix_policy(case.use_case, case.policy, settings=settings)
    xgboost = case.use_case.candidates["xgboost"].model_copy(update={"params": {"rounds": 1}})
    changed = case.use_case.model_copy(update={"candidates": {**case.use_case.candidates, "xgboost": xgboost}})
    fix_policy(changed, case.policy, settings=settings)
    one, other = Ledger(settings).entries()
    assert one.payload["candidates"] != other.payload["candidates"]
    assert one.payload["policy"] == other.payload["policy"]
    assert (one.kind, other.kind) == ("policy_fixed", "policy_fixed")


def test_a_release_takes_effect_when_its_holdout_ends(settings: Settings) -> None:
    case = Case.of(settings)
    assert effective_at(case.use_case, "2013-03", settings=settings) == datetime(2013, 4, 1, 4, tzinfo=UTC)
