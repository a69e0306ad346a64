"""What a replay did: sums, the first partitions, and what has to be computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from millrace.artifact import DatasetRef, canonical

_PARTITIONS_TOLD = 6
_STALE_TOLD = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionReplay:
    """What a replay did to one partition.

    Attributes:
        partition: its key, "" for a static source.
        matched: open rows that were meant.
        merged: rows that became clean.
        still_open: rows that were meant and stay in quarantine.
        dismissed: records that were meant, and of which no row can be made: they wait no more.
        clean: the clean snapshot afterwards; None where the partition was never published.
        notes: why rows stay, in words.
    """

    partition: str
    matched: int
    merged: int
    still_open: int
    clean: DatasetRef | None
    dismissed: int = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay did.

    Attributes:
        source: name of the source.
        action: `revalidate`, `waive`, `correct` or `reopen`.
        partitions: the partitions it looked at and had rows to work on, in the order of their keys.
        stale: keys of partitions whose clean rows changed by it: what is made of them has to be computed again.
    """

    source: str
    action: str
    partitions: Sequence[PartitionReplay] = ()
    stale: Sequence[str] = field(default_factory=list)

    @property
    def merged(self) -> int:
        """Rows that became clean."""
        return sum(item.merged for item in self.partitions)

    def to_dict(self) -> dict[str, Any]:
        """JSON types only, under 4 KB: sums over all partitions, the first of them, and the stale keys."""
        plain: dict[str, Any] = {
            "source": self.source,
            "action": self.action,
            "matched": sum(item.matched for item in self.partitions),
            "merged": self.merged,
            "still_open": sum(item.still_open for item in self.partitions),
            "dismissed": sum(item.dismissed for item in self.partitions),
            "partitions": [_told(item) for item in self.partitions[:_PARTITIONS_TOLD]],
            "partitions_left_out": max(len(self.partitions) - _PARTITIONS_TOLD, 0),
            "stale": list(self.stale[:_STALE_TOLD]),
            "stale_left_out": max(len(self.stale) - _STALE_TOLD, 0),
        }
        found: dict[str, Any] = orjson.loads(canonical(plain))
        return found


def _told(item: PartitionReplay) -> dict[str, Any]:
    clean = None if item.clean is None else item.clean.to_dict()
    told = {name: getattr(item, name) for name in ("partition", "matched", "merged", "still_open", "dismissed")}
    return {**told, "clean": clean, "notes": [note[:120] for note in item.notes[:2]]}
