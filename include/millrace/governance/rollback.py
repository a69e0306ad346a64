"""An earlier release back in force, in one transaction with the ledger's entry that says who and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Connection

from millrace.artifact import iso
from millrace.errors import LedgerError, ReleaseRefusedError
from millrace.governance.ledger import Ledger, lock_head
from millrace.governance.proof import prove_in_whole, require_whole_ledger
from millrace.governance.release import Release, Releases
from millrace.governance.state import moment_of, reading, writing
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec

log = logging.getLogger(__name__)
ROLLED_BACK = "rolled_back"
SOON = timedelta(hours=24)
"""For so long after a rollback the next one has to name its release."""
_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """What a rollback is asked to do.

    Attributes:
        version: release to go back to; None for the one that the release in force replaced.
        reason: why.
        actor: who asks.
        key: names this act; the same key does it once.
        away_from: where no version is named, the release that has to be in force still; None for any.
        asked_at: when it was asked for, by the clock; None for now.
    """

    version: int | None
    reason: str
    actor: str
    key: str
    away_from: int | None = None
    asked_at: datetime | None = None


def restore(settings: Settings, use_case: UseCaseSpec, asked: Rollback) -> Release:
    """Put an earlier release back in force, at the newest instant in data time that anything was decided on.

    Raises:
        ReleaseRefusedError: as `foresee` says; or the release is not proven, or an entry of the ledger was changed.
        LedgerError: the key was used for another version.
    """
    ledger, releases = Ledger(settings), Releases(settings)
    with writing(settings) as connection:
        lock_head(connection)
        require_whole_ledger(connection, f"rollback of {use_case.name}")
        if (done := _done(ledger, use_case, asked, connection)) is not None:
            return releases.get(use_case, done, connection=connection)
        current, target = _foreseen(releases, use_case, asked, connection)
        if target.version == current.version:
            log.info("%s: release %d is in force already, nothing to roll back", use_case.name, target.version)
            return target
        prove_in_whole(target, settings=settings, connection=connection)
        clock = ledger.newest_effective(use_case.name, connection=connection)
        ledger.append(
            ROLLED_BACK,
            use_case=use_case.name,
            subject=target.package,
            effective_at=clock or moment_of(target.effective_at),
            actor=asked.actor,
            payload={"version": target.version, "from": current.version, "reason": asked.reason},
            key=asked.key,
            connection=connection,
        )
    log.info("%s: rolled back from release %d to %d", use_case.name, current.version, target.version)
    return target


def foresee(settings: Settings, use_case: UseCaseSpec, asked: Rollback) -> tuple[Release, Release]:
    """The release in force, and the one that a rollback would put in its place; nothing is changed.

    Raises:
        ReleaseRefusedError: no such release, or none before (the message lists those there are); or no version is
            named, and the release to go away from is not in force any more, or is in force by a rollback of less than
            `SOON` ago: whoever asks may mean the release that was in force before that.
    """
    with reading(settings) as connection:
        return _foreseen(Releases(settings), use_case, asked, connection)


def _foreseen(
    releases: Releases, use_case: UseCaseSpec, asked: Rollback, connection: Connection
) -> tuple[Release, Release]:
    current = releases.in_force(use_case, connection=connection)
    if asked.version is None and current is not None:
        _require_still_meant(asked, current)
        _require_no_second(releases, asked, current, connection)
    if current is None or (asked.version is None and not current.replaces):
        raise ReleaseRefusedError(
            "nothing was ever released" if current is None else f"there is no release before {current.version}",
            where=f"rollback of {use_case.name}",
            remedy="train and release a model first" if current is None else _others(releases, current, connection),
        )
    version = current.replaces if asked.version is None else asked.version
    return current, releases.get(use_case, version, connection=connection)


def _others(releases: Releases, current: Release, connection: Connection) -> str:
    """What one who goes away from the first release may name."""
    known = releases.list(current.use_case, connection=connection)
    others = [item for item in known if item.version != current.version]
    if not others:
        return f"{current.version} is the only release there is: train and release another, or stop asking it"
    listed = ", ".join(f"{item.version} ({item.candidate}, from {item.effective_at[:10]})" for item in others)
    return f"name the release to go to (`--to`): {listed}"


def _require_still_meant(asked: Rollback, current: Release) -> None:
    """Two who mean "away from this one" at the same time go one back, not two."""
    if asked.away_from not in {None, current.version}:
        raise ReleaseRefusedError(
            f"release {asked.away_from} is not in force any more, {current.version} is: somebody was faster",
            where=f"rollback of {current.use_case}",
            remedy="look at the ledger (`millrace ledger show`); to go further back, name the release",
        )


def _require_no_second(releases: Releases, asked: Rollback, current: Release, connection: Connection) -> None:
    """Two who mean the same, one after the other, go one back, not two."""
    move = releases.move(current.use_case, connection=connection)
    if move is None or move.kind != ROLLED_BACK or (asked.asked_at or datetime.now(UTC)) - move.recorded_at > SOON:
        return
    said = str(move.payload["reason"])
    why = said if len(said) <= _SHOWN else f"{said[:_SHOWN]} …"
    before = current.replaces
    further = f"; one further back is release {before}" if before else ", and there is none before it"
    raise ReleaseRefusedError(
        f"{move.actor} rolled back from release {move.payload['from']} to {current.version}, at "
        f"{iso(move.recorded_at)} because {why!r}{further}",
        where=f"rollback of {current.use_case}",
        remedy=f"nothing is left to do if you meant release {move.payload['from']}; if release {current.version} is "
        f"bad too, name the one to go back to{f' (`--to {before}`)' if before else ''}",
    )


def _done(ledger: Ledger, use_case: UseCaseSpec, asked: Rollback, connection: Connection) -> int | None:
    """The release that a rollback of the same key went to."""
    for entry in ledger.entries(use_case.name, kinds=(ROLLED_BACK,), connection=connection):
        if entry.key == asked.key:
            went_to = int(entry.payload["version"])
            if asked.version not in {None, went_to}:
                raise LedgerError(
                    f"rollback {asked.key!r} went to release {went_to}, not to {asked.version}",
                    where=f"ledger of {use_case.name}",
                    remedy="start a new run for another rollback",
                )
            return went_to
    return None
