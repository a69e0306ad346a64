"""Ingest one partition of one source into its raw table, and set aside what cannot become a row."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from millrace.artifact import DatasetRef, digest_of
from millrace.errors import EmptyPartitionError, SourceUnavailableError
from millrace.governance.ledger import Ledger
from millrace.ingestion import UNASSIGNED, Connections, IngestReport, Source
from millrace.ingestion.connection import environment_connections
from millrace.ingestion.late import compare
from millrace.ingestion.rejected import RejectedFiles, empty, late_records
from millrace.lake import Table
from millrace.lake.schema import arrow_schema
from millrace.lake.staging import StagedFile, StagedWriter, staging
from millrace.partition import Partition
from millrace.privacy import installation_key, protect
from millrace.settings import Settings
from millrace.spec import DomainSpec, SourceSpec
from millrace.step.source import open_source, source_of

log = logging.getLogger(__name__)
WHOLE = "whole"
"""Key of a static source's records in the table of records set aside."""
_READINGS = 3
_PAUSE_S = 1.0
_READ_BY = 1
"""Raise it when the same bytes are read into other rows than before: stored fingerprints are void then."""
_NOT_OF_READING = {"cleanup", "contract", "suite", "history", "known_late", "key", "duplicates", "late"}
_NOT_OF_READING |= {"max_quarantined_share", "memory_limit", "may_be_empty"}
_NOT_OF_READING |= {"watch", "poll_seconds", "settle_seconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    """A whole reading, on disk."""

    raw: StagedFile
    rejected: tuple[StagedFile, StagedFile] | None
    late: int
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What one call works on."""

    domain: DomainSpec
    name: str
    spec: SourceSpec
    partition: Partition
    settings: Settings

    @property
    def key(self) -> str:
        return "" if self.spec.static else self.partition.key

    @property
    def raw(self) -> Table:
        return Table(self.settings.lake, self.domain.raw_table(self.name))

    @property
    def rejected(self) -> Table:
        return Table(self.settings.lake, self.domain.rejected_table(self.name))

    @property
    def privacy_key(self) -> bytes | None:
        return installation_key(self.settings) if self.spec.pii else None


def ingest_partition(
    domain: DomainSpec,
    source: str,
    partition: str,
    *,
    settings: Settings,
    connections: Connections = environment_connections,
    now: datetime | None = None,
) -> IngestReport:
    """Read one partition of a source and replace it in the raw table; unchanged input commits nothing.

    A static source is read whole and replaces its whole table, whatever the partition. Records that cannot become rows
    go to `<domain>/rejected/<source>`. Where the source can say that its bytes are those of the last time, it is not
    even read.

    Args:
        domain: the domain.
        source: one of its sources.
        partition: key.
        settings: the installation.
        connections: gives the connection of a name.
        now: decides whether the partition is closed (the wall clock by default).

    Raises:
        SourceError: the source cannot be read or has not what its spec declares.
        SourceUnavailableError: it went away in every one of three readings.
        EmptyPartitionError: it has no rows for this partition, and the spec does not allow that.
        LakeError: the declared columns dropped or changed the type of one that the raw table has.
        LakeConflictError: other writers won every attempt to commit.
    """
    job = _Job(
        domain=domain,
        name=source,
        spec=source_of(domain, source),
        partition=domain.partition(partition),
        settings=settings,
    )
    known = job.raw.note(job.key)
    recipe = _recipe(job)
    with staging(settings) as folder:
        reader = open_source(job.spec, domain, settings=settings, connections=connections, folder=folder)
        stamp = _stamp(reader.fingerprint(job.partition), recipe)
        if known is not None and stamp and known[1].get("stamp") == stamp:
            log.info("%s %s: the source is as it was, nothing read", reader.origin, partition)
            return _report(job, known[0], known[1], changed=False)
        staged = _stage(job, reader, folder)
        if known is not None and known[1].get("recipe") == recipe and _is_closed(job, now):
            staged = _hold_late(job, known[0], staged, folder)
        return _publish(job, known, staged, {"stamp": stamp, "recipe": recipe}, folder)


def is_current(
    domain: DomainSpec,
    source: str,
    partition: str,
    *,
    settings: Settings,
    connections: Connections = environment_connections,
) -> bool:
    """Whether the raw table holds what the source has now, as far as the source can tell without being read.

    Raises:
        SourceError: the source has nothing there, or cannot be reached.
    """
    key = domain.partition(partition)
    job = _Job(domain=domain, name=source, spec=source_of(domain, source), partition=key, settings=settings)
    known = job.raw.note(job.key)
    if known is None:
        return False
    with staging(settings) as folder:
        reader = open_source(job.spec, domain, settings=settings, connections=connections, folder=folder)
        return known[1].get("stamp") == (_stamp(reader.fingerprint(key), _recipe(job)) or None)


def _stamp(fingerprint: str | None, recipe: str) -> str:
    return "" if fingerprint is None else digest_of([fingerprint, recipe])


def _recipe(job: _Job) -> str:
    """What makes the same bytes into the same rows; where it changed, fingerprints say nothing."""
    key = job.privacy_key
    return digest_of(
        [
            _READ_BY,
            job.spec.model_dump(mode="json", exclude=_NOT_OF_READING),
            [job.domain.first, job.domain.last, job.domain.timezone, job.domain.grain],
            None if key is None else hashlib.sha256(b"recipe" + key).hexdigest(),
        ]
    )


def _stage(job: _Job, reader: Source, folder: Path) -> _Staged:
    """Read to the end, from the beginning again where the source went away in between."""
    for attempt in range(1, _READINGS + 1):
        try:
            return _read(job, reader, folder)
        except SourceUnavailableError:
            if attempt == _READINGS:
                raise
            log.warning("%s went away, reading it again from the beginning", reader.origin)
            time.sleep(_PAUSE_S * attempt)
    raise AssertionError  # pragma: no cover - the loop returns or raises


def _read(job: _Job, reader: Source, folder: Path) -> _Staged:
    started = time.perf_counter()
    key = job.privacy_key
    rejected = RejectedFiles(folder, key, job.spec.moving)
    reading = reader.read(job.partition)
    with StagedWriter(folder / "raw.parquet", arrow_schema(job.spec.raw_columns)) as writer:
        for batch in reading.batches():
            writer.write(batch if key is None else protect(batch, job.spec, key))
        for batch in reading.rejects():
            rejected.write(batch)
        staged = _Staged(raw=writer.close(), rejected=rejected.close(), late=0, notes=reading.notes())
    aside = staged.rejected[0].rows if staged.rejected else 0
    if not staged.raw.rows and not aside and not job.spec.may_be_empty:
        raise EmptyPartitionError(
            f"source {job.name!r} has no rows{f' for partition {job.key}' if job.key else ''}",
            where=f"{reader.origin}, partition {job.partition.key}",
            remedy="run the task again once the data has landed, or set may_be_empty: true",
        )
    took = time.perf_counter() - started
    log.info("%s %s: %d rows read in %.2f s, %d set aside", reader.origin, job.key, staged.raw.rows, took, aside)
    return staged


def _is_closed(job: _Job, now: datetime | None) -> bool:
    """Whether rows that appear now are late, and the spec does anything but merge them."""
    late = job.spec.late
    if late.policy == "merge" or job.spec.static:
        return False
    return (now or datetime.now(UTC)) >= job.partition.end + timedelta(hours=late.closes_after_hours)


def _hold_late(job: _Job, published: DatasetRef, staged: _Staged, folder: Path) -> _Staged:
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
    return _Staged(raw=kept, rejected=rejected.close() or staged.rejected, late=rejected.late, notes=notes)


def _rows(files: list[Path], like: StagedFile, writer: StagedWriter) -> None:
    from pyarrow import parquet

    for path in files:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=like.schema.names):
                writer.write(batch.cast(like.schema))


