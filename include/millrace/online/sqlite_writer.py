"""Writing the online store in a SQLite file: one transaction a write, so a killed writer leaves nothing half done."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.errors import OnlineStoreUnavailableError
from millrace.online.base import PackedRow, ViewState
from millrace.online.layout import ViewLayout
from millrace.online.packing import packed, started
from millrace.online.sqlite_reader import CATALOGUE, SQLiteReader, rows_table

if TYPE_CHECKING:
    import pyarrow as pa

_BUSY_SECONDS = 1_800
_PIECE = 50_000


class SQLiteWriter:
    """Writes one SQLite file; writers of one file wait for each other, readers never do.

    Args:
        path: the file; made with its folder where it is missing.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def declare(self, view: str, layout: ViewLayout) -> None:
        """Make an empty view where there is none; a view that exists keeps its rows and layout."""
        with self._transaction() as connection:
            if _layout(connection, view) is None:
                _create(connection, view, layout, 0)

    def write(
        self,
        view: str,
        layout: ViewLayout,
        batches: Iterable[pa.RecordBatch | Sequence[PackedRow]],
        *,
        high_water_mark: int,
        replace: bool = False,
    ) -> int:
        """Upsert rows and move the mark, as `OnlineWriter` says, in one transaction."""
        table = rows_table(view)
        ready = started(batches)
        with self._transaction() as connection:
            if replace or _layout(connection, view) != layout.to_json():
                _create(connection, view, layout, high_water_mark)
            for rows in packed(layout, ready, rows=_PIECE):
                rows.sort()
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
            return _count(connection, view)

    def forget(self, view: str) -> None:
        """Remove a view and its rows."""
        if not self.path.is_file():
            return
        with self._transaction() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {rows_table(view)}")
            connection.execute(f"DELETE FROM {CATALOGUE} WHERE view = ?", (view,))

    def state(self, view: str) -> ViewState | None:
        """What the store holds of a view; None where there is no such view (or no store yet)."""
        reader = SQLiteReader(self.path)
        with closing(reader):
            return reader.state(view)

    def close(self) -> None:
        """Nothing is held between calls."""

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._open()) as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    connection.execute(
                        f"CREATE TABLE IF NOT EXISTS {CATALOGUE} "
                        "(view TEXT PRIMARY KEY, layout TEXT NOT NULL, high_water_mark INTEGER NOT NULL)"
                    )
                    yield connection
                except BaseException:
                    if connection.in_transaction:  # a full disk ends it by itself
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise self._unavailable(error) from error

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unavailable(error) from error
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA journal_size_limit = 0")
        except BaseException:
            connection.close()
            raise
        return connection

    def _unavailable(self, error: Exception) -> OnlineStoreUnavailableError:
        return OnlineStoreUnavailableError(
            f"the online store cannot be written: {error}",
            where=str(self.path),
            remedy="see to rights and space on the disk and that no other writer hangs, then run again",
        )


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work at once. SQLite does not wait here for another one that does the same."""
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _layout(connection: sqlite3.Connection, view: str) -> str | None:
    found = connection.execute(f"SELECT layout FROM {CATALOGUE} WHERE view = ?", (view,)).fetchone()
    return None if found is None else str(found[0])


def _create(connection: sqlite3.Connection, view: str, layout: ViewLayout, high_water_mark: int) -> None:
    connection.execute(f"DROP TABLE IF EXISTS {rows_table(view)}")
    connection.execute(
        f"CREATE TABLE {rows_table(view)} (key BLOB PRIMARY KEY, event_timestamp INTEGER NOT NULL, "
        "known_at INTEGER NOT NULL, row BLOB NOT NULL) WITHOUT ROWID"
    )
    connection.execute(
        f"INSERT OR REPLACE INTO {CATALOGUE} VALUES (?, ?, ?)", (view, layout.to_json(), high_water_mark)
    )


def _count(connection: sqlite3.Connection, view: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {rows_table(view)}").fetchone()[0])
