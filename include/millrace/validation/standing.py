"""What somebody decided about rows of a partition, brought to bear on the raw rows there are now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import canonical
from millrace.lake import duck
from millrace.validation.base import ROW, SetAside
from millrace.validation.carried import carry_over
from millrace.validation.content import contents_of, reasons_text, rows_of
from millrace.validation.naming import locate, raw_schema, rows_among
from millrace.validation.quarantine import CORRECTED, DISMISSED, OPEN, SCHEMA
from millrace.validation.settlement import decided

VIEW = "standing_row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The rows of a partition as people decided they stand.

    Attributes:
        view: view of the raw rows, corrected ones in place of their originals, accepted records after the last.
        waived: id → position of rows that are clean whatever the contract says.
        added: id → position of corrected rows and accepted records.
        replaced: id → position in the raw partition of the originals of corrected rows.
    """

    view: str
    waived: Mapping[str, int]
    added: Mapping[str, int]
    replaced: Mapping[str, int]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Positions of all rows decided on, sorted."""
        return _sorted([*self.waived.values(), *self.added.values()])

    def lost(self, aside: Sequence[SetAside]) -> set[str]:
        """Ids of decided rows that clean-up set aside: a decision does not help where there is no clean row.

        Args:
            aside: what clean-up itself set aside.
        """
        gone = {int(row) for item in aside for row in item.rows}
        return {row_id for row_id, row in [*self.waived.items(), *self.added.items()] if row in gone}

    def undecided(self, aside: Sequence[SetAside], lost: Collection[str] = ()) -> list[SetAside]:
        """What is set aside less the rows decided on; of lost ones those stay that are raw rows."""
        spared = [row for row_id, row in self.waived.items() if row_id not in lost]
        spared += list(self.added.values())
        rows = _sorted(spared)
        return [_less(item, rows) for item in aside] if len(rows) else list(aside)

    def reopened(self, entries: pa.Table, aside: Sequence[SetAside], lost: Collection[str]) -> pa.Table:
        """Open entries for lost corrected rows and accepted records, with why they were set aside now.

        Args:
            entries: the quarantine as it was.
            aside: what clean-up set aside.
            lost: ids of decided rows it set aside.
        """
        wanted = sorted(set(lost) & set(self.added))
        chosen = entries.filter(pc.is_in(entries["row_id"], pa.array(wanted, pa.string()))).to_pylist()
        for entry in chosen:
            content = orjson.loads(entry["corrected"] or entry["raw"])
            row = self.added[entry["row_id"]]
            why = [
                (item.reason, item.columns, [content.get(name) for name in item.columns])
                for item in aside
                if row in item.rows
            ]
            entry |= {"reasons": reasons_text(why), "status": OPEN, "resolution": "", "resolved_at": None}
            entry |= {"resolved_by": "", "resolved_reason": "", "corrected": None}
        return pa.Table.from_pylist(chosen, schema=SCHEMA)


def find_standing(
    connection: Any,
    entries: pa.Table,
    records: Collection[str],
    *,
    source: str,
    raw: str = "raw",
) -> Standing:
    """Find the rows decided on in a raw partition, wherever its newest snapshot has them.

    A decision on a row that the source does not deliver any more is kept, and has no effect.

    Args:
        connection: a DuckDB connection; a view is made in it where rows were corrected or records accepted.
        entries: the quarantine of the partition.
        records: ids of the records there are now that never became rows.
        source: name of the raw table.
        raw: view of the raw rows with `row#`.
    """
    chosen = decided(entries)
    carry_over(connection, entries, source=source, view=raw, records=records)
    found = locate(connection, rows_among(connection, chosen), source=source, view=raw)
    contents: dict[str, str] = {}
    waived: dict[str, int] = {}
    replaced: dict[str, int] = {}
    names = ("row_id", "kind", "resolution", "raw", "corrected")
    for row_id, kind, resolution, content, corrected in zip(*(chosen[each].to_pylist() for each in names), strict=True):
        if resolution == DISMISSED:
            continue
        if kind == "record" and row_id in records:
            contents[row_id] = corrected or content
        elif row_id in found and resolution == CORRECTED:
            contents[row_id], replaced[row_id] = corrected, found[row_id]
        elif row_id in found:
            waived[row_id] = found[row_id]
    contents |= _with_new_columns(connection, raw, {row_id: contents[row_id] for row_id in replaced}, replaced)
    added = _add_rows(connection, raw, contents, _sorted(list(replaced.values())))
    return Standing(view=VIEW if added else raw, waived=waived, added=added, replaced=replaced)


def rows_of_same_key(
    connection: Any, key: Sequence[str], rows: npt.NDArray[np.int64], *, cleaned: str
) -> npt.NDArray[np.int64]:
    """Positions of other rows that share their key with one of some rows, sorted. Null is no key.

    Args:
        connection: a DuckDB connection.
        key: columns that identify a record.
        rows: positions of the rows.
        cleaned: table or view of the rows after clean-up with `row#`.
    """
    if not key or not len(rows):
        return np.empty(0, np.int64)
    connection.register("keyed_row", pa.table({ROW: rows}))
    columns = ", ".join(duck.quoted(name) for name in key)
    found = connection.execute(
        f"""
        SELECT t."{ROW}" AS row FROM {duck.quoted(cleaned)} t
        SEMI JOIN (SELECT {columns} FROM {duck.quoted(cleaned)} SEMI JOIN keyed_row USING ("{ROW}")) USING ({columns})
        ORDER BY row
        """
    ).fetchnumpy()["row"]
    connection.unregister("keyed_row")
    return np.setdiff1d(np.asarray(found, np.int64), rows)


def share_key(connection: Any, key: Sequence[str], rows: npt.NDArray[np.int64], *, cleaned: str) -> bool:
    """Whether two of some rows have one key."""
    if not key or not len(rows):
        return False
    connection.register("keyed_row", pa.table({ROW: rows}))
    columns = ", ".join(duck.quoted(name) for name in key)
    present = " AND ".join(f"{duck.quoted(name)} IS NOT NULL" for name in key)
    found = connection.execute(
        f"""
        SELECT count(*) FROM (
            SELECT {columns} FROM {duck.quoted(cleaned)} SEMI JOIN keyed_row USING ("{ROW}") WHERE {present}
            GROUP BY {columns} HAVING count(*) > 1
        )
        """
    ).fetchall()
    connection.unregister("keyed_row")
    return bool(found[0][0])


def _with_new_columns(
    connection: Any, raw: str, corrected: Mapping[str, str], replaced: Mapping[str, int]
) -> dict[str, str]:
    """Corrected rows made before a column was there, with what their originals have in it now."""
    names = set(raw_schema(connection, raw).names)
    short = {row_id: row for row_id, text in corrected.items() if names - (row := orjson.loads(text)).keys()}
    if not short:
        return {}
    wanted = pa.table({ROW: pa.array([replaced[row_id] for row_id in short], pa.int64())})
    connection.register("standing_short", wanted)
    found = duck.arrow(connection.sql(f'SELECT * FROM {raw} SEMI JOIN standing_short USING ("{ROW}")'))
    connection.unregister("standing_short")
    today: dict[int, Any] = {}
    for batch in found.to_batches():
        contents, _ = contents_of(batch.drop_columns([ROW]))
        today |= {row: orjson.loads(text) for row, text in zip(batch[ROW].to_pylist(), contents, strict=True)}
    return {row_id: canonical({**today[replaced[row_id]], **row}).decode() for row_id, row in short.items()}


def _add_rows(
    connection: Any, raw: str, contents: Mapping[str, str], replaced: npt.NDArray[np.int64]
) -> dict[str, int]:
    """Make the view of raw rows less those replaced, and further rows after the last position."""
    if not contents:
        return {}
    ids = sorted(contents)
    schema = raw_schema(connection, raw)
    first = int(connection.sql(f'SELECT coalesce(max("{ROW}"), -1) + 1 FROM {raw}').fetchall()[0][0])
    positions = range(first, first + len(ids))
    rows = rows_of([contents[row_id] for row_id in ids], schema)
    columns = ", ".join(duck.quoted(name) for name in [*schema.names, ROW])
    for table, content in (
        ("standing_added", rows.append_column(ROW, pa.array(positions, pa.int64()))),
        ("standing_replaced", pa.table({ROW: replaced})),
    ):
        connection.register("standing_given", content)
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM standing_given")
        connection.unregister("standing_given")
    connection.execute(
        f"""
        CREATE OR REPLACE VIEW {VIEW} AS
        SELECT {columns} FROM {raw} ANTI JOIN standing_replaced USING ("{ROW}")
        UNION ALL SELECT {columns} FROM standing_added
        """
    )
    return dict(zip(ids, positions, strict=True))


def _sorted(rows: list[int]) -> npt.NDArray[np.int64]:
    return np.unique(np.array(rows, np.int64))


def _less(item: SetAside, rows: npt.NDArray[np.int64]) -> SetAside:
    kept = np.setdiff1d(item.rows, rows, assume_unique=True)
    return SetAside(reason=item.reason, columns=item.columns, rows=kept, stage=item.stage)
