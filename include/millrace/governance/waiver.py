"""Waivers: a person lets one package pass one rule, with a reason, in the ledger."""

from __future__ import annotations

from millrace.errors import ReleaseRefusedError
from millrace.governance.approval import DIRTY_TREE
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.policy import effective_at
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec

RULES: tuple[str, ...] = (DIRTY_TREE,)


def record_waiver(
    use_case: UseCaseSpec, rule: str, package: str, reason: str, *, holdout: str, actor: str, settings: Settings
) -> Entry:
    """Write a waiver.

    Args:
        use_case: its use case.
        rule: one of `RULES`.
        package: digest of the package it holds for.
        reason: why; it must say something.
        holdout: partition the package was evaluated on.
        actor: who takes it on themselves.
        settings: the installation.

    Raises:
        ReleaseRefusedError: unknown rule, no reason, or no name.
    """
    if rule not in RULES or not reason.strip() or not actor.strip():
        raise ReleaseRefusedError(
            f"a waiver of {rule!r} by {actor!r} for the reason {reason!r}",
            where=f"ledger of {use_case.name}",
            remedy=f"name a rule ({', '.join(RULES)}), a person and a reason",
        )
    return Ledger(settings).append(
        "waiver",
        use_case=use_case.name,
        subject=package,
        effective_at=effective_at(use_case, holdout, settings=settings),
        actor=actor,
        payload={"rule": rule, "reason": reason},
        key=f"{rule}/{package}/{actor}",
    )
