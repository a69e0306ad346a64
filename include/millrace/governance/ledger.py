"""The ledger: append-only, hash-chained record of every decision, one chain under any number of writers."""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Row, Select, func, select, update
from sqlalchemy.engine import Connection

from millrace.artifact import canonical, digest_of, iso
from millrace.errors import LedgerError
from millrace.governance.chain import GENESIS, HASHED, BrokenEntry, link, walk
from millrace.governance.state import LEDGER, LEDGER_HEAD, RELEASE, moment_of, reading, stamp, writing
from millrace.settings import Settings

log = logging.getLogger(__name__)
KINDS: tuple[str, ...] = (
    "policy_fixed",
    "gates_evaluated",
    "registered",
    "waiver",
    "approved",
    "rejected",
    "released",
    "deployed",
    "rolled_back",
    "alias_corrected",
    "retrain_decided",
    "correction_opened",
    "quarantine_replayed",
    "features_applied",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decision.

    Attributes:
        seq: place in the chain, from 1 without a gap.
        recorded_at: wall clock when it was written.
        effective_at: the instant in data time it is about.
        kind: one of `KINDS`.
        use_case: name of the use case.
        subject: what was decided on (a package digest, a partition, a release).
        actor: who decided: a user name, or `system`.
        payload: details, JSON.
        key: what makes it this decision and no other, within use case and kind.
        previous: hash of the entry before.
        hash: hash of this one.
    """

    seq: int
    recorded_at: datetime
    effective_at: datetime
    kind: str
    use_case: str
    subject: str
    actor: str
    payload: dict[str, Any]
    key: str
    previous: str
    hash: str

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        plain = {name: getattr(self, name) for name in (*HASHED, "previous", "hash")}
        return {**plain, "recorded_at": iso(self.recorded_at), "effective_at": iso(self.effective_at)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerReport:
    """What a check of the ledger found.

    Attributes:
        entries: rows there are.
        verified: True where every row is as it was written and none is missing.
        broken: the first row that is not.
        head: hash of the last good entry.
    """

    entries: int
    verified: bool
    broken: BrokenEntry | None
    head: str

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        broken = None if self.broken is None else {"seq": self.broken.seq, "reason": self.broken.reason}
        return {"entries": self.entries, "verified": self.verified, "broken": broken, "head": self.head}


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of an installation."""

    settings: Settings

    def append(
        self,
        kind: str,
        *,
        use_case: str,
        subject: str,
        effective_at: datetime,
        actor: str,
        payload: Mapping[str, Any],
        key: str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Write a decision, once: the same key within a use case and kind gives back the entry that is there.

        Args:
            kind: one of `KINDS`.
            use_case: name of the use case.
            subject: what was decided on.
            effective_at: instant in data time; never the wall clock.
            actor: who decided.
            payload: details; what differs from run to run of the same decision is only what `key` leaves out.
            key: by default the digest of kind, use case, subject, effective_at and payload (not of the actor: a
                decision that is run again by somebody else is the same decision).
            connection: a `state.writing` transaction, to write in one with the state the entry describes.

        Raises:
            LedgerError: unknown kind, no JSON, an instant without zone, or an entry of the same key on another subject.
        """
        record = _record(kind, use_case, subject, effective_at=effective_at, actor=actor, payload=payload, key=key)
        if connection is not None:
            return self._append(record, connection)
        with reading(self.settings) as reader:
            known = _same(record, reader)
        if known is not None:
            return known
        with writing(self.settings) as writer:
            return self._append(record, writer)

    def _append(self, record: dict[str, Any], connection: Connection) -> Entry:
        seq, previous = lock_head(connection)
        if (known := _same(record, connection)) is not None:
            return known
        row = {**record, "seq": seq + 1, "recorded_at": stamp(datetime.now(UTC)), "previous": previous}
        row["hash"] = link(previous, row)
        connection.execute(LEDGER.insert().values(row))
        connection.execute(update(LEDGER_HEAD).where(LEDGER_HEAD.c.id == 1).values(seq=row["seq"], hash=row["hash"]))
        log.info("ledger %d: %s %s %s by %s", row["seq"], row["use_case"], row["kind"], row["subject"], row["actor"])
        return _entry(row)

    def entries(
        self,
        use_case: str | None = None,
        *,
        kinds: Sequence[str] = (),
        subject: str | None = None,
        connection: Connection | None = None,
    ) -> list[Entry]:
        """Entries in the order they were written, of one use case, of some kinds, on one subject where asked."""
        query = select(LEDGER).order_by(LEDGER.c.seq)
        if use_case is not None:
            query = query.where(LEDGER.c.use_case == use_case)
        if kinds:
            query = query.where(LEDGER.c.kind.in_(list(kinds)))
        if subject is not None:
            query = query.where(LEDGER.c.subject == subject)
        with self._reader(connection) as reader:
            return [_entry(row._mapping) for row in reader.execute(query)]

    def export(self) -> Iterator[dict[str, Any]]:
        """Entries in order, fields as stored; payload as JSON, of which the hash covers the canonical text."""
        with reading(self.settings) as reader:
            for row in _stream(reader, select(LEDGER).order_by(LEDGER.c.seq)):
                stored = {str(name): value for name, value in row._mapping.items()}
                yield {**stored, "payload": orjson.loads(row.payload)}

    def head(self) -> str:
        """Hash of the last entry; kept elsewhere, it proves later that nothing was cut off."""
        with reading(self.settings) as reader:
            found: str = reader.execute(select(LEDGER_HEAD.c.hash)).scalar() or GENESIS
        return found

    def newest_effective(self, use_case: str, *, connection: Connection | None = None) -> datetime | None:
        """The use case's own clock: the newest instant in data time that anything was decided on."""
        query = select(func.max(LEDGER.c.effective_at)).where(LEDGER.c.use_case == use_case)
        with self._reader(connection) as reader:
            found = reader.execute(query).scalar()
        return None if found is None else moment_of(found)

    def verify(self, expected_head: str | None = None) -> LedgerReport:
        """Check every row, the head, and the releases made by entries; names the first row that is wrong.

        Args:
            expected_head: a head kept elsewhere (`millrace ledger export`): an entry that must still be there.
        """
        with reading(self.settings) as reader:
            rows = (row._asdict() for row in _stream(reader, select(LEDGER).order_by(LEDGER.c.seq)))
            found = walk(rows, look_for=expected_head or GENESIS)
            stored = reader.execute(select(LEDGER_HEAD.c.seq, LEDGER_HEAD.c.hash)).first()
            broken = found.broken
            if broken is None and (stored is None or (stored.seq, stored.hash) != (found.entries, found.head)):
                last = "no head" if stored is None else f"the head is entry {stored.seq}"
                broken = BrokenEntry(seq=found.entries + 1, reason=f"missing, or the head was changed: {last}")
            if broken is None and not found.seen:
                reason = f"no entry has the hash kept elsewhere ({expected_head}): the end was cut off or rewritten"
                broken = BrokenEntry(seq=found.entries + 1, reason=reason)
            broken = broken or _release_fault(reader)
        return LedgerReport(entries=found.entries, verified=broken is None, broken=broken, head=found.head)

    @contextlib.contextmanager
    def _reader(self, connection: Connection | None) -> Iterator[Connection]:
        if connection is not None:
            yield connection
        else:
            with reading(self.settings) as reader:
                yield reader


def lock_head(connection: Connection) -> tuple[int, str]:
    """Number and hash of the last entry; until the transaction ends nobody else can write one.

    Raises:
        LedgerError: the head row is gone.
    """
    row = connection.execute(
        select(LEDGER_HEAD.c.seq, LEDGER_HEAD.c.hash).where(LEDGER_HEAD.c.id == 1).with_for_update()
    ).first()
    if row is None:
        raise LedgerError(
            "the ledger has no head row", where="ledger_head", remedy="restore the state database from a backup"
        )
    return row.seq, row.hash


def _record(
    kind: str,
    use_case: str,
    subject: str,
    *,
    effective_at: datetime,
    actor: str,
    payload: Mapping[str, Any],
    key: str | None,
) -> dict[str, Any]:
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        raise LedgerError(
            f"unknown kind of entry {kind!r}",
            where=f"ledger of {use_case}",
            remedy=f"did you mean {near[0]!r}?" if near else f"one of {', '.join(KINDS)}",
        )
    try:
        record = {
            "kind": kind,
            "use_case": use_case,
            "subject": subject,
            "effective_at": stamp(effective_at),
            "actor": actor,
            "payload": canonical(dict(payload)).decode(),
        }
        record["key"] = key or digest_of({name: value for name, value in record.items() if name != "actor"})
    except (TypeError, ValueError) as error:
        raise LedgerError(
            f"cannot be written as an entry: {error}",
            where=f"{kind} of {use_case} on {subject}",
            remedy="give a payload of JSON types and an effective_at with a time zone",
        ) from error
    return record


def _same(record: Mapping[str, Any], connection: Connection) -> Entry | None:
    query = select(LEDGER).where(*(LEDGER.c[name] == record[name] for name in ("use_case", "kind", "key")))
    row = connection.execute(query).first()
    if row is None:
        return None
    if row.subject != record["subject"]:
        raise LedgerError(
            f"entry {row.seq} with the key {record['key']!r} is on {row.subject!r}, not on {record['subject']!r}",
            where=f"{record['kind']} of {record['use_case']}",
            remedy="start a new run for a new decision",
        )
    return _entry(row._mapping)


def _entry(row: Mapping[Any, Any]) -> Entry:
    plain = dict(row)
    plain["payload"] = orjson.loads(plain["payload"])
    return Entry(
        **{**plain, "recorded_at": moment_of(row["recorded_at"]), "effective_at": moment_of(row["effective_at"])}
    )


def _stream(connection: Connection, query: Select[Any]) -> Iterator[Row[Any]]:
    yield from connection.execute(query.execution_options(yield_per=1000))


def _release_fault(connection: Connection) -> BrokenEntry | None:
    """The first release whose row is not what its entry says, else the first that has an entry and no row."""
    query = select(RELEASE, LEDGER.c.payload).outerjoin(LEDGER, LEDGER.c.seq == RELEASE.c.ledger_seq)
    for row in connection.execute(query.order_by(RELEASE.c.ledger_seq)):
        stored = {name: value for name, value in row._mapping.items() if name not in {"payload", "ledger_seq"}}
        stored["effective_at"] = iso(moment_of(stored["effective_at"]))
        if row.payload is None or orjson.loads(row.payload).get("release") != stored:
            reason = f"release {row.version} of {row.use_case} is not the one that this entry made"
            return BrokenEntry(seq=row.ledger_seq, reason=reason)
    lost = select(func.min(LEDGER.c.seq)).outerjoin(RELEASE, LEDGER.c.seq == RELEASE.c.ledger_seq)
    lost = lost.where(LEDGER.c.kind == "released", RELEASE.c.ledger_seq.is_(None))
    if (seq := connection.execute(lost).scalar()) is not None:
        return BrokenEntry(seq=seq, reason="the release that this entry made is gone")
    return None