def _copy(file: StagedFile, key: str, write: Callable[..., None]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(file.path) as stored:
        for batch in stored.iter_batches():
            write(batch.add_column(0, "partition_key", pa.repeat(pa.scalar(key, pa.string()), batch.num_rows)))


def _fresh(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


def _publish(
    job: _Job, known: tuple[DatasetRef, dict[str, str]] | None, staged: _Staged, stamps: dict[str, str], folder: Path
) -> IngestReport:
    """Records set aside first, then the rows: the commit of these is what makes both count."""
    here, nowhere = staged.rejected or (None, None)
    rejected = _replace_rejected(job, job.key or WHOLE, here, folder)
    unassigned = None if job.spec.moving else _replace_rejected(job, UNASSIGNED, nowhere, folder)
    raw = staged.raw
    if rejected is not None and rejected.rows:
        raw = StagedFile(
            path=raw.path, schema=raw.schema, rows=raw.rows, digest=digest_of([raw.digest, rejected.digest])
        )
    note = {
        **stamps,
        "rejected": "" if rejected is None else str(rejected.version),
        "rejected_rows": str(0 if rejected is None else rejected.rows),
        "unassigned_rows": str(0 if unassigned is None else unassigned.rows),
        "late_rows": str(staged.late),
        "notes": "\n".join(staged.notes[:8]),
    }
    added = [] if known is None else _added(job)
    ref = job.raw.replace_file(raw, partition=job.key, note=note, evolve=True)
    if added:
        note["notes"] = "\n".join([f"columns added: {', '.join(added)}", *staged.notes][:8])
    changed = ref.changed or bool(rejected and rejected.changed)
    if staged.late and changed and job.spec.late.policy == "correction":
        _open_correction(job, staged, ref)
    return _report(job, ref, note, changed=changed)


def _open_correction(job: _Job, staged: _Staged, ref: DatasetRef) -> None:
    """Ask in the ledger for somebody's decision on late rows; the same rows ask once."""
    Ledger(job.settings).append(
        "correction_opened",
        use_case=job.domain.name,
        subject=f"{job.domain.name}/{job.name}/{job.key}",
        effective_at=job.partition.end,
        actor="system",
        payload={
            "rows": staged.late,
            "raw": ref.digest,
            "accept": f"millrace replay {job.domain.name} {job.name} --partition {job.key} --reason late --waive",
        },
    )


def _added(job: _Job) -> list[str]:
    stored = {field.name for field in job.raw.open().schema().fields}
    return [name for name in job.spec.raw_columns if name not in stored]


def _replace_rejected(job: _Job, key: str, staged: StagedFile | None, folder: Path) -> DatasetRef | None:
    """The records set aside under a key; where there are none and never were, no table is made for them."""
    if staged is None or not staged.rows:
        before = job.rejected.note(key)
        if before is None or not before[0].rows:
            return None if before is None else before[0]
        staged = empty(folder, f"none_{key}")
    return job.rejected.replace_file(staged, partition=key)


def _report(job: _Job, ref: DatasetRef, note: dict[str, str], *, changed: bool) -> IngestReport:
    version, rows = note.get("rejected", ""), int(note.get("rejected_rows") or 0)
    rejected = None
    if version:
        rejected = DatasetRef(
            table=job.rejected.name, version=int(version), partition=job.key or WHOLE, rows=rows, changed=changed
        )
    return IngestReport(
        source=job.name,
        partition=job.key,
        raw=ref,
        rejected=rejected,
        rows=ref.rows,
        rows_rejected=rows,
        rows_unassigned=int(note.get("unassigned_rows") or 0),
        rows_late=int(note.get("late_rows") or 0),
        changed=changed,
        notes=tuple(line for line in note.get("notes", "").splitlines() if line),
    )
