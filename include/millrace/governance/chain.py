"""The hash chain: how an entry is hashed onto the one before it, and how a chain is checked. No database in here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from millrace.artifact import canonical

GENESIS = "0" * 64
"""What stands before the first entry."""

HASHED = ("seq", "recorded_at", "effective_at", "kind", "use_case", "subject", "actor", "payload", "key")
"""Fields under the hash, each as stored: instants and payload are text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenEntry:
    """The first entry that is not as it was written.

    Attributes:
        seq: its place in the chain.
        reason: what is wrong with it.
    """

    seq: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What a walk along a chain found.

    Attributes:
        entries: rows seen.
        head: hash of the last row in order before the first break.
        broken: the first break.
        seen: whether the hash that was looked for is part of the unbroken chain.
    """

    entries: int
    head: str
    broken: BrokenEntry | None
    seen: bool


def link(previous: str, record: Mapping[str, Any]) -> str:
    """sha256 (hex) over the previous hash and the canonical JSON of the record's `HASHED` fields."""
    return hashlib.sha256(previous.encode() + canonical({name: record[name] for name in HASHED})).hexdigest()


def walk(
    rows: Iterable[Mapping[str, Any]], *, look_for: str = GENESIS, after: int = 0, previous: str = GENESIS
) -> ChainReport:
    """Check rows, ordered by `seq`, against their hashes.

    Args:
        rows: `HASHED` fields, `previous` and `hash`.
        look_for: a hash that is expected somewhere in the chain.
        after: number of the row before the first one.
        previous: hash of that row.
    """
    count, head, broken, seen = after, previous, None, look_for == previous
    for row in rows:
        count += 1
        if broken is None and (broken := _fault(row, count, head)) is None:
            head = row["hash"]
            seen = seen or head == look_for
    return ChainReport(entries=count - after, head=head, broken=broken, seen=seen)


def _fault(row: Mapping[str, Any], expected: int, previous: str) -> BrokenEntry | None:
    if row["seq"] != expected:
        return BrokenEntry(seq=expected, reason=f"missing: the next row there is has the number {row['seq']}")
    if row["previous"] != previous:
        return BrokenEntry(
            seq=expected, reason="does not follow the entry before it: rows were swapped, or either was rewritten"
        )
    try:
        whole = link(previous, row) == row["hash"]
    except TypeError:
        whole = False  # a field holds bytes or another type than was written
    return None if whole else BrokenEntry(seq=expected, reason="its content is not what was hashed when it was written")
