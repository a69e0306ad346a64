"""Reading the online store in PostgreSQL: one statement a call, whatever the number of entities."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from millrace.errors import OnlineStoreUnavailableError
from millrace.online.address import show
from millrace.online.breaker import Breaker
from millrace.online.layout import ViewLayout
from millrace.online.psycopg_client import CATALOGUE, connect, hung, rows_table, unavailable
from millrace.online.view import StoredRow, View, ViewReader

if TYPE_CHECKING:
    import psycopg

_RETRIES = 2
_PAUSE_SECONDS = 0.05
_CONNECT_SECONDS, _SILENCE_SECONDS = 2, 1.0
_OPEN_SECONDS, _LONGEST_OPEN_SECONDS = 1.0, 8.0
_Answer = TypeVar("_Answer")


class PostgresReader(ViewReader):
    """Reads one PostgreSQL database over one connection, which threads share in turns.

    Args:
        url: its address.
        breaker: keeps callers from waiting, each in turn, for a server that hangs.
    """

    def __init__(self, url: str, *, breaker: Breaker | None = None) -> None:
        self.url = url
        self._breaker = breaker or Breaker(first_s=_OPEN_SECONDS, most_s=_LONGEST_OPEN_SECONDS)
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._views: dict[str, tuple[int, View]] = {}

    @property
    def where(self) -> str:
        """The database's address, without a password."""
        return show(self.url)

    def views(self) -> list[str]:
        """Names of the views in the store, sorted; empty where there is no store yet."""
        with self._lock:
            return self._ask(_names)

    def close(self) -> None:
        """Let go of the connection; the next read makes a new one."""
        with self._lock:
            self._drop()

    def _fetch(self, view: str, entities: Sequence[Sequence[Any]]) -> tuple[View, list[StoredRow | None]]:
        with self._lock:
            number, known = self._views.get(view) or self._load(view)
            while True:
                keys = [known.key(entity) for entity in entities]
                asked = [key for key in keys if key is not None]
                found = self._ask(partial(_select, view, number, asked))
                if found is not None:
                    break
                number, known = self._load(view)
            mark, rows = found
            if mark != known.high_water_mark:
                known = View.of(view, known.layout, mark)
                self._views[view] = (number, known)
            return known, [None if key is None else rows.get(key) for key in keys]

    def _view(self, view: str) -> View:
        with self._lock:
            return self._load(view)[1]

    def _unlearn(self, view: str) -> None:
        with self._lock:
            self._views.pop(view, None)

    def _load(self, view: str) -> tuple[int, View]:
        self._views.pop(view, None)
        found = self._ask(lambda link: _describe(link, view))
        if found is None:
            raise self._unknown(view, self._ask(_names))
        number, layout, mark = found
        self._views[view] = (number, View.of(view, ViewLayout.from_json(layout), mark))
        return self._views[view]

    def _ask(self, call: Callable[[psycopg.Connection[Any]], _Answer]) -> _Answer:
        """What a call on the connection gives, unless the server hung a moment ago."""
        return self._breaker.call(partial(self._call, call), hung=_hung, refused=self._refused)

    def _call(self, call: Callable[[psycopg.Connection[Any]], _Answer]) -> _Answer:
        """What a call on the connection gives; one that broke since the last call is made anew once."""
        import psycopg

        fresh = self._connection is None
        while True:
            if self._connection is None:
                self._connection = connect(
                    self.url,
                    retries=_RETRIES,
                    pause=_PAUSE_SECONDS,
                    connect_s=_CONNECT_SECONDS,
                    silence_s=_SILENCE_SECONDS,
                    until_hung=True,
                )
            try:
                return call(self._connection)
            except psycopg.Error as error:
                self._drop()
                if fresh or hung(error) or not isinstance(error, psycopg.OperationalError):
                    raise unavailable(self.url, error) from error
                fresh = True

    def _refused(self, left_s: float) -> OnlineStoreUnavailableError:
        return OnlineStoreUnavailableError(
            f"PostgreSQL did not answer in time and is not asked again for {left_s:.1f} s",
            where=show(self.url),
            remedy="see that the server runs and is not overloaded, then ask again",
        )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._views.clear()
        if connection is not None:
            connection.close()


def _hung(error: BaseException) -> bool:
    return isinstance(error, OnlineStoreUnavailableError) and hung(error.__cause__)


def _names(link: psycopg.Connection[Any]) -> list[str]:
    if not _is_there(link):
        return []
    return [row[0] for row in link.execute(f"SELECT view FROM {CATALOGUE} ORDER BY view").fetchall()]


def _describe(link: psycopg.Connection[Any], view: str) -> tuple[int, str, int] | None:
    if not _is_there(link):
        return None
    found: tuple[int, str, int] | None = link.execute(
        f"SELECT number, layout, high_water_mark FROM {CATALOGUE} WHERE view = %s", (view,)
    ).fetchone()
    return found


def _is_there(link: psycopg.Connection[Any]) -> bool:
    found = link.execute("SELECT to_regclass(%s) IS NOT NULL", (CATALOGUE,)).fetchone()
    return bool(found and found[0])


def _select(
    view: str, number: int, keys: list[bytes], link: psycopg.Connection[Any]
) -> tuple[int, dict[bytes, StoredRow]] | None:
    """Mark and rows of one snapshot; None where the view has another table by now."""
    import psycopg

    sql = (
        f"SELECT NULL, high_water_mark, NULL FROM {CATALOGUE} WHERE view = %s AND number = %s "
        f"UNION ALL SELECT key, event_timestamp, row FROM {rows_table(number)} WHERE key = ANY(%s::bytea[])"
    )
    mark = None
    rows: dict[bytes, StoredRow] = {}
    try:
        with link.cursor(binary=True) as cursor:
            for key, number_or_mark, row in cursor.execute(sql, (view, number, keys), prepare=True):
                if key is None:
                    mark = number_or_mark
                else:
                    rows[key] = (number_or_mark, row)
    except psycopg.errors.UndefinedTable:
        return None
    return None if mark is None else (mark, rows)
