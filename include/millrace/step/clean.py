"""The clean partition: a pure function of the raw partition, the records set aside at ingest, and the quarantine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import DatasetRef, digest_of
from millrace.cleanup import clean_schema, without_rows
from millrace.errors import ConservationError, ContractError
from millrace.lake.duck import quoted
from millrace.lake.staging import StagedWriter, staging
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.place import Place, locate_rows, open_raw, positions, record_ids, stand
from millrace.validation.base import ROW
from millrace.validation.cleanup import run_cleanup
from millrace.validation.quarantine import CORRECTED, SCHEMA, WAIVED
from millrace.validation.settlement import decided, opened

log = logging.getLogger(__name__)


def rebuild_clean(
    domain: DomainSpec,
    source: str,
    key: str,
    raw: DatasetRef,
    quarantine: pa.Table | None,
    *,
    settings: Settings,
    rejected: DatasetRef | None = None,
    after: int | None = None,
    note: Mapping[str, str] | None = None,
) -> DatasetRef:
    """Make the clean partition from what is in the lake; nothing of it is judged again.

    Its rows are the raw ones that are not openly quarantined, corrected ones in place of their originals, and records
    that were accepted; cleaned up, in the order of key and position.

    Args:
        domain: the domain.
        source: one of its sources.
        key: of the partition, "" for a static source.
        raw: the raw snapshot that the quarantine was settled on.
        quarantine: all entries of the partition.
        settings: the installation.
        rejected: the snapshot of the records set aside at ingest that belongs to `raw`.
        after: version of the clean write that was newest before the quarantine was read; another since is a conflict.
        note: what else the write is to carry.

    Raises:
        ContractError: clean-up sets aside rows that are to be clean: it was changed since the last validation.
        LakeConflictError: somebody else published the partition in between.
    """
    place = Place(domain=domain, source=source, key=key, settings=settings)
    entries = SCHEMA.empty_table() if quarantine is None else quarantine
    known = place.clean.note(key)
    told = {**clean_note(place, raw, rejected, entries), **(note or {})}
    if known is not None and known[1].get("input") == told["input"]:
        log.info("%s: the clean rows are made of the same, nothing built", place.where)
        return known[0]
    with staging(settings) as folder, open_raw(place, raw, folder) as connection:
        records = record_ids(place, entries, rejected)
        standing = stand(place, connection, entries, records)
        out = positions(locate_rows(place, connection, opened(entries)))
        kept = without_rows(connection, f"SELECT * FROM {quoted(standing.view)}", out, name="publishable_left_out")
        connection.execute(f"CREATE TEMP VIEW publishable AS {kept}")
        cleaned = run_cleanup(connection, place.spec, source="publishable", where=place.where, folder=folder)
        if cleaned.aside:
            names = ", ".join(sorted({item.reason for item in cleaned.aside}))
            raise ContractError(
                f"clean-up sets aside rows that are clean now ({names}): it was changed since the last validation",
                where=place.where,
                remedy="validate the partition again, then replay",
            )
        return publish_clean(place, connection, cleaned.table, folder=folder, note=told, after=after)


def publish_clean(
    place: Place,
    connection: Any,
    cleaned: str,
    *,
    folder: Path,
    note: Mapping[str, str],
    out: npt.NDArray[np.int64] | None = None,
    after: int | None = None,
) -> DatasetRef:
    """Write rows after clean-up as the clean partition, in the order of key and position; they stream by.

    Args:
        place: the partition.
        connection: a DuckDB connection that may write to `folder`.
        cleaned: table or view of the rows with `row#`.
        folder: where the file is made.
        note: what `clean_note` gave.
        out: positions of the rows that stay out.
        after: version of the clean write that must still be the newest.

    Raises:
        LakeConflictError: it is not.
        ConservationError: the rows written are not those that were to be written.
    """
    schema = clean_schema(place.spec)
    query = f"SELECT * FROM {quoted(cleaned)}"
    if out is not None:
        query = without_rows(connection, query, out, name="published_left_out")
    wanted = int(connection.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0])
    order = ", ".join([*(f"{quoted(name)} NULLS LAST" for name in place.spec.key), quoted(ROW)])
    columns = ", ".join(quoted(name) for name in schema.names)
    found = connection.sql(f"SELECT {columns} FROM ({query}) ORDER BY {order}").to_arrow_reader(65_536)
    with StagedWriter(folder / "clean.parquet", schema) as writer:
        for batch in found:
            writer.write(batch.cast(schema))
        staged = writer.close()
    if staged.rows != wanted:
        raise ConservationError(
            f"{wanted} rows are clean, and {staged.rows} were written",
            where=place.where,
            remedy="report this with the domain's `cleanup`; nothing was published",
        )
    return place.clean.replace_file(
        staged, partition=place.key, note=note, evolve=True, dropped=place.spec.dropped, after=after
    )


def clean_note(place: Place, raw: DatasetRef, rejected: DatasetRef | None, entries: pa.Table) -> dict[str, str]:
    """What a clean partition was made of: snapshots, and digests of who stands where and of everything together."""
    stands = dispositions(entries)
    cleanup = [step.model_dump(mode="json") for step in place.spec.cleanup]
    records = None if rejected is None else rejected.version
    made_of = [raw.version, records, stands, cleanup, list(place.spec.raw_columns.items()), place.spec.key]
    return {
        "input": digest_of(made_of),
        "dispositions": stands,
        "raw": str(raw.version),
        "rejected": "" if records is None else str(records),
    }


def dispositions(entries: pa.Table) -> str:
    """Digest of all that a quarantine says about clean rows: which are not, and what takes the place of which."""
    chosen = decided(entries)
    accepted = pc.and_(pc.equal(chosen["resolution"], WAIVED), pc.equal(chosen["kind"], "record"))
    chosen = chosen.filter(pc.or_(accepted, pc.equal(chosen["resolution"], CORRECTED)))
    return digest_of(
        [
            sorted(opened(entries)["row_id"].to_pylist()),
            sorted(
                zip(chosen["row_id"].to_pylist(), [row or "" for row in chosen["corrected"].to_pylist()], strict=True)
            ),
        ]
    )
