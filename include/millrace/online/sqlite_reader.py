"""Reading the online store in a SQLite file, in microseconds: one indexed SELECT an entity, no cache of values."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from millrace.errors import OnlineStoreUnavailableError, UnknownViewError
from millrace.online.base import ViewState
from millrace.online.layout import ViewLayout
from millrace.online.view import StoredRow, View, ViewReader

CATALOGUE = "millrace_views"
_BUSY_SECONDS = 30
_LOOK_SECONDS = 1.0


def rows_table(view: str) -> str:
    """Quoted name of the table that holds a view's rows."""
    return '"view:' + view.replace('"', '""') + '"'


class SQLiteReader(ViewReader):
    """Reads one SQLite file; opens it when first asked.

    Args:
        path: the file; it may come to be later.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._look_at = 0.0
        self._version = -1
        self._views: dict[str, View] = {}

    @property
    def where(self) -> str:
        """The file."""
        return str(self.path)

    def views(self) -> list[str]:
        """Names of the views in the store, sorted; empty where there is no store yet."""
        if not self.path.is_file():
            return []
        with self._lock:
            self._leave_gone_file()
            self._refresh(self._open())
            return sorted(self._views)

    def state(self, view: str) -> ViewState | None:
        """What the file holds of a view; None where there is no such view, or no file yet."""
        if view not in self.views():
            return None
        with self._lock:
            connection = self._open()
            while True:
                known = self._known(connection, view)
                rows = connection.execute(f"SELECT count(*) FROM {rows_table(view)}").fetchone()[0]
                if self._is_current(connection):
                    return ViewState(layout=known.layout, high_water_mark=known.high_water_mark, rows=rows)

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._version, self._views = None, -1, {}

    def _leave_gone_file(self) -> None:
        """Close a file that was removed or replaced (by a backup, say); looked at once a second."""
        if self._connection is None or (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        if _identity(self.path) != self._file:
            self._drop()

    def _fetch(self, view: str, entities: Sequence[Sequence[Any]]) -> tuple[View, list[StoredRow | None]]:
        with self._lock:
            self._leave_gone_file()
            connection = self._open()
            known = self._views.get(view) or self._known(connection, view)
            while True:
                try:
                    rows, failed = _select(connection, known, entities), None
                except sqlite3.Error as error:
                    rows, failed = [], error
                if self._is_current(connection):
                    break
                known = self._known(connection, view)
            if failed is not None:
                raise self._unavailable(failed) from failed
            return known, rows

    def _view(self, view: str) -> View:
        with self._lock:
            self._leave_gone_file()
            return self._known(self._open(), view)

    def _unlearn(self, view: str) -> None:
        with self._lock:
            self._views.pop(view, None)
            self._version = -1

    def _known(self, connection: sqlite3.Connection, view: str) -> View:
        self._refresh(connection)
        try:
            return self._views[view]
        except KeyError:
            raise self._unknown(view, list(self._views)) from None

    def _is_current(self, connection: sqlite3.Connection) -> bool:
        """Whether no other connection has committed since the catalogue was read."""
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        return bool(version == self._version)

    def _refresh(self, connection: sqlite3.Connection) -> None:
        """Read the catalogue again where another connection has committed since."""
        try:
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return
            made = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (CATALOGUE,)).fetchone()
            query = f"SELECT view, layout, high_water_mark FROM {CATALOGUE}"
            rows = connection.execute(query).fetchall() if made else []  # the first writer may have been killed
        except sqlite3.OperationalError as error:
            raise self._unreadable(error) from error
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        self._views = {view: View.of(view, ViewLayout.from_json(layout), mark) for view, layout, mark in rows}
        self._version = version

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._file = _identity(self.path)
            try:
                self._connection = sqlite3.connect(
                    f"{self.path.absolute().as_uri()}?mode=ro",
                    uri=True,
                    check_same_thread=False,
                    timeout=_BUSY_SECONDS,
                )
            except sqlite3.OperationalError as error:
                raise self._unreadable(error) from error
        return self._connection

    def _unreadable(self, error: Exception) -> UnknownViewError:
        return UnknownViewError(
            f"the online store cannot be read: {error}",
            where=self.where,
            remedy="materialize the domain's features first, or correct MILLRACE_ONLINE_STORE",
        )

    def _unavailable(self, error: Exception) -> OnlineStoreUnavailableError:
        return OnlineStoreUnavailableError(
            f"the online store cannot be read: {error}", where=self.where, remedy="try again; then check the disk"
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of the file that stands at a path; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _select(connection: sqlite3.Connection, view: View, entities: Sequence[Sequence[Any]]) -> list[StoredRow | None]:
    sql = f"SELECT event_timestamp, row FROM {rows_table(view.name)} WHERE key = ?"
    execute, encode = connection.execute, view.key
    found: list[StoredRow | None] = []
    for entity in entities:
        key = encode(entity)
        found.append(None if key is None else execute(sql, (key,)).fetchone())
    return found
