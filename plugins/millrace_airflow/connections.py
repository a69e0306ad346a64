"""Airflow's connections as the library knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection as AirflowConnection
from airflow.sdk.exceptions import AirflowNotFoundException

from millrace.errors import SourceError

if TYPE_CHECKING:
    from millrace.ingestion import Connection


def airflow_connections(name: str) -> Connection:
    """The connection of that id, from wherever Airflow keeps its own: environment, secrets backend or database.

    Raises:
        SourceError: there is none.
    """
    try:
        found = AirflowConnection.get(name)
    except AirflowNotFoundException as error:
        raise _unknown(name) from error
    return _without_airflow(found, found.extra_dejson)


async def await_connection(name: str) -> Connection:
    """The same in a trigger, whose loop must not wait.

    Raises:
        SourceError: there is none.
    """
    try:
        found = await AirflowConnection.async_get(name)
    except AirflowNotFoundException as error:
        raise _unknown(name) from error
    return _without_airflow(found, await found.aextra_dejson())


def _without_airflow(found: Any, extra: Mapping[str, Any]) -> Connection:
    from millrace.ingestion import Connection

    return Connection(
        name=found.conn_id,
        kind=found.conn_type or "",
        host=found.host or "",
        port=found.port,
        login=found.login or "",
        password=found.password or "",
        schema=found.schema or "",
        extra=extra,
    )


def _unknown(name: str) -> SourceError:
    return SourceError(
        f"Airflow has no connection {name!r}",
        where=f"connection {name}",
        remedy=f"add it under Admin → Connections, or as AIRFLOW_CONN_{name.upper()}; or correct `connection` of the "
        "source. Then clear the task",
    )
