"""What was applied to Feast's registry, with its text, kept in the registry's own database; and the lock around it.

Reading the digests costs a millisecond and no import of Feast, so a definition that did not change is never applied
again. The text of what was applied is what a changed definition is compared with.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from millrace.artifact import canonical, digest_of
from millrace.errors import FeatureError, StateUnavailableError

log = logging.getLogger(__name__)
Definition = dict[str, Any]
"""JSON of one declared thing; see `definition`."""
_LOCK = 0x6D696C6C  # one number for all of Millrace's applies: "mill"
_metadata = sa.MetaData()
_definition = sa.Table(
    "millrace_definition",
    _metadata,
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("definition", sa.Text, nullable=False),
)
_apply = sa.Table(
    "millrace_apply",
    _metadata,
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(64), nullable=False),
)


@functools.lru_cache(maxsize=8)
def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    return sa.create_engine(parsed, poolclass=sa.NullPool)


def applied_digests(url: str) -> dict[str, str]:
    """Subject (`table:carrier_delays`, `service:flight_delay_v1`) → digest of the definition that was applied."""
    rows = _rows(url, sa.select(_definition.c.subject, _definition.c.digest))
    return {row.subject: row.digest for row in rows}


def applied_definitions(url: str) -> dict[str, Definition]:
    """Subject → definition that was applied."""
    rows = _rows(url, sa.select(_definition.c.subject, _definition.c.definition))
    return {row.subject: orjson.loads(row.definition) for row in rows}


def revision(url: str) -> int:
    """Number of applies so far that changed something."""
    rows = _rows(url, sa.select(sa.func.max(_apply.c.revision)))
    return int(rows[0][0] or 0) if rows else 0


def record_applied(url: str, put: Mapping[str, Definition], drop: Collection[str], *, digest: str) -> int:
    """Note what was applied and what was removed; call under `apply_lock`.

    Args:
        url: the registry's database.
        put: definitions added or changed, by subject.
        drop: subjects removed.
        digest: of the plan.

    Returns:
        The number of this apply.
    """
    with _engine(url).begin() as connection:
        _metadata.create_all(connection)
        for subject in {*put, *drop}:
            connection.execute(_definition.delete().where(_definition.c.subject == subject))
        for subject, definition in put.items():
            row = {"subject": subject, "digest": digest_of(definition), "definition": canonical(definition).decode()}
            connection.execute(_definition.insert().values(row))
        number = int(connection.execute(sa.select(sa.func.max(_apply.c.revision))).scalar() or 0) + 1
        connection.execute(_apply.insert().values(revision=number, digest=digest))
    return number


@contextmanager
def apply_lock(url: str) -> Iterator[None]:
    """Only one process at a time applies: an advisory lock on Postgres, a locked file beside a SQLite database.

    Raises:
        FeatureError: the registry is in neither.
        StateUnavailableError: the registry's database goes away, here or in the block.
    """
    backend = sa.make_url(url).get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        raise FeatureError(
            f"the registry is in {backend}, where applies cannot be serialised",
            where="MILLRACE_REGISTRY_URL",
            remedy="set a URL of PostgreSQL or SQLite",
        )
    engine = _engine(url)
    if backend == "sqlite":
        with Path(f"{engine.url.database}.lock").open("w", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)  # a child forked meanwhile holds the file open too
        return
    with _reachable(engine), engine.connect() as connection:
        _advisory(connection, "pg_advisory_lock")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sa.exc.DBAPIError):  # a session that broke off holds no lock any more
                _advisory(connection, "pg_advisory_unlock")
            raise
        _advisory(connection, "pg_advisory_unlock")


@contextmanager
def _reachable(engine: sa.Engine) -> Iterator[None]:
    """What SQLAlchemy raises where the registry's database breaks off, in words."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if not (error.connection_invalidated or isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError))):
            raise
        raise StateUnavailableError(
            f"the feature registry broke off: {(str(error.orig).splitlines() or ['no reason given'])[0]}",
            where=engine.url.render_as_string(),
            remedy="see that its database runs and can be reached, then apply again: what was half done is made good",
        ) from error


def _advisory(connection: sa.Connection, function: str) -> None:
    connection.execute(sa.text(f"SELECT {function}({_LOCK})"))
    connection.commit()


def _rows(url: str, query: sa.Select[Any]) -> list[sa.Row[Any]]:
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            return list(connection.execute(query))
    except (sa.exc.OperationalError, sa.exc.ProgrammingError) as error:
        try:
            if not sa.inspect(engine).has_table(_apply.name):  # nothing was applied yet
                return []
        except sa.exc.OperationalError:
            log.debug("the registry's database does not answer", exc_info=True)
        raise StateUnavailableError(
            f"the feature registry does not answer: {str(error.orig).splitlines()[0]}",
            where=engine.url.render_as_string(),
            remedy="`make status` shows whether it runs, `make up` starts it; else correct MILLRACE_REGISTRY_URL",
        ) from error
