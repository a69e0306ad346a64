"""Writing the online store: whole Arrow tables at once, one transaction a view, and a newer row always wins."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import FeatureError
from millrace.online.layout import TEXT, RowCodec, ViewLayout, encode_key
from millrace.online.reader import CATALOGUE, rows_table

PackedRow = tuple[bytes, int, int, bytes]
_NUMPY = {
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "float32": "<f4",
    "float64": "<f8",
    "bool": "?",
    "timestamp": "<i8",
}


class OnlineWriter:
    """Writes packed rows into the store; every call is one transaction, so a killed writer leaves nothing half done.

    Args:
        path: SQLite file of the online store; made with its folder where it is missing.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def declare(self, view: str, layout: ViewLayout) -> None:
        """Make an empty view where there is none; a view that exists keeps its rows and layout."""
        with self._transaction() as connection:
            if connection.execute(f"SELECT 1 FROM {CATALOGUE} WHERE view = ?", (view,)).fetchone() is None:
                self._create(connection, view, layout)

    def write(self, view: str, layout: ViewLayout, rows: Iterable[PackedRow], *, high_water_mark: int) -> int:
        """Insert rows (key, event_timestamp, known_at, packed; instants in microseconds since 1970) of a view.

        A row replaces one of its key unless that is newer by (event_timestamp, known_at). Where the layout changed,
        the rows of the old one go in the same transaction. The high-water mark never moves back.

        Returns:
            rows of the view afterwards.
        """
        table = rows_table(view)
        with self._transaction() as connection:
            known = connection.execute(f"SELECT layout FROM {CATALOGUE} WHERE view = ?", (view,)).fetchone()
            if known is None or known[0] != layout.to_json():
                self._create(connection, view, layout)
            connection.executemany(
                f"INSERT INTO {table} VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "event_timestamp = excluded.event_timestamp, known_at = excluded.known_at, row = excluded.row "
                f"WHERE (excluded.event_timestamp, excluded.known_at) >= "
                f"({table}.event_timestamp, {table}.known_at)",
                rows,
            )
            connection.execute(
                f"UPDATE {CATALOGUE} SET high_water_mark = max(high_water_mark, ?) WHERE view = ?",
                (high_water_mark, view),
            )
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def forget(self, view: str) -> None:
        """Remove a view and its rows."""
        if not self.path.is_file():
            return
        with self._transaction() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {rows_table(view)}")
            connection.execute(f"DELETE FROM {CATALOGUE} WHERE view = ?", (view,))

    @staticmethod
    def _create(connection: sqlite3.Connection, view: str, layout: ViewLayout) -> None:
        connection.execute(f"DROP TABLE IF EXISTS {rows_table(view)}")
        connection.execute(
            f"CREATE TABLE {rows_table(view)} (key BLOB PRIMARY KEY, event_timestamp INTEGER NOT NULL, "
            "known_at INTEGER NOT NULL, row BLOB NOT NULL) WITHOUT ROWID"
        )
        connection.execute(f"INSERT OR REPLACE INTO {CATALOGUE} VALUES (?, ?, 0)", (view, layout.to_json()))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {CATALOGUE} "
                    "(view TEXT PRIMARY KEY, layout TEXT NOT NULL, high_water_mark INTEGER NOT NULL)"
                )
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def pack_table(layout: ViewLayout, rows: pa.Table, *, event_timestamp: str, known_at: str) -> list[PackedRow]:
    """Rows of an Arrow table as the store keeps them; rows with a null in their key are left out.

    Raises:
        FeatureError: a column of the layout is missing in the table.
    """
    names = [name for name, _ in (*layout.entities, *layout.features)]
    if absent := sorted({*names, event_timestamp, known_at} - set(rows.column_names)):
        raise FeatureError(f"columns {absent} are missing in the rows to write", remedy="build the features again")
    codec = RowCodec(layout)
    columns = [rows.column(name).combine_chunks() for name, _ in layout.features]
    nulls = np.zeros((rows.num_rows, codec.bitmap_bytes * 8), dtype=bool)
    fields: list[tuple[Any, ...]] = [("nulls", "u1", (codec.bitmap_bytes,))]
    fixed: dict[str, Any] = {}
    for index, (name, kind) in enumerate(layout.features):
        nulls[:, index] = columns[index].is_null().to_numpy(zero_copy_only=False)
        if kind != TEXT:
            fields.append((name, _NUMPY[kind]))
            fixed[name] = _numbers(columns[index], kind)
    packed = np.zeros(rows.num_rows, dtype=fields)
    packed["nulls"] = np.packbits(nulls, axis=1, bitorder="little")
    for name, values in fixed.items():
        packed[name] = values
    raw, size = packed.tobytes(), packed.dtype.itemsize
    texts = [column.to_pylist() for column, (_, kind) in zip(columns, layout.features, strict=True) if kind == TEXT]
    tails = [codec.pack_texts(row) for row in zip(*texts, strict=True)] if texts else None
    keys = zip(*(_keys(rows.column(name)) for name, _ in layout.entities), strict=True)
    events, known = instants(rows.column(event_timestamp)), instants(rows.column(known_at))
    found: list[PackedRow] = []
    for index, (entity, event, at) in enumerate(zip(keys, events, known, strict=True)):
        key = encode_key(layout, entity)
        if key is not None:
            row = raw[index * size : (index + 1) * size]
            found.append((key, event, at, row if tails is None else row + tails[index]))
    return found


def instants(column: Any) -> list[int]:
    """Timestamps as microseconds since 1970."""
    cast = column.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
    values: list[int] = cast.to_pylist()
    return values


def _numbers(column: Any, kind: str) -> Any:
    if kind == "timestamp":
        column = column.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
    empty = False if pa.types.is_boolean(column.type) else 0
    return pc.fill_null(column, pa.scalar(empty, column.type)).to_numpy(zero_copy_only=False)


def _keys(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return values
