"""Reading the online store by key, in microseconds: one indexed SELECT an entity, one unpack, no cache of values."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from millrace.errors import FeatureError
from millrace.online.layout import RowCodec, ViewLayout, encode_key

CATALOGUE = "millrace_views"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rows_table(view: str) -> str:
    """Quoted name of the table that holds a view's rows."""
    return '"view:' + view.replace('"', '""') + '"'


def to_datetime(microseconds: int) -> datetime:
    """The UTC instant so many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    layout: ViewLayout
    high_water_mark: int
    codec: RowCodec
    select: str
    positions: dict[str, int]


class OnlineReader:
    """Reads packed rows. Cheap to make, opens the file when first asked, safe to share between threads.

    Args:
        path: SQLite file of the online store.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._version = -1
        self._views: dict[str, _View] = {}

    def read(self, view: str, entities: Sequence[Sequence[Any]], features: Sequence[str]) -> list[list[Any]]:
        """Values of the named features, one list an entity, in the order asked.

        Missing, expired (older than the TTL at the view's high-water mark) and null are all None; NaN is NaN.

        Raises:
            FeatureError: no such store, view or feature, or a key that is not one of the view's.
        """
        known = self._view(view)
        try:
            positions = [known.positions[name] for name in features]
        except KeyError as error:
            raise FeatureError(
                f"view {view!r} has no feature {error.args[0]!r}",
                where=str(self.path),
                remedy=f"use one of: {', '.join(known.positions)}; or materialize the view again after a change",
            ) from error
        missing = [None] * len(positions)
        found: list[list[Any]] = []
        for row in self._rows(known, entities):
            if row is None:
                found.append(missing[:])
            else:
                values = row[1]
                found.append([values[position] for position in positions])
        return found

    def read_rows(self, view: str, entities: Sequence[Sequence[Any]]) -> list[tuple[datetime, list[Any]] | None]:
        """(event_timestamp, all values in the layout's order) an entity; None where missing or expired."""
        rows = self._rows(self._view(view), entities)
        return [None if row is None else (to_datetime(row[0]), row[1]) for row in rows]

    def views(self) -> list[str]:
        """Names of the views in the store, sorted; empty where there is no store yet."""
        if not self.path.is_file():
            return []
        self._refresh()
        return sorted(self._views)

    def layout(self, view: str) -> ViewLayout:
        """Entities, features and TTL of a view, as last written."""
        return self._view(view).layout

    def high_water_mark(self, view: str) -> datetime | None:
        """The instant up to which the view is materialized; None before the first time."""
        mark = self._view(view).high_water_mark
        return to_datetime(mark) if mark else None

    def ttl(self, view: str) -> timedelta | None:
        """How long a value of the view stays usable; None for ever."""
        ttl_us = self._view(view).layout.ttl_us
        return timedelta(microseconds=ttl_us) if ttl_us else None

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection, self._version, self._views = None, -1, {}

    def _rows(self, view: _View, entities: Sequence[Sequence[Any]]) -> list[tuple[int, list[Any]] | None]:
        layout, select, unpack = view.layout, view.select, view.codec.unpack
        oldest = view.high_water_mark - layout.ttl_us if layout.ttl_us else None
        found: list[tuple[int, list[Any]] | None] = []
        with self._lock:
            execute = self._open().execute
            for entity in entities:
                key = encode_key(layout, entity)
                row = None if key is None else execute(select, (key,)).fetchone()
                if row is None or (oldest is not None and row[0] < oldest):
                    found.append(None)
                else:
                    found.append((row[0], unpack(row[1])))
        return found

    def _view(self, view: str) -> _View:
        self._refresh()
        try:
            return self._views[view]
        except KeyError as error:
            raise FeatureError(
                f"no view {view!r} in the online store",
                where=str(self.path),
                remedy=f"materialize it, or use one of: {', '.join(sorted(self._views)) or '(none)'}",
            ) from error

    def _refresh(self) -> None:
        """Read the catalogue again where another connection has committed since."""
        with self._lock:
            connection = self._open()
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return
            try:
                rows = connection.execute(f"SELECT view, layout, high_water_mark FROM {CATALOGUE}").fetchall()
            except sqlite3.OperationalError as error:
                raise self._unreadable(error) from error
            self._views = {view: _describe(view, layout, mark) for view, layout, mark in rows}
            self._version = version

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = sqlite3.connect(
                    f"{self.path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False, timeout=30
                )
            except sqlite3.OperationalError as error:
                raise self._unreadable(error) from error
        return self._connection

    def _unreadable(self, error: Exception) -> FeatureError:
        return FeatureError(
            f"the online store cannot be read: {error}",
            where=str(self.path),
            remedy="materialize the domain's features first, or correct MILLRACE_ONLINE_STORE",
        )


def _describe(view: str, layout: str, mark: int) -> _View:
    parsed = ViewLayout.from_json(layout)
    return _View(
        layout=parsed,
        high_water_mark=mark,
        codec=RowCodec(parsed),
        select=f"SELECT event_timestamp, row FROM {rows_table(view)} WHERE key = ?",
        positions={name: index for index, (name, _) in enumerate(parsed.features)},
    )
