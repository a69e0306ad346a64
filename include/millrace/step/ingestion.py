"""Ingest one partition of one source into its raw table, and set aside what cannot become a row."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from datetime import datetime
from pathlib import Path

from millrace.artifact import DatasetRef, digest_of
from millrace.errors import EmptyPartitionError, SourceUnavailableError
from millrace.ingestion import UNASSIGNED, Connections, IngestReport, Source
from millrace.ingestion.connection import environment_connections
from millrace.ingestion.rejected import RejectedFiles, empty
from millrace.lake.schema import arrow_schema
from millrace.lake.staging import StagedFile, StagedWriter, staging
from millrace.privacy import protect
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.spec.address import public_address
from millrace.step.intake import IngestJob, StagedReading
from millrace.step.late import closed_snapshot, hold_late
from millrace.step.owed import owed, settle
from millrace.step.source import open_source, source_of

log = logging.getLogger(__name__)
WHOLE = "whole"
"""Key of a static source's records in the table of records set aside."""
PLACES = "places"
"""Name of the note on a raw write that tells the files it was read from."""
_PLACES_NOTED = 100
_READINGS = 3
_PAUSE_S = 1.0
_READ_BY = 1
"""Raise it when the same bytes are read into other rows than before: stored fingerprints are void then."""
_NOT_OF_READING = {"cleanup", "contract", "suite", "history", "known_late", "key", "duplicates", "late"}
_NOT_OF_READING |= {"max_quarantined_share", "memory_limit", "may_be_empty", "dropped"}
_NOT_OF_READING |= {"watch", "poll_seconds", "settle_seconds"}


def ingest_partition(
    domain: DomainSpec,
    source: str,
    partition: str,
    *,
    settings: Settings,
    connections: Connections = environment_connections,
    now: datetime | None = None,
    by: str | None = None,
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
        by: the person who takes the rows in by hand, for the ledger; what changed nothing is not told there.

    Raises:
        SourceError: the source cannot be read or has not what its spec declares.
        SourceUnavailableError: it went away in every one of three readings.
        EmptyPartitionError: it has no rows for this partition, and the spec does not allow that.
        LakeError: the declared columns dropped or changed the type of one that the raw table has.
        LakeConflictError: other writers won every attempt to commit.
    """
    job = IngestJob(
        domain=domain,
        name=source,
        spec=source_of(domain, source),
        partition=domain.partition(partition),
        settings=settings,
    )
    known = job.raw.note(job.key)
    if known is not None:
        settle(job, *known)
    recipe = _recipe(job)
    with staging(settings) as folder:
        reader = open_source(job.spec, domain, settings=settings, connections=connections, folder=folder)
        stamp = _stamp(reader.fingerprint(job.partition), recipe)
        if known is not None and stamp and known[1].get("stamp") == stamp:
            log.info("%s %s: the source is as it was, nothing read", reader.origin, partition)
            return _report(job, known[0], known[1], changed=False)
        places = "\n".join(map(public_address, reader.places(job.partition)[:_PLACES_NOTED]))
        staged = _stage(job, reader, folder)
        form = _form(job)
        if known is not None and (published := closed_snapshot(job, now)) is not None:
            staged = hold_late(job, published, staged, folder) if known[1].get("form") == form else _merged(staged)
        notes = {"stamp": stamp, "recipe": recipe, "form": form, PLACES: places, **owed(job, staged, by)}
        return _publish(job, known, staged, notes, folder)


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
    job = IngestJob(domain=domain, name=source, spec=source_of(domain, source), partition=key, settings=settings)
    known = job.raw.note(job.key)
    if known is None:
        return False
    with staging(settings) as folder:
        reader = open_source(job.spec, domain, settings=settings, connections=connections, folder=folder)
        return known[1].get("stamp") == (_stamp(reader.fingerprint(key), _recipe(job)) or None)


def _stamp(fingerprint: str | None, recipe: str) -> str:
    return "" if fingerprint is None else digest_of([fingerprint, recipe])


def _recipe(job: IngestJob) -> str:
    """What makes the same bytes into the same rows; where it changed, fingerprints say nothing."""
    key = job.privacy_key
    unasked = {"ambiguous"} if job.spec.ambiguous == "quarantine" else set()
    return digest_of(
        [
            _READ_BY,
            job.spec.model_dump(mode="json", exclude=_NOT_OF_READING | unasked),
            [job.domain.first, job.domain.last, job.domain.timezone, job.domain.grain],
            None if key is None else hashlib.sha256(b"recipe" + key).hexdigest(),
        ]
    )


def _form(job: IngestJob) -> str:
    """What two readings must share so that their rows can be compared: columns, and what stands for personal values."""
    key = job.privacy_key
    token = None if key is None else hashlib.sha256(b"form" + key).hexdigest()
    return digest_of([list(job.spec.raw_columns.items()), job.spec.pii, token])


def _merged(staged: StagedReading) -> StagedReading:
    note = "raw columns changed: the closed partition was read anew, late rows are merged"
    return dataclasses.replace(staged, notes=[note, *staged.notes])


def _stage(job: IngestJob, reader: Source, folder: Path) -> StagedReading:
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


def _read(job: IngestJob, reader: Source, folder: Path) -> StagedReading:
    started = time.perf_counter()
    key = job.privacy_key
    rejected = RejectedFiles(folder, key, job.spec.moving)
    reading = reader.read(job.partition)
    with StagedWriter(folder / "raw.parquet", arrow_schema(job.spec.raw_columns)) as writer:
        for batch in reading.batches():
            writer.write(batch if key is None else protect(batch, job.spec, key))
        for batch in reading.rejects():
            rejected.write(batch)
        staged = StagedReading(raw=writer.close(), rejected=rejected.close(), late=0, notes=reading.notes())
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


def _publish(
    job: IngestJob,
    known: tuple[DatasetRef, dict[str, str]] | None,
    staged: StagedReading,
    stamps: dict[str, str],
    folder: Path,
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
    ref = job.raw.replace_file(raw, partition=job.key, note=note, evolve=True, dropped=job.spec.dropped)
    if added:
        note["notes"] = "\n".join([f"columns added: {', '.join(added)}", *staged.notes][:8])
    if ref.changed:
        settle(job, ref, note)
    return _report(job, ref, note, changed=ref.changed or bool(rejected and rejected.changed))


def _added(job: IngestJob) -> list[str]:
    stored = {field.name for field in job.raw.open().schema().fields}
    return [name for name in job.spec.raw_columns if name not in stored]


def _replace_rejected(job: IngestJob, key: str, staged: StagedFile | None, folder: Path) -> DatasetRef | None:
    """The records set aside under a key; where there are none and never were, no table is made for them."""
    if staged is None or not staged.rows:
        before = job.rejected.note(key)
        if before is None or not before[0].rows:
            return None if before is None else before[0]
        staged = empty(folder, f"none_{key}")
    return job.rejected.replace_file(staged, partition=key)


def _report(job: IngestJob, ref: DatasetRef, note: dict[str, str], *, changed: bool) -> IngestReport:
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
