"""The online stores that every test of the suite runs on, each empty at first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from tests import postgres_server, redis_server

from millrace.online import psycopg_reader, redis_reader

KINDS = ("sqlite", "redis", "postgres")
_PATIENCE_S = 120


@contextlib.contextmanager
def servers(kind: str) -> Iterator[str]:
    """Address of the server of a kind; "" where it needs none."""
    with patience():
        if kind == "redis":
            with redis_server.serve_url() as url:
                yield url
        else:
            yield postgres_server.shared_url() if kind == "postgres" else ""


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Readers wait for an answer as long as a busy machine needs for it; in service they give up within a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_reader, "_WAIT_SECONDS", float(_PATIENCE_S))
        patch.setattr(psycopg_reader, "_CONNECT_SECONDS", _PATIENCE_S)
        patch.setattr(psycopg_reader, "_SILENCE_SECONDS", float(_PATIENCE_S))
        yield


def empty_store(kind: str, server: str, folder: Path) -> str:
    """Address of a store of a kind that holds nothing."""
    if kind == "sqlite":
        return str(folder / "a folder" / "online.db")
    if kind == "redis":
        with redis.Redis.from_url(server) as client:
            client.flushdb()
    else:
        with psycopg.connect(server.replace("+psycopg2", ""), autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS millrace_online CASCADE")
    return server
