"""What the ledger has to say of a raw write: the write itself names it, so that nothing is lost between the two."""

from __future__ import annotations

from collections.abc import Mapping

from millrace.artifact import DatasetRef
from millrace.governance.ledger import Ledger
from millrace.step.intake import IngestJob, StagedReading

_BY = "by"
_ASKS = "asks"


def owed(job: IngestJob, staged: StagedReading, by: str | None) -> dict[str, str]:
    """Notes for the write of a reading that bring its entries about, however the process ends.

    Args:
        job: the ingestion.
        staged: what was read.
        by: the person who takes the rows in by hand; None for a task.
    """
    asks = staged.late and job.spec.late.policy == "correction"
    return {**({_BY: by} if by else {}), **({_ASKS: "correction"} if asks else {})}


def settle(job: IngestJob, write: DatasetRef, note: Mapping[str, str]) -> None:
    """Append what a write owes; entries that are there stay the only ones.

    Args:
        job: the ingestion of that partition.
        write: the raw write.
        note: its notes.
    """
    if by := note.get(_BY):
        _tell_person(job, write, by, set_aside=int(note.get("rejected_rows") or 0))
    if note.get(_ASKS):
        _ask_for_correction(job, write, late=int(note["late_rows"]))


def _tell_person(job: IngestJob, write: DatasetRef, by: str, *, set_aside: int) -> None:
    Ledger(job.settings).append(
        "partition_ingested",
        use_case=job.domain.name,
        subject=f"{job.domain.name}/{job.name}/{job.key or 'whole'}",
        effective_at=job.partition.end if job.key else job.domain.first_start,
        actor=by,
        payload={"by": by, "rows": write.rows, "set_aside": set_aside, "version": write.version},
    )


def _ask_for_correction(job: IngestJob, write: DatasetRef, *, late: int) -> None:
    """Ask for somebody's decision on late rows; the same rows ask once."""
    accept = f'millrace replay {job.domain.name} {job.name} --partition {job.key} --reason late --waive --because "…"'
    Ledger(job.settings).append(
        "correction_opened",
        use_case=job.domain.name,
        subject=f"{job.domain.name}/{job.name}/{job.key}",
        effective_at=job.partition.end,
        actor="system",
        payload={"rows": late, "raw": write.digest, "accept": accept},
    )
