"""Replay quarantined rows: judge them again, let them pass, or put corrected ones in their place; then merge, once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from millrace.artifact import DatasetRef, digest_of
from millrace.errors import LakeConflictError, SpecError
from millrace.governance.ledger import Ledger
from millrace.ingestion import UNASSIGNED
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.clean import dispositions, rebuild_clean
from millrace.step.correction import read_decision
from millrace.step.meant import full_ids, require_reasons
from millrace.step.place import Place, list_places, snapshots
from millrace.step.replay_report import PartitionReplay, ReplayReport
from millrace.step.resolution import Resolution, matching, resolve
from millrace.step.source import source_of
from millrace.validation.correction import Action, Decision
from millrace.validation.quarantine import read_quarantine, store_quarantine

log = logging.getLogger(__name__)
__all__ = ["PartitionReplay", "ReplayReport", "count_matches", "list_places", "publish", "replay"]

KIND = "quarantine_replayed"
_ATTEMPTS = 6


def replay(
    domain: DomainSpec,
    source: str,
    *,
    settings: Settings,
    reasons: Sequence[str] | None = None,
    partitions: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    action: Action = "revalidate",
    by: str,
    reason: str = "",
    corrections: Path | None = None,
    now: datetime | None = None,
) -> ReplayReport:
    """Work on the rows that are meant and on no other: all others stay where they are, whatever the contract says.

    Nothing is merged before all partitions were judged. The quarantine is committed first, then the clean partition,
    which is a function of it: killed in between, it is completed by running it again, and nothing is merged twice.

    Args:
        domain: the domain.
        source: one of its sources.
        settings: the installation.
        reasons: only rows set aside for one of these.
        partitions: only these partitions ("" for a static source).
        ids: only these rows; the first signs of an id are enough where no other begins with them.
        action: `revalidate` under contract and clean-up of today; `waive`: they are clean as they are,
            and records of which no row can be made are dismissed; `correct`: rows
            of a file take their place, also of those of an earlier file; `reopen`: rows that were waived or corrected
            wait again, for what they were set aside for (give `ids` or `reasons`).
        by: who decides.
        reason: why; a waiver and who takes a decision back must say so.
        corrections: the file of `correct`: CSV or JSON lines with `row_id` and some or all columns.
        now: when rows are closed (the wall clock by default).

    Raises:
        SpecError: an unknown source, row, reason or column, a waiver without reason, or a row that cannot be waived.
        SourceError: a value of the file does not fit; names its line.
        ContractError: a blocking expectation fails on the outcome.
        LakeConflictError: other writers won every attempt.
    """
    if (action == "correct") != (corrections is not None):
        raise SpecError(
            "`correct` needs a file of corrections, and no other action takes one",
            where="corrections",
            remedy="give the file with action `correct`",
        )
    places = list_places(domain, source, settings=settings, partitions=partitions)
    require_reasons([source_of(domain, source)], places, reasons)
    ids = None if ids is None else full_ids(places, ids)
    corrected = None if corrections is None else read_decision(domain, source, places, corrections)
    decision = Decision(
        action=action,
        by=by,
        reason=reason,
        reasons=None if reasons is None else frozenset(reasons),
        ids=None if ids is None else frozenset(ids),
        corrected=corrected,
    )
    moment = now or datetime.now(UTC)
    planned = {place.key: resolve(place, decision, now=moment) for place in places}
    mark = digest_of([source, decision.digest, None if partitions is None else sorted(partitions)])
    done = [_carry_out(place, decision, planned[place.key], mark=mark, now=moment) for place in places]
    found = [(told, stale) for told, stale in done if told.matched or stale]
    return ReplayReport(
        source=source,
        action=action,
        partitions=[told for told, _ in found],
        stale=[told.partition for told, stale in found if stale],
    )


def count_matches(
    domain: DomainSpec,
    source: str,
    *,
    settings: Settings,
    reasons: Sequence[str] | None = None,
    partitions: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    action: Action = "revalidate",
    corrections: Path | None = None,
) -> dict[str, int]:
    """Partition → rows that a replay would work on; those without any left out. Nothing is judged."""
    places = list_places(domain, source, settings=settings, partitions=partitions)
    require_reasons([source_of(domain, source)], places, reasons)
    wanted = Decision(
        action=action,
        by="anybody",
        reason="counted",
        reasons=None if reasons is None else frozenset(reasons),
        ids=None if ids is None else frozenset(full_ids(places, ids)),
        corrected=None if corrections is None else read_decision(domain, source, places, corrections),
    )
    found = {}
    for place in places:
        rows = len(matching(read_quarantine(place.quarantine, place.key)[2], wanted))
        if rows:
            found[place.key] = rows
    return found


def _carry_out(
    place: Place, decision: Decision, resolution: Resolution, *, mark: str, now: datetime
) -> tuple[PartitionReplay, bool]:
    """Commit what was resolved: the quarantine, then the clean rows that follow from it."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            if _store(place, decision, resolution):
                break
        except LakeConflictError:
            if attempt == _ATTEMPTS:
                raise
        log.info("%s: somebody else was faster, resolving again", place.where)
        resolution = resolve(place, decision, now=now)
    clean, stale = publish(place, mark=mark)
    told = PartitionReplay(
        partition=place.key,
        matched=len(resolution.matched),
        merged=len(resolution.merged),
        still_open=len(resolution.matched) - len(resolution.merged) - len(resolution.dismissed),
        dismissed=len(resolution.dismissed),
        clean=clean,
        notes=resolution.told,
    )
    log.info("%s: %d rows meant, %d merged by %s", place.where, told.matched, told.merged, decision.by)
    return told, stale


