"""The engine a domain's heavy work runs on, and what a worker needs to know of this installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from millrace.engine import Engine, open_engine
from millrace.ingestion import Connection, Connections
from millrace.ingestion.connection import environment_connections
from millrace.settings import Settings
from millrace.spec import DomainSpec

_CLIENT_PORT = 10001


@contextmanager
def engine_of(domain: DomainSpec, *, connections: Connections = environment_connections) -> Iterator[Engine]:
    """The engine of `compute` in the domain's spec; what it started is stopped at the end.

    Args:
        domain: the domain.
        connections: gives the connection of a name.

    Raises:
        SettingsError: Ray is asked for and not installed.
        SourceError: there is no connection of that name.
    """
    compute = domain.compute
    if compute.engine == "local" or not compute.connection:
        with open_engine(compute) as engine:
            yield engine
        return
    connection = connections(compute.connection)
    with open_engine(compute, address=address_of(connection), token=connection.password) as engine:
        yield engine


def address_of(connection: Connection) -> str:
    """Where a Ray cluster answers: `address` in the connection's extra, else Ray's client port at its host."""
    return str(connection.extra.get("address") or f"ray://{connection.host}:{connection.port or _CLIENT_PORT}")


def for_workers(settings: Settings) -> Settings:
    """The installation without the secrets that no feature needs: settings travel with each piece of work."""
    return replace(settings, serving_token="", privacy_key="")
