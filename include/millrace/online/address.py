"""Which online store an address names.

An address is the path of a SQLite file (or `sqlite:///path`), `redis://host:port/db` (also `rediss://`, `unix://`) or
`postgresql://user@host/database`. The client of a store is imported when one is opened.
"""

from __future__ import annotations

import re
from pathlib import Path

from millrace.errors import SettingsError
from millrace.online.base import OnlineReader, OnlineWriter

_REDIS = ("redis", "rediss", "unix")
_POSTGRES = ("postgresql", "postgres")
_SCHEME = re.compile(r"^([a-z][a-z0-9]*)(\+[a-z0-9]+)?://", re.IGNORECASE)
_PASSWORD = re.compile(r"(://[^/@:?#]*):(?:(?<=//:)|(?!\d*[/?,]))(.*)@")
_ASKED = re.compile(r"(?i)([?&](?:ssl)?password=)[^&]*")
_UNENCODED = re.compile(r"[/?#@\s]|%(?![0-9A-Fa-f]{2})")


def open_reader(url: str | Path) -> OnlineReader:
    """A reader of the store at an address.

    Raises:
        SettingsError: no store has addresses of this form.
    """
    kind, address = _kind(str(url))
    if kind == "redis":
        from millrace.online.redis_reader import RedisReader

        return RedisReader(address)
    if kind == "postgresql":
        from millrace.online.psycopg_reader import PostgresReader

        return PostgresReader(address)
    from millrace.online.sqlite_reader import SQLiteReader

    return SQLiteReader(address)


def open_writer(url: str | Path) -> OnlineWriter:
    """A writer of the store at an address.

    Raises:
        SettingsError: no store has addresses of this form.
    """
    kind, address = _kind(str(url))
    if kind == "redis":
        from millrace.online.redis_writer import RedisWriter

        return RedisWriter(address)
    if kind == "postgresql":
        from millrace.online.psycopg_writer import PostgresWriter

        return PostgresWriter(address)
    from millrace.online.sqlite_writer import SQLiteWriter

    return SQLiteWriter(address)


def show(url: str) -> str:
    """The address without its password."""
    return _ASKED.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


def _kind(url: str) -> tuple[str, str]:
    """Kind of store, and the address as its client wants it."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return "sqlite", url
    name = scheme[1].lower()
    secret = _PASSWORD.search(url) if name in (*_REDIS, *_POSTGRES) else None
    if secret is not None and _UNENCODED.search(secret[2]):
        raise SettingsError(
            "the password in the address of the online store holds characters that end it too early",
            where=show(url),
            remedy="write them percent-encoded in MILLRACE_ONLINE_STORE: %2F for /, %40 for @, %25 for %",
        )
    if name in _REDIS:
        return "redis", url
    if name in _POSTGRES:
        return "postgresql", f"postgresql://{url[scheme.end() :]}"
    if name == "sqlite":
        return "sqlite", url[scheme.end() :].removeprefix("/") or "online.db"
    raise SettingsError(
        f"no online store has an address of the form {scheme[0]}…",
        where="MILLRACE_ONLINE_STORE",
        remedy="use the path of a SQLite file, redis://host:port/db or postgresql://user@host/database",
    )
