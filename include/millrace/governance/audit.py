"""Whether the ledger is as it was written, from its first entry to its head."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Row, Select, func, select
from sqlalchemy.engine import Connection

from millrace.artifact import iso
from millrace.errors import LedgerError
from millrace.governance.chain import GENESIS, BrokenEntry, walk
from millrace.governance.state import LEDGER, LEDGER_HEAD, RELEASE, moment_of


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


def audit(connection: Connection, expected_head: str = GENESIS) -> LedgerReport:
    """Check every row, the head, and the releases made by entries.

    Args:
        connection: sees one state of the database.
        expected_head: a hash that must be in the chain.
    """
    _read_any_bytes(connection)
    rows = (row._asdict() for row in stream(connection, select(LEDGER).order_by(LEDGER.c.seq)))
    found = walk(rows, look_for=expected_head)
    stored = connection.execute(select(LEDGER_HEAD.c.seq, LEDGER_HEAD.c.hash)).first()
    broken = found.broken
    if broken is None and (stored is None or (stored.seq, stored.hash) != (found.entries, found.head)):
        last = "no head" if stored is None else f"the head is entry {stored.seq}"
        broken = BrokenEntry(seq=found.entries + 1, reason=f"missing, or the head was changed: {last}")
    if broken is None and not found.seen:
        reason = f"no entry has the hash kept elsewhere ({expected_head}): the end was cut off or rewritten"
        broken = BrokenEntry(seq=found.entries + 1, reason=reason)
    broken = broken or _release_fault(connection)
    return LedgerReport(entries=found.entries, verified=broken is None, broken=broken, head=found.head)


def require_whole(connection: Connection) -> None:
    """Every entry and every release is as it was written: whatever is decided on a part rests on the rest as well.

    A row that was changed may hide a decision as well as forge one, so it does not do to look at those that are found.

    Raises:
        LedgerError: one is not; names the first.
    """
    if (broken := audit(connection).broken) is not None:
        raise LedgerError(
            f"entry {broken.seq}: {broken.reason}",
            where="ledger",
            remedy="restore the state database from a backup, then `millrace ledger verify`; nothing is decided on a "
            "record that was changed",
        )


def stream(connection: Connection, query: Select[Any]) -> Iterator[Row[Any]]:
    """Rows of a query, a thousand at a time."""
    yield from connection.execute(query.execution_options(yield_per=1000))


def _read_any_bytes(connection: Connection) -> None:
    """Let SQLite hand out text that is not UTF-8 any more: such a row is then named, not stumbled over."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.text_factory = lambda content: content.decode("utf-8", "surrogateescape")


def _release_fault(connection: Connection) -> BrokenEntry | None:
    """The first release whose row is not what its entry says, else the first that has an entry and no row."""
    query = select(RELEASE, LEDGER.c.payload).outerjoin(LEDGER, LEDGER.c.seq == RELEASE.c.ledger_seq)
    for row in connection.execute(query.order_by(RELEASE.c.ledger_seq)):
        if row.payload is None or orjson.loads(row.payload).get("release") != _plain(row):
            reason = f"release {row.version} of {row.use_case} is not the one that this entry made"
            return BrokenEntry(seq=row.ledger_seq, reason=reason)
    lost = select(func.min(LEDGER.c.seq)).outerjoin(RELEASE, LEDGER.c.seq == RELEASE.c.ledger_seq)
    lost = lost.where(LEDGER.c.kind == "released", RELEASE.c.ledger_seq.is_(None))
    if (seq := connection.execute(lost).scalar()) is not None:
        return BrokenEntry(seq=seq, reason="the release that this entry made is gone")
    return None


def _plain(row: Row[Any]) -> dict[str, Any] | None:
    """A release as its entry has it; None where its instant is none."""
    stored = {name: value for name, value in row._mapping.items() if name not in {"payload", "ledger_seq"}}
    try:
        return {**stored, "effective_at": iso(moment_of(stored["effective_at"]))}
    except (TypeError, ValueError):
        return None
