"""Policy and candidates are fixed before a run: their digests stand in the ledger before anything is trained."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from millrace.artifact import digest_of
from millrace.document import store_document
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.state import writing
from millrace.settings import Settings
from millrace.spec.load import load_domain
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec


def policy_digest(policy: PolicySpec) -> str:
    """sha256 of what a policy says."""
    return digest_of(policy.model_dump(mode="json"))


def policy_folder(settings: Settings) -> Path:
    """Where policies lie by their digest, as they were when a use case ran or was released under them."""
    return settings.var / "policies"


def store_policy(policy: PolicySpec, *, settings: Settings) -> str:
    """Keep what a policy says under its digest; gives that digest."""
    return store_document(policy_folder(settings), policy.model_dump(mode="json"))


def fix_policy(use_case: UseCaseSpec, policy: PolicySpec, *, settings: Settings, actor: str = "system") -> Entry:
    """Write the digests of policy, candidates and spec to the ledger, unless the last such entry has the same.

    It takes effect at the start of the domain's data the first time, later at the newest instant decided on. The entry
    is a `policy_changed` where the policy is not the one before; the policy itself is kept under its digest.
    """
    digests = {
        "tier": policy.tier,
        "policy": store_policy(policy, settings=settings),
        "candidates": digest_of({name: item.model_dump(mode="json") for name, item in use_case.candidates.items()}),
        "spec": digest_of(use_case.model_dump(mode="json")),
    }
    ledger = Ledger(settings)
    with writing(settings) as connection:
        fixed = ledger.entries(use_case.name, kinds=("policy_fixed", "policy_changed"), connection=connection)
        if fixed and digests.items() <= fixed[-1].payload.items():
            return fixed[-1]
        newest = ledger.newest_effective(use_case.name, connection=connection)
        before = fixed[-1].payload["policy"] if fixed else digests["policy"]
        changed = before != digests["policy"]
        return ledger.append(
            "policy_changed" if changed else "policy_fixed",
            use_case=use_case.name,
            subject=digests["policy"],
            effective_at=newest or load_domain(settings.dags, use_case.domain).first_start,
            actor=actor,
            payload={**digests, "before": before} if changed else digests,
            key=digest_of({"digests": digests, "after": fixed[-1].hash if fixed else ""}),
            connection=connection,
        )


def effective_at(use_case: UseCaseSpec, holdout: str, *, settings: Settings) -> datetime:
    """When a release that was evaluated on a partition takes effect: at its end."""
    return load_domain(settings.dags, use_case.domain).partition(holdout).end
