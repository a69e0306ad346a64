"""What became of one partition of one source on its way into the lake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.artifact import DatasetRef, PlainValue


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport(PlainValue):
    """Rows taken in, records set aside, and what people should know.

    Attributes:
        source: name of the source.
        partition: key, or "" for a static source.
        raw: the raw snapshot.
        rejected: snapshot of the records set aside before they became rows; None where there never were any.
        rows: rows of the raw snapshot.
        rows_rejected: records of this partition set aside, late ones included.
        rows_unassigned: records of the source of which nobody can tell the partition.
        rows_late: of `rows_rejected`, those that appeared after the partition was closed.
        changed: False where nothing was committed.
        notes: sentences for people, at most eight.
    """

    source: str
    partition: str
    raw: DatasetRef
    rejected: DatasetRef | None = None
    rows: int
    rows_rejected: int = 0
    rows_unassigned: int = 0
    rows_late: int = 0
    changed: bool = True
    notes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The outcome in one line."""
        told = [f"{self.rows} rows" if self.changed else f"unchanged, {self.rows} rows"]
        told += [f"{self.rows_rejected} records set aside"] if self.rows_rejected else []
        told += [f"{self.rows_late} of them late"] if self.rows_late else []
        told += [f"{self.rows_unassigned} records of no partition"] if self.rows_unassigned else []
        return ", ".join([*told, *self.notes[:2]])

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> IngestReport:
        """The value that `to_dict` was called on."""
        rejected = plain["rejected"]
        return cls(
            **{
                **plain,
                "raw": DatasetRef.from_dict(plain["raw"]),
                "rejected": None if rejected is None else DatasetRef.from_dict(rejected),
                "notes": tuple(plain["notes"]),
            }
        )
