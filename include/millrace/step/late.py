"""Rows for a closed partition: the published ones stay, the new ones are set aside, and somebody may be asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from millrace.artifact import DatasetRef
from millrace.ingestion import UNASSIGNED
from millrace.ingestion.late import compare
from millrace.ingestion.rejected import RejectedFiles, late_records
from millrace.lake.staging import StagedFile, StagedWriter
from millrace.step.intake import IngestJob, StagedReading


def closed_snapshot(job: IngestJob, now: datetime | None) -> DatasetRef | None:
    """The raw snapshot that was published, where rows that appear now are late and the spec does not merge them.

    What was ingested and never published closes nothing: its source can still mend it.
    """
    late = job.spec.late
    closes = job.partition.end + timedelta(hours=late.closes_after_hours)
    if late.policy == "merge" or job.spec.static or (now or datetime.now(UTC)) < closes:
        return None
    clean, quarantine = job.clean.note(job.key), job.quarantine.note(job.key)
    if clean is None:
        return None
    versions = [int(found[1]["raw"]) for found in (clean, quarantine) if found is not None and found[1].get("raw")]
    return DatasetRef(table=job.raw.name, version=max(versions), partition=job.key) if versions else None


def hold_late(job: IngestJob, published: DatasetRef, staged: StagedReading, folder: Path) -> StagedReading:
    """Keep the published rows as they are; what is new is set aside as `late`."""
    fetched = folder / "published"
    fetched.mkdir()
    files = job.raw.fetch(fetched, version=published.version, partitions=[job.key])
    difference = compare(files, staged.raw.path, memory_limit=job.spec.memory_limit, folder=folder)
    try:
        rejected = RejectedFiles(_fresh(folder, "late"), None, job.spec.moving)
        for file in staged.rejected or ():
            key = job.key if file is staged.rejected[0] else UNASSIGNED  # type: ignore[index]
            _copy(file, key, rejected.write)
        for batch in late_records(difference.rows(), job.key):
            rejected.write(batch)
    finally:
        difference.connection.close()
    notes = list(staged.notes)
    if difference.missing:
        notes.append(f"{difference.missing} rows published earlier are not delivered any more; they stay")
    with StagedWriter(folder / "kept.parquet", staged.raw.schema) as writer:
        _rows(files, staged.raw, writer)
        kept = writer.close()
    return StagedReading(raw=kept, rejected=rejected.close() or staged.rejected, late=rejected.late, notes=notes)


def _rows(files: list[Path], like: StagedFile, writer: StagedWriter) -> None:
    from pyarrow import parquet

    for path in files:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=like.schema.names):
                writer.write(batch.cast(like.schema))


def _copy(file: StagedFile, key: str, write: Callable[..., None]) -> None:
    from pyarrow import parquet

    with parquet.ParquetFile(file.path) as stored:
        for batch in stored.iter_batches():
            write(batch.add_column(0, "partition_key", pa.repeat(pa.scalar(key, pa.string()), batch.num_rows)))


def _fresh(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made
