"""Bringing the state database to the tables of this version, also when several processes try at once."""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3
import threading
import time

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection, Engine

from millrace.errors import SettingsError
from millrace.governance.state import engine_of, lock_advisory, start_writing
from millrace.settings import Settings

log = logging.getLogger(__name__)
HEAD = "0002"
VERSION_TABLE = "millrace_version"
_WAL_ATTEMPTS = 12
_one_at_a_time = threading.Lock()
"""Alembic's context is a global of the process."""


def migrate(settings: Settings) -> str:
    """Create or upgrade the tables; returns the revision. Repeating it changes nothing.

    The whole upgrade is one transaction under a lock of the database, so a process that comes second finds it done
    and one that is killed leaves nothing half made.

    Raises:
        SettingsError: the database was written by a newer version of Millrace.
    """
    _upgrade(engine_of(settings.state_url))
    return HEAD


def require_tables(engine: Engine) -> None:
    """Make the tables of an empty database; refuse one of another revision.

    Raises:
        SettingsError: the database was made by an older or newer version.
    """
    with engine.connect() as connection, connection.begin():
        found = _revision(connection)
    if found is None:
        _upgrade(engine)
    elif found != HEAD:
        raise _other(found, engine)


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    if engine.dialect.name == "sqlite":
        _let_readers_read(engine)
    with _one_at_a_time, start_writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            lock_advisory(connection, "migrate")
        found = _revision(connection)
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise _other(found, engine)
        config = Config(attributes={"connection": connection, "version_table": VERSION_TABLE})
        config.set_main_option("script_location", "millrace.governance:migrations")
        config.set_main_option("path_separator", "os")
        command.upgrade(config, HEAD)
        log.info("state database: %s, now at revision %s", found or "empty", HEAD)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def _let_readers_read(engine: Engine) -> None:
    """Write-ahead logging, kept in the file itself: readers do not wait for a writer, nor it for them.

    SQLite answers "locked" at once when another process is just making the same change. When it stays so, the file is
    used as it is: the mode is for speed alone, and the next call that finds no tables tries again.
    """
    for attempt in range(_WAL_ATTEMPTS):
        with contextlib.closing(engine.raw_connection()) as connection:
            try:
                connection.cursor().execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:  # the driver's own: this connection is a raw one
                log.debug("journal mode: %s (attempt %d)", error, attempt + 1)
            else:
                return
        time.sleep(random.uniform(0.5, 1.0) * min(0.02 * 2**attempt, 1.0))


def _other(found: str, engine: Engine) -> SettingsError:
    remedy = (
        "run `millrace ledger migrate`" if found < HEAD else "install the version of Millrace that wrote it, or a newer"
    )
    return SettingsError(
        f"the state database has revision {found}, this version of Millrace needs {HEAD}",
        where=engine.url.render_as_string(),
        remedy=remedy,
    )
