"""Rollback: an earlier release back in force and in service as one unit, with its reason in the ledger."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime

from millrace.artifact import PlainValue
from millrace.deployment.httpx_client import ServiceClient
from millrace.deployment.probe import probe_service
from millrace.errors import MillraceError, ReleaseRefusedError
from millrace.governance.person import SHORTEST_REASON, plain_text
from millrace.governance.release import Release, Releases
from millrace.governance.rollback import Rollback, foresee, restore
from millrace.package import Package
from millrace.registry.base import CHAMPION
from millrace.registry.mlflow_alias import moving_aliases
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec
from millrace.step.deployment import deploy_release
from millrace.step.release import align_champion

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackReport(PlainValue):
    """What a rollback did, and what waits for something that is away.

    Attributes:
        use_case: its use case.
        release: version in force by the ledger now.
        replaced: version that was in force before; the same where nothing had to change.
        package: digest of the package in force.
        rows: golden rows that the live service answered; 0 where it could not be asked.
        max_abs_diff: greatest difference of one of them from the sealed prediction.
        done: a sentence for each part that is as it must be.
        pending: a sentence for each part that is not, with what mends it.
    """

    use_case: str
    release: int
    replaced: int
    package: str
    rows: int = 0
    max_abs_diff: float = 0.0
    done: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)


def rollback_release(
    use_case: UseCaseSpec,
    version: int | None,
    reason: str,
    actor: str,
    *,
    settings: Settings,
    key: str,
    asked_at: datetime | None = None,
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
        asked_at: when it was asked for, by the clock; without `version` it is away from what was in force then.

    Returns:
        The release that is in force by this act.

    Raises:
        ReleaseRefusedError: no such release, none before (the message lists those there are), or it is not proven; or
            no release is named, and the one to go away from is not in force any more, or the one in force was itself
            rolled back to within a day.
        PackageError: its package is not whole; nothing was changed.
        LedgerError: the same key was used for another version.
    """
    releases = Releases(settings)
    seen = releases.recorded(use_case, asked_at) if asked_at else releases.in_force(use_case)
    asked = _asked(use_case, version, reason, actor, key=key, seen=seen, asked_at=asked_at)
    release, pending = _restore(use_case, asked, settings=settings)
    if pending:
        log.warning("rolled back, but %s", pending)
    return release


def roll_back(
    use_case: UseCaseSpec,
    version: int | None,
    reason: str,
    actor: str,
    *,
    settings: Settings,
    seen: Release | None = None,
) -> RollbackReport:
    """Put an earlier release back in force, load it into the online service, and prove it by its golden rows.

    Said again it does what is left to do: the same person with the same reason does not go one further back.
    What is away or fails (MLflow, the online service) is named as pending and holds nothing else up.

    Args:
        use_case: its use case.
        version: release to go back to; None for the one that the release in force replaced.
        reason: why.
        actor: who asks for it.
        settings: this installation.
        seen: the release that was in force when the person decided; None for the one that is now.

    Raises:
        ReleaseRefusedError: no such release, none before (the message lists those there are), or it is not proven; or
            no release is named, and `seen` is not in force any more, or was itself rolled back to within a day.
        PackageError: its package is not whole; nothing was changed.
    """
    before = seen or Releases(settings).in_force(use_case)
    asked = _by_hand(use_case, version, reason, actor, settings=settings, seen=before)
    release, alias = _restore(use_case, asked, settings=settings)
    done, pending = [f"the ledger says that release {release.version} is in force"], []
    if alias:
        pending.append(alias)
    else:
        done.append(f"MLflow's alias {CHAMPION!r} names version {release.registry_version}")
    report = RollbackReport(
        use_case=use_case.name,
        release=release.version,
        replaced=before.version if before else 0,
        package=release.package,
        done=done,
        pending=pending,
    )
    return _serve(use_case, release, report, actor=actor, settings=settings)


def foresee_rollback(
    use_case: UseCaseSpec, version: int | None, reason: str, actor: str, *, settings: Settings
) -> tuple[Release, Release]:
    """The release in force and the one that `roll_back` would put in its place; nothing is changed.

    Raises:
        ReleaseRefusedError: `roll_back` would refuse it by what is in force now.
    """
    seen = Releases(settings).in_force(use_case)
    return foresee(settings, use_case, _by_hand(use_case, version, reason, actor, settings=settings, seen=seen))


