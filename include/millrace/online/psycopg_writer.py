"""Writing the online store in PostgreSQL: COPY and one upsert a piece, all of a write in one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from millrace.online.base import PackedRow, ViewState
from millrace.online.layout import ViewLayout
from millrace.online.packing import packed, started
from millrace.online.psycopg_client import CATALOGUE, SCHEMA, connect, rows_table, unavailable

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

_RETRIES = 6
_PAUSE_SECONDS = 0.1
_PIECE = 20_000
_COLUMNS = "key bytea, event_timestamp bigint, known_at bigint, row bytea"
_CONNECT_SECONDS, _SILENCE_SECONDS = 5, 120.0
_OTHER_WRITER_SECONDS, _LOOK_SECONDS = 1_800, 0.5
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"


class PostgresWriter:
    """Writes one PostgreSQL database; writers of one view wait for each other, readers never do.

    Args:
        url: its address; the account may create a schema, or owns `millrace_online`.
        retries: how often connecting is tried again where the server does not answer.
        silence_s: how long the server may take over one step, a piece of rows or the count of all, without a sign.
    """

    def __init__(self, url: str, *, retries: int = _RETRIES, silence_s: float = _SILENCE_SECONDS) -> None:
        self.url = url
        self._retries = retries
        self._silence_s = silence_s

    def declare(self, view: str, layout: ViewLayout) -> None:
        """Make an empty view where there is none; a view that exists keeps its rows and layout."""
        with self._transaction(view) as cursor:
            if _held(cursor, view) is None:
                _point(cursor, view, _table(cursor), layout, 0)

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
        ready = started(batches)
        with self._transaction(view) as cursor:
            held = _held(cursor, view)
            kept = held is not None and held[1] == layout.to_json() and not replace
            number = held[0] if held is not None and kept else _table(cursor)
            cursor.execute(f"CREATE TEMPORARY TABLE incoming ({_COLUMNS}) ON COMMIT DROP")
            for rows in packed(layout, ready, rows=_PIECE):
                _upsert(cursor, number, rows)
            mark = max(held[2], high_water_mark) if held is not None and kept else high_water_mark
            _point(cursor, view, number, layout, mark)
            if held is not None and not kept:
                cursor.execute(f"DROP TABLE {rows_table(held[0])}")
            return _count(cursor, number)

    def forget(self, view: str) -> None:
        """Remove a view and its rows."""
        with self._transaction(view) as cursor:
            if (held := _held(cursor, view)) is not None:
                cursor.execute(f"DELETE FROM {CATALOGUE} WHERE view = %s", (view,))
                cursor.execute(f"DROP TABLE {rows_table(held[0])}")

    def state(self, view: str) -> ViewState | None:
        """What the store holds of a view; None where there is no such view."""
        with self._transaction(view, lock=False) as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            if (held := _held(cursor, view)) is None:
                return None
            number, layout, mark = held
            return ViewState(layout=ViewLayout.from_json(layout), high_water_mark=mark, rows=_count(cursor, number))

    def close(self) -> None:
        """Nothing is held between calls."""

    @contextmanager
    def _transaction(self, view: str, *, lock: bool = True) -> Iterator[psycopg.Cursor[Any]]:
        import psycopg

        with connect(
            self.url,
            retries=self._retries,
            pause=_PAUSE_SECONDS,
            connect_s=_CONNECT_SECONDS,
            silence_s=self._silence_s,
        ) as connection:
            try:
                _prepare(connection)
                with connection.transaction(), connection.cursor() as cursor:
                    if lock:
                        _wait_for_others(cursor, f"{SCHEMA}:{view}")
                    yield cursor
            except psycopg.Error as error:
                raise unavailable(self.url, error) from error


def _prepare(connection: psycopg.Connection[Any]) -> None:
    """Schema and catalogue, made once."""
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (CATALOGUE,)).fetchone()
    if found and found[0]:
        return
    with connection.transaction(), connection.cursor() as cursor:
        _wait_for_others(cursor, SCHEMA)
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {CATALOGUE} (view text PRIMARY KEY, number bigint NOT NULL, "
            "layout text NOT NULL, high_water_mark bigint NOT NULL)"
        )
        cursor.execute(f"CREATE SEQUENCE IF NOT EXISTS {SCHEMA}.numbers")


def _wait_for_others(cursor: psycopg.Cursor[Any], name: str) -> None:
    """Hold a lock until the transaction ends. The server answers at once each time: silence means that it hangs.

    Raises:
        LockNotAvailable: another writer held it for too long.
    """
    import psycopg

    end = time.monotonic() + _OTHER_WRITER_SECONDS
    pause = 0.005
    while (found := cursor.execute(_LOCK, (name,)).fetchone()) is None or not found[0]:
        if time.monotonic() > end:
            raise psycopg.errors.LockNotAvailable("another writer of the view does not come to an end")
        time.sleep(pause)
        pause = min(pause * 2, _LOOK_SECONDS)


def _held(cursor: psycopg.Cursor[Any], view: str) -> tuple[int, str, int] | None:
    found: tuple[int, str, int] | None = cursor.execute(
        f"SELECT number, layout, high_water_mark FROM {CATALOGUE} WHERE view = %s", (view,)
    ).fetchone()
    return found


def _table(cursor: psycopg.Cursor[Any]) -> int:
    """Number of a new, empty table of rows."""
    found = cursor.execute(f"SELECT nextval('{SCHEMA}.numbers')").fetchone()
    number = int(found[0]) if found else 0
    cursor.execute(
        f"CREATE TABLE {rows_table(number)} (key bytea PRIMARY KEY, event_timestamp bigint NOT NULL, "
        "known_at bigint NOT NULL, row bytea NOT NULL)"
    )
    return number


def _point(cursor: psycopg.Cursor[Any], view: str, number: int, layout: ViewLayout, high_water_mark: int) -> None:
    """Let the catalogue say where a view's rows are from now on."""
    cursor.execute(
        f"INSERT INTO {CATALOGUE} VALUES (%s, %s, %s, %s) ON CONFLICT (view) DO UPDATE SET "
        "number = excluded.number, layout = excluded.layout, high_water_mark = excluded.high_water_mark",
        (view, number, layout.to_json(), high_water_mark),
    )


def _upsert(cursor: psycopg.Cursor[Any], number: int, rows: list[PackedRow]) -> None:
    with cursor.copy("COPY incoming FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["bytea", "int8", "int8", "bytea"])
        for row in rows:
            copy.write_row(row)
    cursor.execute(
        f"INSERT INTO {rows_table(number)} AS held SELECT * FROM incoming ON CONFLICT (key) DO UPDATE SET "
        "event_timestamp = excluded.event_timestamp, known_at = excluded.known_at, row = excluded.row "
        "WHERE (excluded.event_timestamp, excluded.known_at) >= (held.event_timestamp, held.known_at)"
    )
    cursor.execute("TRUNCATE incoming")


def _count(cursor: psycopg.Cursor[Any], number: int) -> int:
    found = cursor.execute(f"SELECT count(*) FROM {rows_table(number)}").fetchone()
    return int(found[0]) if found else 0
