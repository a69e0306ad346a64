"""The state database: its tables, one engine a URL, and the two ways to use it, reading and writing.

No connection outlives its transaction (`NullPool`), so a process may fork at any moment between two of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import Connection, Engine, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from millrace.errors import SettingsError, StateUnavailableError
from millrace.settings import Settings

log = logging.getLogger(__name__)
METADATA = MetaData()
_WRITES = "millrace_writes"
_BUSY_SECONDS = 60
_SEQUENCE = BigInteger().with_variant(Integer(), "sqlite")

LEDGER = Table(
    "ledger",
    METADATA,
    Column("seq", _SEQUENCE, primary_key=True, autoincrement=False),
    Column("recorded_at", String(27), nullable=False),
    Column("effective_at", String(27), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("use_case", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("use_case", "kind", "key", name="ledger_once"),
    Index("ledger_effective", "use_case", "effective_at", "seq"),
)
"""Append-only. Instants are UTC text of fixed width (see `stamp`), so that they sort as text and hash as stored."""

LEDGER_HEAD = Table(
    "ledger_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", _SEQUENCE, nullable=False),
    Column("hash", String(64), nullable=False),
)
"""One row: the last entry. Writers lock it, so there is one chain."""

RELEASE = Table(
    "release",
    METADATA,
    Column("use_case", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("package", String(64), nullable=False),
    Column("candidate", Text, nullable=False),
    Column("trainer", Text, nullable=False),
    Column("trained_through", Text, nullable=False),
    Column("holdout", Text, nullable=False),
    Column("effective_at", String(27), nullable=False),
    Column("evidence", String(64), nullable=False),
    Column("policy", String(64), nullable=False),
    Column("feature_service", Text, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("reference", String(64), nullable=False),
    Column("registry_version", Integer, nullable=False),
    Column("replaces", Integer, nullable=False),
    Column("ledger_seq", _SEQUENCE, ForeignKey("ledger.seq"), nullable=False),
    PrimaryKeyConstraint("use_case", "version"),
    UniqueConstraint("use_case", "package", "evidence", "effective_at", name="release_once"),
)

MONITOR_RESULT = Table(
    "monitor_result",
    METADATA,
    Column("use_case", String(64), nullable=False),
    Column("partition", String(32), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("payload", Text, nullable=False),
    Column("recorded_at", String(27), nullable=False),
    PrimaryKeyConstraint("use_case", "partition", "kind"),
)

MATERIALIZATION = Table(
    "materialization",
    METADATA,
    Column("store", String(64), nullable=False),
    Column("view", String(64), nullable=False),
    Column("domain", String(64), nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("high_water_mark", String(27), nullable=False),
    Column("newest_event", String(27), nullable=False),
    Column("layout", String(64), nullable=False),
    Column("partitions", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("recorded_at", String(27), nullable=False),
    PrimaryKeyConstraint("store", "view"),
)
"""One row an online store and view: how far it was brought, and from which partitions of the feature table."""


def stamp(moment: datetime) -> str:
    """UTC text of an instant with microseconds: 27 characters, sortable, exact.

    Raises:
        ValueError: the instant has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def moment_of(text_form: str) -> datetime:
    """The instant of a `stamp` (any ISO-8601 text with a zone will do)."""
    return datetime.fromisoformat(text_form).astimezone(UTC)


@contextlib.contextmanager
def reading(settings: Settings) -> Iterator[Connection]:
    """A transaction that sees one state of the database, from its first query to its last, and writes nothing."""
    engine = _ready(settings.state_url)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # where each query would see what others committed meanwhile
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextlib.contextmanager
def writing(settings: Settings) -> Iterator[Connection]:
    """A transaction that writes: all of it, or nothing. On SQLite it waits for its turn at the start."""
    with start_writing(_ready(settings.state_url)) as connection:
        yield connection


@contextlib.contextmanager
def start_writing(engine: Engine) -> Iterator[Connection]:
    """`writing` on an engine whose tables may not be there yet."""
    with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        yield connection


@contextlib.contextmanager
def exclusive(settings: Settings, name: str) -> Iterator[None]:
    """Only one process at a time holds `name`: for work outside the database that must not be done twice at once.

    An advisory lock of PostgreSQL, else a lock on a file beside the SQLite database. It ends with its process.
    """
    engine = _ready(settings.state_url)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            lock_advisory(connection, name)
            yield
        return
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    path = Path(f"{engine.url.database}.{digest}.lock")
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a child forked meanwhile holds the file open too


def lock_advisory(connection: Connection, name: str) -> None:
    """Hold PostgreSQL's advisory lock of that name until the transaction ends."""
    number = int.from_bytes(hashlib.sha256(f"millrace.{name}".encode()).digest()[:8], "big", signed=True)
    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


@functools.cache
def engine_of(url: str) -> Engine:
    """The engine of a URL, without a look at what the database holds.

    Whoever uses it gets a StateUnavailableError where the database cannot be reached, or goes away.

    Raises:
        SettingsError: not a URL of SQLite (a file) or PostgreSQL, or the file's folder cannot be made.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # what they say quotes the address, password and all
        raise _unusable(url.rpartition("@")[2], "is not a database URL") from None
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(
            parsed, poolclass=NullPool, isolation_level="READ COMMITTED", connect_args={"connect_timeout": 15}
        )
        event.listen(engine, "handle_error", _explain_absence)
        return engine
    if parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}:
        raise _unusable(parsed.render_as_string(), "is neither PostgreSQL nor a file of SQLite")
    try:
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(parsed.render_as_string(), f"lies where no folder can be made: {error.strerror}") from error
    # isolation_level None: the driver starts no transaction behind our back, so that BEGIN IMMEDIATE is ours to say.
    engine = create_engine(parsed, poolclass=NullPool, connect_args={"isolation_level": None, "timeout": _BUSY_SECONDS})
    event.listen(engine, "handle_error", _explain_absence)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@functools.cache
def _ready(url: str) -> Engine:
    """The engine of a URL whose tables are there: an empty database gets them, an older one is refused."""
    from millrace.governance.migration import require_tables

    engine = engine_of(url)
    require_tables(engine)
    return engine


def _explain_absence(context: ExceptionContext) -> StateUnavailableError | None:
    """What is raised instead where a connection cannot be made, or broke, or the file is damaged."""
    if context.engine is not None and type(context.original_exception) is sqlite3.DatabaseError:
        return StateUnavailableError(
            f"the state database is damaged: {context.original_exception}",
            where=context.engine.url.render_as_string(),
            remedy="restore it from a backup; a copy of the ledger is what `millrace ledger export` wrote",
        )
    if context.engine is None or not (context.connection is None or context.is_disconnect):
        return None
    told = str(context.original_exception).strip().splitlines() or [type(context.original_exception).__name__]
    return StateUnavailableError(
        f"the state database does not answer: {told[0]}",
        where=context.engine.url.render_as_string(),
        remedy="`make status` shows whether it runs, `make up` starts it; else correct MILLRACE_STATE_URL",
    )


def _unusable(url: str, why: str) -> SettingsError:
    return SettingsError(
        f"{url!r} {why}", where="MILLRACE_STATE_URL", remedy="set postgresql+psycopg2://… or sqlite:///<path>"
    )