def _store(place: Place, decision: Decision, resolution: Resolution) -> bool:
    """Commit the quarantine; False where somebody else has done the very same in between."""
    base = resolution.base
    if not resolution.matched:
        return True
    _record(place, decision, resolution)
    stored = store_quarantine(place.quarantine, resolution.entries, place.key, note=resolution.notes, after=base)
    return stored is None or stored.changed or (base is not None and stored.version == base.version)


def publish(place: Place, *, mark: str) -> tuple[DatasetRef | None, bool]:
    """Bring the clean partition up to the quarantine, where it is not yet.

    Args:
        place: the partition.
        mark: names the replay.

    Returns:
        The clean snapshot, None where there is none; and whether this replay is what it was last changed by: a run
        that was killed before it could tell anybody is followed by one that does.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        known = place.clean.note(place.key)
        _, notes, entries = read_quarantine(place.quarantine, place.key)
        if place.key == UNASSIGNED or (known is not None and known[1].get("dispositions") == dispositions(entries)):
            return (None, False) if known is None else (known[0], known[1].get("replay") == mark)
        raw, rejected = snapshots(place, notes, {} if known is None else known[1])
        try:
            clean = rebuild_clean(
                place.domain,
                place.source,
                place.key,
                raw,
                entries,
                settings=place.settings,
                rejected=rejected,
                after=-1 if known is None else known[0].version,
                note={"replay": mark},
            )
        except LakeConflictError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return clean, clean.changed
    raise AssertionError  # pragma: no cover - the loop returns or raises


def _record(place: Place, decision: Decision, resolution: Resolution) -> None:
    """Write the decision into the ledger before it takes effect: nothing is clean by a word that stands nowhere."""
    domain = place.domain
    moves = place.key not in ("", UNASSIGNED)
    payload = {
        "action": decision.action,
        "by": decision.by,
        "reason": decision.reason,
        "matched": len(resolution.matched),
        "merged": len(resolution.merged),
        "dismissed": len(resolution.dismissed),
        "rows": digest_of(sorted(resolution.matched)),
        "rows_merged": digest_of(sorted(resolution.merged)),
        "reasons": sorted(decision.reasons or []),
        "corrections": None if decision.corrected is None else digest_of(dict(decision.corrected)),
        "quarantine": "" if resolution.base is None else resolution.base.digest,
    }
    Ledger(place.settings).append(
        KIND,
        use_case=domain.name,
        subject=f"{domain.name}/{place.source}/{place.key or 'whole'}",
        effective_at=domain.partition(place.key).end if moves else domain.first_start,
        actor=decision.by,
        payload=payload,
    )
