"""What a decision comes to in one partition: who is closed, who stays, who makes room. Nothing is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import DatasetRef
from millrace.errors import ContractError, SpecError
from millrace.ingestion import UNASSIGNED
from millrace.lake.staging import staging
from millrace.step.assessment import Assessment, assess
from millrace.step.place import Place, locate_rows, open_raw, positions, read_records, snapshots
from millrace.step.settlement import describe
from millrace.validation.base import SetAside
from millrace.validation.carried import carry_over
from millrace.validation.contract import SUPERSEDED
from millrace.validation.correction import Decision, is_late
from millrace.validation.quarantine import (
    CORRECTED,
    DISMISSED,
    OPEN,
    REVALIDATED,
    WAIVED,
    identify_records,
    read_quarantine,
)
from millrace.validation.quarantine import (
    SUPERSEDED as SUPERSEDED_ROW,
)
from millrace.validation.settlement import corrected_again, decide, decided, dismissed, opened, reopen, set_aside
from millrace.validation.standing import rows_of_same_key, share_key

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What a decision comes to.

    Attributes:
        base: the write of the quarantine it is made on.
        notes: what that write was made of.
        entries: the quarantine after it.
        matched: ids of the rows that are meant.
        merged: those of them that become clean.
        dismissed: those of them that are dismissed.
        told: why others stay, in words.
    """

    base: DatasetRef | None
    notes: Mapping[str, str]
    entries: pa.Table
    matched: Collection[str] = ()
    merged: Collection[str] = ()
    dismissed: Collection[str] = ()
    told: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What a decision is worked out on."""

    place: Place
    decision: Decision
    connection: Any
    folder: Path
    snapshot: DatasetRef
    entries: pa.Table
    matched: list[str]
    records: Collection[str]
    waiting: Rows
    now: datetime

    def assess(self, entries: pa.Table, fresh: Collection[str] = ()) -> Assessment:
        """Judge the rows as they stand by some entries."""
        return assess(
            self.place,
            self.connection,
            entries,
            self.records,
            folder=self.folder,
            fresh=fresh,
            waiting=self.waiting,
        )

    def close(self, ids: Collection[str], resolution: str) -> pa.Table:
        """The entries with some of them closed."""
        return decide(
            self.entries,
            dict.fromkeys(ids, resolution),
            by=self.decision.by,
            reason=self.decision.reason,
            now=self.now,
            corrected=self.decision.corrected,
        )

    def put_aside(self, entries: pa.Table, found: Assessment, aside: Sequence[SetAside]) -> pa.Table:
        """The entries with further open ones."""
        rows = {int(row) for item in aside for row in item.rows}
        added = {row_id for row_id, row in found.standing.added.items() if row in rows}
        more = describe(self.place, self.connection, found, aside, raw=self.snapshot, folder=self.folder, now=self.now)
        return set_aside(entries, pa.concat_tables([more, found.standing.reopened(entries, aside, added)]))


def resolve(place: Place, decision: Decision, *, now: datetime) -> Resolution:
    """Work a decision out on the quarantine as it is, under contract and clean-up of today.

    Raises:
        SpecError: a row that is meant cannot be waived.
        ContractError: a blocking expectation fails on the outcome.
    """
    base, notes, entries = read_quarantine(place.quarantine, place.key)
    matched = matching(entries, decision)
    if not matched or (place.key == UNASSIGNED and decision.action == "revalidate"):
        return Resolution(base=base, notes=notes, entries=entries, matched=matched)
    if place.key == UNASSIGNED:
        return _resolve_unassigned(place, decision, matched, now=now)
    known = place.clean.note(place.key)
    raw, rejected = snapshots(place, notes, {} if known is None else known[1])
    records = read_records(place, rejected)
    ids = set() if records is None else set(identify_records(records, source=place.name)[1])
    with staging(place.settings) as folder, open_raw(place, raw, folder) as connection:
        carry_over(connection, entries, source=place.name, records=ids)
        ground = _Ground(
            place=place,
            decision=decision,
            connection=connection,
            folder=folder,
            snapshot=raw,
            entries=entries,
            matched=matched,
            records=ids,
            waiting=positions(locate_rows(place, connection, opened(entries))),
            now=now,
        )
        after, merged, told = _ACTIONS[decision.action](ground)
    made_of = {"raw": str(raw.version), "rejected": "" if rejected is None else str(rejected.version)}
    out = sorted(dismissed(after).intersection(matched)) if decision.action == "waive" else []
    return Resolution(base=base, notes=made_of, entries=after, matched=matched, merged=merged, dismissed=out, told=told)


def _resolve_unassigned(place: Place, decision: Decision, matched: list[str], *, now: datetime) -> Resolution:
    """What a decision on records of no partition comes to: no clean row is ever made of them.

    Raises:
        SpecError: they are to be corrected.
    """
    base, notes, entries = read_quarantine(place.quarantine, place.key)
    if decision.action == "correct":
        raise SpecError(
            f"{len(matched)} of the records belong to no partition, so no clean row can be made of them",
            where=f"{place.name}, {UNASSIGNED}",
            remedy="correct them in the source and ingest their partitions again, or waive them",
        )
    resolutions = dict.fromkeys(matched, DISMISSED)
    if decision.action == "reopen":
        found = place.rejected.note(place.key)
        records = read_records(place, None if found is None else found[0])
        there = set() if records is None else set(identify_records(records, source=place.name)[1])
        entries = reopen(entries, matched)
        resolutions = {row_id: SUPERSEDED_ROW for row_id in matched if row_id not in there}
    after = decide(entries, resolutions, by=decision.by, reason=decision.reason, now=now)
    out = matched if decision.action == "waive" else []
    told = _told_dismissed(len(out)) + (_gone(len(resolutions)) if decision.action == "reopen" else [])
    return Resolution(base=base, notes=notes, entries=after, matched=matched, dismissed=out, told=told)


def matching(entries: pa.Table, decision: Decision) -> list[str]:
    """Ids of the rows that a decision means: open ones, those corrected otherwise, or those decided on."""
    if decision.action == "reopen":
        chosen = decided(entries)
    else:
        chosen = entries.filter(
            pc.or_(pc.equal(entries["status"], OPEN), corrected_again(entries, decision.corrected or {}))
        )
    told = zip(chosen["row_id"].to_pylist(), chosen["reasons"].to_pylist(), strict=True)
    return [row_id for row_id, reasons in told if decision.matches(row_id, reasons)]


def _revalidate(ground: _Ground) -> tuple[pa.Table, list[str], list[str]]:
    """Close the rows that break nothing any more; the others get the reasons of today."""
    found = ground.assess(ground.entries)
    _require_open(ground, found)
    chosen = ground.entries.filter(pc.is_in(ground.entries["row_id"], pa.array(ground.matched)))
    places = locate_rows(ground.place, ground.connection, chosen)
    failing = _rows(found.aside)
    passed = {row_id: row for row_id, row in places.items() if row not in failing}
    stay = positions({row_id: row for row_id, row in places.items() if row_id not in passed})
    entries = ground.close(passed, REVALIDATED)
    aside = [*(_only(item, stay) for item in found.aside), *_displaced(ground, found, positions(passed))]
    told = _failing(found.aside, stay) + _gone(len(ground.matched) - len(places))
    return ground.put_aside(entries, found, aside), sorted(passed), told


def _waive(ground: _Ground) -> tuple[pa.Table, list[str], list[str]]:
    """Close the rows as they are; rows of the same key make room. Records that never could be read are dismissed."""
    chosen = ground.entries.filter(pc.is_in(ground.entries["row_id"], pa.array(ground.matched)))
    unread = [row["row_id"] for row in chosen.to_pylist() if row["kind"] == "record" and not is_late(row)]
    if unread:
        rest = sorted(set(ground.matched).difference(unread))
        ground = dataclasses.replace(ground, entries=ground.close(unread, DISMISSED), matched=rest)
        if not rest:
            _require_open(ground, ground.assess(ground.entries))
            return ground.entries, [], _told_dismissed(len(unread))
    found = ground.assess(ground.close(ground.matched, WAIVED))
    lost = sorted(found.lost & set(ground.matched))
    if lost:
        names = sorted({item.reason for item in found.cleaned.aside})
        raise SpecError(
            f"{len(lost)} of the rows do not come through clean-up ({', '.join(names)}), such as {lost[0]}",
            where=ground.place.where,
            remedy="correct them with a file, or change the clean-up and validate the partition again",
        )
    there = sorted({*found.standing.waived, *found.standing.added} & set(ground.matched))
    _require_one_of_each_key(ground, found, there)
    told = _gone(len(ground.matched) - len(there)) + _told_dismissed(len(unread))
    return _merge(ground, ground.close(there, WAIVED), found, there), there, told


def _correct(ground: _Ground) -> tuple[pa.Table, list[str], list[str]]:
    """Judge the corrected rows, and put those that keep the contract in the place of their originals."""
    found = ground.assess(ground.close(ground.matched, CORRECTED), fresh=ground.matched)
    places = {row_id: found.standing.added[row_id] for row_id in ground.matched if row_id in found.standing.added}
    failing = _rows(found.judgement.aside)
    passed = sorted(row_id for row_id, row in places.items() if row not in failing)
    stay = positions({row_id: row for row_id, row in places.items() if row in failing})
    told = _failing(found.judgement.aside, stay) + _gone(len(ground.matched) - len(places))
    kept = len(set(ground.matched) - set(passed) - set(opened(ground.entries)["row_id"].to_pylist()))
    told += [f"{kept} of them stay as they were corrected before"] if kept else []
    entries = ground.close(passed, CORRECTED)
    return _merge(ground, entries, ground.assess(entries), passed), passed, told


def _reopen(ground: _Ground) -> tuple[pa.Table, list[str], list[str]]:
    """Take decisions back: the rows wait again. Where there is no such row any more, there is nothing to wait."""
    standing = ground.assess(ground.entries).standing
    kept = dismissed(ground.entries).intersection(ground.records)
    there = {*standing.waived, *standing.added, *kept} & set(ground.matched)
    gone = sorted(set(ground.matched) - there)
    entries = reopen(ground.entries, ground.matched)
    entries = decide(
        entries,
        dict.fromkeys(gone, SUPERSEDED_ROW),
        by=ground.decision.by,
        reason=ground.decision.reason,
        now=ground.now,
    )
    again = positions(locate_rows(ground.place, ground.connection, opened(entries)))
    _require_open(ground, ground.assess(entries), waiting=again)
    return entries, [], _gone(len(gone))


_ACTIONS: dict[str, Callable[[_Ground], tuple[pa.Table, list[str], list[str]]]] = {
    "revalidate": _revalidate,
    "waive": _waive,
    "correct": _correct,
    "reopen": _reopen,
}


def _merge(ground: _Ground, entries: pa.Table, found: Assessment, ids: Collection[str]) -> pa.Table:
    """The entries after rows were decided on: rows of their key are set aside, and the outcome must not block."""
    displaced = _displaced(ground, found, _positions_of(found, ids))
    after = ground.put_aside(entries, found, displaced)
    _require_open(ground, ground.assess(after) if displaced else found)
    return after


def _displaced(ground: _Ground, found: Assessment, new: Rows) -> list[SetAside]:
    """The clean rows that cannot stay beside rows that become clean: of their key, or equal for a clean-up step."""
    if not len(new):
        return []
    key = tuple(ground.place.spec.key)
    same_key = rows_of_same_key(ground.connection, key, new, cleaned=found.cleaned.table)
    doubled = [SetAside(reason=SUPERSEDED, columns=key, rows=same_key)]
    doubled += [item for item in found.cleaned.aside if item.reason == SUPERSEDED]
    taken = np.union1d(ground.waiting, new)
    return [left for left in (_without(item, taken) for item in doubled) if len(left.rows)]


def _require_one_of_each_key(ground: _Ground, found: Assessment, ids: Collection[str]) -> None:
    key = ground.place.spec.key
    if share_key(ground.connection, key, _positions_of(found, ids), cleaned=found.cleaned.table):
        raise SpecError(
            f"of the rows to be waived several share one key ({', '.join(key)}), and only one can be clean",
            where=ground.place.where,
            remedy="waive one of them, by its id",
        )


def _positions_of(found: Assessment, ids: Collection[str]) -> Rows:
    standing = found.standing
    return positions({name: row for name, row in [*standing.waived.items(), *standing.added.items()] if name in ids})


def _require_open(ground: _Ground, found: Assessment, *, waiting: Rows | None = None) -> None:
    """Refuse an outcome that must not be published; `waiting` are the rows that are open in it, if others than now."""
    blocked = list(found.judgement.blocked)
    faults = [item for item in found.cleaned.aside if item.reason != SUPERSEDED]
    decided_on = np.union1d(ground.waiting if waiting is None else waiting, found.standing.rows)
    if hit := sorted({item.reason for item in faults if len(_without(item, decided_on).rows)}):
        blocked.append(f"clean-up sets aside rows that are clean now ({', '.join(hit)}): validate the partition first")
    if blocked:
        raise ContractError(
            "; ".join(text[:200] for text in blocked[:8]),
            where=ground.place.where,
            remedy="mend the data or the contract, then replay; nothing was merged",
        )


def _failing(aside: Sequence[SetAside], rows: Rows) -> list[str]:
    kept = [_only(item, rows) for item in aside]
    return [f"{len(item.rows)} rows: {item.reason}" for item in kept if len(item.rows)]


def _gone(rows: int) -> list[str]:
    return [f"{rows} of them are no rows of the raw partition, or not any more"] if rows else []


def _told_dismissed(records: int) -> list[str]:
    return [f"{records} of them are records of which no row can be made; they are dismissed"] if records else []


def _rows(aside: Sequence[SetAside]) -> set[int]:
    return {int(row) for item in aside for row in item.rows}


def _only(item: SetAside, rows: Rows) -> SetAside:
    kept = np.intersect1d(item.rows, rows, assume_unique=True)
    return SetAside(reason=item.reason, columns=item.columns, rows=kept, stage=item.stage)


def _without(item: SetAside, rows: Rows) -> SetAside:
    kept = np.setdiff1d(item.rows, rows, assume_unique=True)
    return SetAside(reason=item.reason, columns=item.columns, rows=kept, stage=item.stage)