def _serve(
    use_case: UseCaseSpec, release: Release, report: RollbackReport, *, actor: str, settings: Settings
) -> RollbackReport:
    """The report with what became of the online service; nothing that fails here is raised."""
    done = list(report.done)
    try:
        deploy_release(use_case, release, settings=settings, actor=actor)
        done.append(f"the online service loaded release {release.version}")
        rows, gap = _probe(use_case, release, settings)
    except MillraceError as error:
        return replace(report, done=done, pending=[*report.pending, f"{error.what}; {error.remedy}"])
    done.append(f"{rows} golden rows come back as they were sealed, to {gap:.1g}")
    return replace(report, done=done, rows=rows, max_abs_diff=gap)


def require_reason(use_case: UseCaseSpec, reason: str) -> str:
    """The reason, as the ledger can keep it.

    Raises:
        ReleaseRefusedError: there is none, or too short a one.
    """
    if len(kept := plain_text(reason)) < SHORTEST_REASON:
        raise ReleaseRefusedError(
            f"{kept!r} is no reason for a rollback" if kept else "a rollback without a reason",
            where=f"rollback of {use_case.name}",
            remedy=f"say why, in {SHORTEST_REASON} characters or more; it goes to the ledger",
        )
    return kept


def _by_hand(
    use_case: UseCaseSpec, version: int | None, reason: str, actor: str, *, settings: Settings, seen: Release | None
) -> Rollback:
    """The act of a person at the command line: said again, it is the act that they have begun."""
    reason = require_reason(use_case, reason)
    meant = version if version is not None else _begun(use_case, reason, actor, settings)
    return _asked(use_case, meant, reason, actor, key=f"cli/{secrets.token_hex(8)}", seen=seen)


def _asked(
    use_case: UseCaseSpec,
    version: int | None,
    reason: str,
    actor: str,
    *,
    key: str,
    seen: Release | None,
    asked_at: datetime | None = None,
) -> Rollback:
    if not key.strip():
        raise ReleaseRefusedError(
            "a rollback without a key", where=f"rollback of {use_case.name}", remedy="name the act"
        )
    return Rollback(
        version=version,
        reason=require_reason(use_case, reason),
        actor=actor,
        key=key,
        away_from=seen.version if seen else None,
        asked_at=asked_at,
    )


def _restore(use_case: UseCaseSpec, asked: Rollback, *, settings: Settings) -> tuple[Release, str]:
    """The release in force after it, and what MLflow still lacks.

    Once the ledger says so nothing that fails here is raised: the service has to follow all the same.
    """
    _require_whole(use_case, asked, settings)
    with moving_aliases(use_case.name, settings):
        release = restore(settings, use_case, asked)
        try:
            align_champion(use_case, settings=settings)
        except MillraceError as error:
            return release, (
                f"MLflow's alias {CHAMPION!r} may still name another version: {error.what}; "
                "the next run of the monitoring puts it right"
            )
    return release, ""


def _require_whole(use_case: UseCaseSpec, asked: Rollback, settings: Settings) -> None:
    """What is put in force must be there, byte by byte, before the ledger says so."""
    releases = Releases(settings)
    wanted = asked.version
    if wanted is None and asked.away_from is not None:
        wanted = releases.get(use_case, asked.away_from).replaces
    if wanted and releases.list(use_case):
        release = releases.get(use_case, wanted)
        Package.open(settings.packages / release.package, release.package)


def _begun(use_case: UseCaseSpec, reason: str, actor: str, settings: Settings) -> int | None:
    """The release that this person has just gone back to for this reason, where that was the last move."""
    move = Releases(settings).move(use_case)
    if move is None or move.kind != "rolled_back" or (move.actor, move.payload["reason"]) != (actor, reason):
        return None
    return int(move.payload["version"])


def _probe(use_case: UseCaseSpec, release: Release, settings: Settings) -> tuple[int, float]:
    package = Package.open(settings.packages / release.package, release.package)
    client = ServiceClient(url=settings.serving_url, token=settings.serving_token)
    report = probe_service(client, use_case.name, release.version, package)
    return report.rows, report.max_abs_diff
