"""What was applied to Feast's registry, by digest, kept in the registry's own database; and the lock around applying.

Reading this costs a millisecond and no import of Feast, so a definition that did not change is never applied again.
"""

from __future__ import annotations

import fcntl
import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

log = logging.getLogger(__name__)
_LOCK = 0x6D696C6C  # one number for all of Millrace's applies: "mill"
_metadata = sa.MetaData()
_applied = sa.Table(
    "millrace_applied",
    _metadata,
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
)


@functools.lru_cache(maxsize=8)
def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    return sa.create_engine(parsed, poolclass=sa.NullPool)


def applied_digests(url: str) -> dict[str, str]:
    """Subject (`domain:flights`, `service:flight_delay_v1`) → digest of the definition that is in the registry."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            rows = connection.execute(sa.select(_applied.c.subject, _applied.c.digest)).all()
    except (sa.exc.OperationalError, sa.exc.ProgrammingError):
        # Nothing was applied yet, or the database is away; in both cases applying finds out and says so.
        log.debug("no digests of applied definitions in the registry", exc_info=True)
        return {}
    return {row.subject: row.digest for row in rows}


def record_digests(url: str, digests: dict[str, str]) -> None:
    """Note what was applied; call under `apply_lock`."""
    with _engine(url).begin() as connection:
        _metadata.create_all(connection)
        for subject, digest in digests.items():
            connection.execute(_applied.delete().where(_applied.c.subject == subject))
            connection.execute(_applied.insert().values(subject=subject, digest=digest))


@contextmanager
def apply_lock(url: str) -> Iterator[None]:
    """Only one process at a time applies: an advisory lock on Postgres, a locked file beside a SQLite database."""
    engine = _engine(url)
    if engine.dialect.name == "sqlite":
        path = Path(f"{engine.url.database}.lock")
        with path.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        return
    with engine.connect() as connection:
        _advisory(connection, "pg_advisory_lock")
        try:
            yield
        finally:
            _advisory(connection, "pg_advisory_unlock")


def _advisory(connection: Any, function: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SELECT {function}({_LOCK})"))
        connection.commit()
