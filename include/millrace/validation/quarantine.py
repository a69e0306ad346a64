"""The quarantine: rows and records set aside as they came, each with its reasons, none of them ever lost."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import DatasetRef, canonical
from millrace.lake import Table, duck
from millrace.lake.commits import PARTITION
from millrace.lake.digest import content_digest
from millrace.lake.schema import TIMESTAMP
from millrace.validation.base import ROW, SetAside
from millrace.validation.content import contents_of, plain_values, reasons_text, row_id
from millrace.validation.naming import BATCH_ROWS, CARRIED, carried_table, number_rows, raw_schema, sorter

OPEN, CLOSED = "open", "closed"
WAIVED, CORRECTED, REVALIDATED, SUPERSEDED = "waived", "corrected", "revalidated", "superseded"
DISMISSED = "dismissed"
SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("raw", pa.string()),
        ("reasons", pa.string()),
        ("status", pa.string()),
        ("resolution", pa.string()),
        ("resolved_by", pa.string()),
        ("resolved_reason", pa.string()),
        ("resolved_at", TIMESTAMP),
        ("corrected", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("header", pa.string()),
        ("sha256", pa.string()),
        ("raw_version", pa.int64()),
        (PARTITION, pa.string()),
        ("first_seen", TIMESTAMP),
    ]
)
"""`kind` is `row` or `record` (what never became a row). `raw` is the row as JSON, or the record's text, null where it
was too long to keep. `reasons` is a list of expectation, column and value. `status` is `open`, or `closed` with its
`resolution`: `waived`, `corrected` (`corrected` is the row that stands in its place), `revalidated` (it breaks nothing
any more), `superseded` (its source delivers it no more) or `dismissed` (a record of which no row can be made, and which
somebody said to be none of the data's). `file` to `sha256` say where a record lies."""
_NOT_CONTENT = ["raw_version", "first_seen", "resolved_at"]
"""When and in which snapshot a row was met differs between equal runs, so none of it is part of the digest."""
_PLACES = ("file", "line", "offset", "length", "header", "sha256")


def describe_rows(
    connection: Any,
    aside: Sequence[SetAside],
    *,
    source: str,
    snapshot: DatasetRef,
    now: datetime,
    raw: str = "raw",
    cleaned: str = "cleaned",
    spill: Path | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[pa.RecordBatch]:
    """Entries of the quarantine for rows set aside, in the order of their ids; memory stays within a few batches.

    A row's id is a digest of source and content; rows of equal content are told apart by a running number over all of
    them, so that an id means the same row as long as the partition holds it, whatever the contract says of it. A row
    that `carry_over` found to be that of an older entry keeps the id and the text it had then.

    Args:
        connection: a DuckDB connection.
        aside: why which rows are set aside.
        source: name of the raw table.
        snapshot: the raw snapshot they were read from.
        now: when they are met.
        raw: view of the raw rows with `row#`.
        cleaned: table of the rows after clean-up with `row#`, from which reasons on clean columns take the values.
        spill: folder for what does not fit into memory.
        batch_rows: rows of a batch.
    """
    if not any(len(item.rows) for item in aside):
        return
    with sorter(spill) as entries:
        found, schema, judged = _read_aside(connection, aside, raw=raw, cleaned=cleaned)
        for batch in found.to_arrow_reader(batch_rows):
            contents, digests = contents_of(batch.select(schema.names))
            numbered = zip(digests, batch["number#"].to_pylist(), strict=True)
            ids = [row_id(source, digest, number) for digest, number in numbered]
            ids = [kept or name for kept, name in zip(batch["id#"].to_pylist(), ids, strict=True)]
            contents = [kept or text for kept, text in zip(batch["raw#"].to_pylist(), contents, strict=True)]
            entries.add(ids, contents, _reasons(batch, aside, schema.names, judged))
        for batch in entries.sorted(batch_rows):
            columns = {name: batch[name] for name in ("row_id", "raw", "reasons")}
            yield _entries(columns, batch.num_rows, kind="row", source=source, snapshot=snapshot, now=now)


def describe_records(rejects: pa.Table, *, source: str, snapshot: DatasetRef, now: datetime) -> pa.Table:
    """Entries for the records of a partition that never became rows, in the order of their ids.

    Args:
        rejects: as `ingestion.base.REJECTS`, without the key of the partition.
        source: name of the raw table.
        snapshot: the raw snapshot that was ingested with them.
        now: when they are met.
    """
    rows, ids = identify_records(rejects, source=source)
    told = zip(*(rows[name].to_pylist() for name in ("reason", "column", "detail")), strict=True)
    reasons = [reasons_text([(reason, [column or ""], [detail])]) for reason, column, detail in told]
    columns = {"row_id": pa.array(ids, pa.string()), "reasons": pa.array(reasons, pa.string())}
    columns |= {name: rows[name].combine_chunks() for name in ("raw", *_PLACES)}
    batch = _entries(columns, rows.num_rows, kind="record", source=source, snapshot=snapshot, now=now)
    return pa.Table.from_batches([batch]).sort_by("row_id")


def identify_records(rejects: pa.Table, *, source: str) -> tuple[pa.Table, list[str]]:
    """The records in the order of their places, and their ids: digests of source, bytes and running number."""
    rows = rejects.sort_by([(name, "ascending") for name in ("file", "line", "offset", "sha256", "raw")])
    seen: Counter[str] = Counter()
    ids = []
    for digest, text in zip(rows["sha256"].to_pylist(), rows["raw"].to_pylist(), strict=True):
        content = hashlib.sha256(canonical(["record", digest or text])).hexdigest()
        ids.append(row_id(source, content, seen[content]))
        seen[content] += 1
    return rows, ids


def read_quarantine(
    table: Table, partition: str, *, version: int | None = None
) -> tuple[DatasetRef | None, dict[str, str], pa.Table]:
    """What the quarantine holds of a partition, in the order of ids: its newest write, the notes on it, its entries."""
    found = table.note(partition)
    if found is None:
        return None, {}, SCHEMA.empty_table()
    ref, notes = found
    rows = table.read(version=version or ref.version, partitions=[partition] if partition else None)
    return ref, notes, with_all_columns(rows).sort_by("row_id")


def with_all_columns(rows: pa.Table) -> pa.Table:
    """Entries in the columns of today; those written before a column was there get what it meant then."""
    defaults = {"kind": "row", "resolution": "", "resolved_by": "", "resolved_reason": ""}
    columns = []
    for field in SCHEMA:
        known = field.name in rows.column_names
        column = rows[field.name].cast(field.type) if known else pa.nulls(rows.num_rows, field.type)
        columns.append(pc.fill_null(column, defaults[field.name]) if field.name in defaults else column)
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def store_quarantine(
    table: Table,
    rows: pa.Table,
    partition: str,
    *,
    note: Mapping[str, str] | None = None,
    after: DatasetRef | None = None,
) -> DatasetRef | None:
    """Replace a partition of the quarantine by what `settle` gave; equal content commits nothing.

    Args:
        table: the quarantine.
        rows: all entries of the partition.
        partition: its key.
        note: what the write is to carry, such as the snapshots it was made from.
        after: the write that `rows` were settled on (None where there was none): if another came after it, this one
            is refused, since it would take back what that one decided.

    Returns:
        The snapshot; None where there is nothing to set aside and never was.

    Raises:
        LakeConflictError: somebody else has written the partition since `after`; settle on that and try again.
    """
    if after is None and not rows.num_rows and partition not in table.newest():
        return None
    return table.replace(
        rows.drop_columns([PARTITION]) if partition else rows,
        partition=partition,
        digest=content_digest(rows.drop_columns(_NOT_CONTENT)),
        note=note,
        evolve=True,
        after=-1 if after is None else after.version,
    )


def count_open(table: Table) -> int:
    """Rows with status open over all partitions."""
    if not table.exists():
        return 0
    return int(pc.sum(pc.equal(table.read(columns=["status"])["status"], OPEN)).as_py() or 0)


def _read_aside(
    connection: Any, aside: Sequence[SetAside], *, raw: str, cleaned: str
) -> tuple[Any, pa.Schema, list[str]]:
    """The rows set aside, their numbers among equal ones, and the clean values judged."""
    schema = raw_schema(connection, raw)
    carried_table(connection)
    positions = np.unique(np.concatenate([item.rows for item in aside])).astype(np.int64)
    connection.register("aside_position", pa.table({ROW: positions}))
    connection.execute("CREATE OR REPLACE TEMP TABLE aside_row AS SELECT * FROM aside_position")
    connection.unregister("aside_position")
    number_rows(
        connection, raw, f'SELECT hash FROM hashed_row SEMI JOIN aside_row USING ("{ROW}")', table="numbered_aside"
    )
    there = duck.arrow(connection.sql(f"SELECT * FROM {cleaned} LIMIT 0")).schema.names
    wanted = dict.fromkeys(name for item in aside if item.stage == "clean" for name in item.columns)
    judged = [name for name in wanted if name in there]
    values = "".join(f", c.{duck.quoted(name)} AS {duck.quoted('clean#' + name)}" for name in judged)
    found = connection.sql(
        f"""
        SELECT r.*{values}, n.number AS "number#", c."{ROW}" IS NOT NULL AS "cleaned#",
            k.row_id AS "id#", k.raw AS "raw#"
        FROM {raw} r
        JOIN (SELECT * FROM numbered_aside SEMI JOIN aside_row USING ("{ROW}")) n ON r."{ROW}" = n."{ROW}"
        LEFT JOIN (SELECT * FROM {cleaned} SEMI JOIN aside_row USING ("{ROW}")) c ON r."{ROW}" = c."{ROW}"
        LEFT JOIN {CARRIED} k ON r."{ROW}" = k."{ROW}"
        """
    )
    return found, schema, judged


def _reasons(batch: pa.RecordBatch, aside: Sequence[SetAside], raw: Sequence[str], judged: Sequence[str]) -> list[str]:
    """The reasons of each row of a batch as text."""
    positions = batch[ROW].to_numpy()
    told: dict[int, list[tuple[str, Sequence[str], Sequence[Any]]]] = {}
    came_through = batch["cleaned#"].to_numpy(zero_copy_only=False)
    for item in aside:
        places = np.flatnonzero(_is_in(positions, item.rows))
        if not len(places):
            continue
        chosen = batch.take(pa.array(places))
        before = [_values(chosen, name, raw) for name in item.columns]
        after = [
            _values(chosen, "clean#" + name, judged and [f"clean#{each}" for each in judged]) or known
            for name, known in zip(item.columns, before, strict=True)
        ]
        for index, place in enumerate(places):
            seen = after if item.stage == "clean" and came_through[place] else before
            values = [column[index] if column else None for column in seen]
            told.setdefault(int(place), []).append((item.reason, item.columns, values))
    return [reasons_text(told[place]) for place in range(batch.num_rows)]


def _values(rows: pa.RecordBatch, name: str, there: Sequence[str]) -> list[Any]:
    return plain_values(rows[name]) if name in there else []


def _is_in(positions: Any, among: Any) -> Any:
    """Which positions are among sorted ones."""
    if not len(among):
        return np.zeros(len(positions), bool)
    places = np.minimum(np.searchsorted(among, positions), len(among) - 1)
    return np.asarray(among)[places] == positions


def _entries(
    columns: Mapping[str, Any], rows: int, *, kind: str, source: str, snapshot: DatasetRef, now: datetime
) -> pa.RecordBatch:
    same = {
        "source": source,
        "kind": kind,
        "status": OPEN,
        "resolution": "",
        "resolved_by": "",
        "resolved_reason": "",
        "raw_version": snapshot.version,
        PARTITION: snapshot.partition,
        "first_seen": now,
    }
    arrays = []
    for field in SCHEMA:
        if field.name in columns:
            arrays.append(columns[field.name].cast(field.type))
        elif field.name in same:
            arrays.append(pa.repeat(pa.scalar(same[field.name], field.type), rows))
        else:
            arrays.append(pa.nulls(rows, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
