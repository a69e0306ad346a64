"""Waivers: a person lets one package pass one rule, with a reason, in the ledger."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from millrace.artifact import digest_of
from millrace.errors import ReleaseRefusedError
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.person import fault_of, plain_text, same_person
from millrace.governance.policy import effective_at
from millrace.governance.requester import OWNER
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec

DIRTY_TREE = "dirty_tree"
RULES: tuple[str, ...] = (DIRTY_TREE,)


def record_waiver(
    use_case: UseCaseSpec, rule: str, package: str, reason: str, *, holdout: str, actor: str, settings: Settings
) -> Entry:
    """Write a waiver; the same person's for another reason is another one.

    An owner may: the ledger and whoever is asked to approve the package read that it is an owner's.

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
    said = plain_text(reason)
    if rule not in RULES or not said or fault_of(actor):
        raise ReleaseRefusedError(
            f"a waiver of {rule!r} by {actor!r} for the reason {said!r}",
            where=f"ledger of {use_case.name}",
            remedy=f"name a rule ({', '.join(RULES)}), a person and a reason",
        )
    own = OWNER if any(same_person(actor, owner) for owner in use_case.owners) else ""
    return Ledger(settings).append(
        "waiver",
        use_case=use_case.name,
        subject=package,
        effective_at=effective_at(use_case, holdout, settings=settings),
        actor=actor,
        payload={"rule": rule, "reason": said, **({"own": own} if own else {})},
        key=digest_of({"rule": rule, "package": package, "actor": actor, "reason": said}),
    )


def waivers_of(
    ledger: Ledger, use_case: UseCaseSpec, package: str, *, connection: Connection | None = None
) -> list[Entry]:
    """The waivers for a package, oldest first."""
    return ledger.entries(use_case.name, kinds=("waiver",), subject=package, connection=connection)
