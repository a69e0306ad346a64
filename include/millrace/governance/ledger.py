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
from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from millrace.artifact import canonical, digest_of, iso
from millrace.errors import LedgerError
from millrace.governance.audit import LedgerReport, audit, stream
from millrace.governance.chain import GENESIS, HASHED, link
from millrace.governance.state import LEDGER, LEDGER_HEAD, moment_of, reading, stamp, writing
from millrace.settings import Settings

log = logging.getLogger(__name__)
_GREATEST = 2**63 - 1
KINDS: tuple[str, ...] = (
    "policy_fixed",
    "policy_changed",
    "gates_evaluated",
    "registered",
    "waiver",
    "approval_requested",
    "approval_refused",
    "approval_expired",
    "approval_stale",
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
    "partition_ingested",
    "record_disclosed",
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
        newest: int | None = None,
        connection: Connection | None = None,
    ) -> list[Entry]:
        """Entries in the order they were written, of one use case, of some kinds, on one subject where asked.

        With `newest` only the last so many of them.
        """
        query = select(LEDGER).order_by(LEDGER.c.seq if newest is None else LEDGER.c.seq.desc()).limit(newest)
        if use_case is not None:
            query = query.where(LEDGER.c.use_case == use_case)
        if kinds:
            query = query.where(LEDGER.c.kind.in_(list(kinds)))
        if subject is not None:
            query = query.where(LEDGER.c.subject == subject)
        with self._reader(connection) as reader:
            found = [_entry(row._mapping) for row in reader.execute(query)]
        return found if newest is None else found[::-1]

    def use_cases(self) -> list[str]:
        """Names that any entry is about."""
        with reading(self.settings) as reader:
            return list(reader.execute(select(LEDGER.c.use_case).distinct().order_by(LEDGER.c.use_case)).scalars())

    def export(self) -> Iterator[dict[str, Any]]:
        """Entries in order, fields as stored; payload as JSON, of which the hash covers the canonical text."""
        with reading(self.settings) as reader:
            for row in stream(reader, select(LEDGER).order_by(LEDGER.c.seq)):
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
            return audit(reader, expected_head or GENESIS)

    def get(self, seq: int, *, connection: Connection) -> Entry:
        """One entry. Whoever decides on it has asked `audit.require_whole` in the same transaction.

        Raises:
            LedgerError: there is none of that number, or it cannot be read.
        """
        last = connection.execute(select(LEDGER_HEAD.c.seq)).scalar() or 0
        row = None
        if 0 < seq <= _GREATEST:
            row = connection.execute(select(LEDGER).where(LEDGER.c.seq == seq)).first()
        if row is None:
            raise LedgerError(
                f"there is no entry {seq}",
                where="ledger",
                remedy=f"name one of 1 to {last}" if last else "the ledger is empty: train a model first",
            )
        return _entry(row._mapping)

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
    try:
        read = {
            "payload": orjson.loads(row["payload"]),
            "recorded_at": moment_of(row["recorded_at"]),
            "effective_at": moment_of(row["effective_at"]),
        }
    except (TypeError, ValueError) as error:
        raise LedgerError(
            f"entry {row['seq']} cannot be read: {error}",
            where="ledger",
            remedy="`millrace ledger verify` names the first entry that was changed; restore it from a backup",
        ) from error
    return Entry(**{**row, **read})
