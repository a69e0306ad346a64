"""The engine that heavy work of a domain or use case runs on, and what a worker needs to know of an installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from millrace.engine import Engine, open_engine
from millrace.ingestion import Connection, Connections
from millrace.ingestion.connection import environment_connections
from millrace.settings import Settings
from millrace.spec import ComputeSpec, DomainSpec

_CLIENT_PORT = 10001


@contextmanager
def engine_of(domain: DomainSpec, *, connections: Connections = environment_connections) -> Iterator[Engine]:
    """The engine of `compute` in the domain's spec; what it started is stopped at the end.

    Raises:
        SettingsError: Ray is asked for and not installed.
        SourceError: there is no connection of that name.
    """
    with engine_for(domain.compute, connections=connections) as engine:
        yield engine


@contextmanager
def engine_for(compute: ComputeSpec, *, connections: Connections = environment_connections) -> Iterator[Engine]:
    """The engine that a domain or a use case asks for; what it started is stopped at the end.

    Args:
        compute: of the spec.
        connections: gives the connection of a name.

    Raises:
        SettingsError: Ray is asked for and not installed.
        SourceError: there is no connection of that name.
    """
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
