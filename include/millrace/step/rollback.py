"""Rollback: an earlier release back in force as one unit, with its reason in the ledger."""

from __future__ import annotations

import logging

from millrace.errors import RegistryUnavailableError, ReleaseRefusedError
from millrace.governance.release import Release
from millrace.governance.succession import Rollback, restore
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec
from millrace.step.release import align_champion

log = logging.getLogger(__name__)


def rollback_release(
    use_case: UseCaseSpec,
    version: int | None,
    reason: str,
    actor: str,
    *,
    settings: Settings,
    key: str,
) -> Release:
    """Put an earlier release back in force as one unit; the same `key` does it once.

    It takes effect at the newest instant in data time that anything was decided on. The ledger is what counts: a
    registry that is away does not hold a rollback up, its alias follows with the next act.

    Args:
        use_case: its use case.
        version: release to go back to; None for the one that the release in force replaced.
        reason: why.
        actor: who asks for it.
        settings: this installation.
        key: names this act, such as the id of an Airflow run.

    Returns:
        The release that is in force by this act.

    Raises:
        ReleaseRefusedError: no such release, or none before; the message lists those there are.
        LedgerError: the same key was used for another version.
    """
    if not reason.strip() or not key.strip():
        raise ReleaseRefusedError(
            "a rollback without a reason or key", where=f"rollback of {use_case.name}", remedy="say why"
        )
    asked = Rollback(version=version, reason=reason, actor=actor, key=key)
    release = restore(settings, use_case, asked)
    try:
        align_champion(use_case, settings=settings)
    except RegistryUnavailableError as error:
        log.warning("rolled back, but the alias in MLflow still names another version: %s", error)
    return release
