"""Airflow connections without Airflow: read from the environment, and made addresses and credentials of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from millrace.errors import SourceError
from millrace.ingestion.base import Connection
from millrace.settings import connection_text

if TYPE_CHECKING:
    from sqlalchemy import URL

_DRIVERS = {"postgres": "postgresql+psycopg", "sqlite": "sqlite"}
_SCHEMES = {"postgresql": "postgres"}
_NOT_FOR_DRIVER = {"driver", "sqlalchemy_scheme", "sqlalchemy_query", "iam", "redshift", "cursor", "aws_conn_id"}
_CONNECT_S = "10"
_SECRET_WORDS = ("pass", "secret", "token", "key", "credential", "pwd")
_HIDDEN = "***"


def environment_connections(name: str) -> Connection:
    """The connection of a name, from `AIRFLOW_CONN_<NAME>`: a URI or JSON, as Airflow defines both.

    Raises:
        SourceError: there is none, or its text is neither.
    """
    text = connection_text(name)
    if text is None:
        raise SourceError(
            f"there is no connection {name!r}",
            where=f"connection {name}",
            remedy=f"add it (`airflow connections add {name} --conn-uri …`), or set AIRFLOW_CONN_{name.upper()}",
        )
    return parse_connection(name, text)


def parse_connection(name: str, text: str) -> Connection:
    """A connection of its text: `{"conn_type": …}` or `<type>://<login>:<password>@<host>:<port>/<schema>?<extra>`.

    Raises:
        SourceError: it is neither. The message does not show the text.
    """
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else _from_uri(text.strip())
        kind = str(found.get("conn_type") or "").lower().replace("-", "_")
        port = found.get("port")
        return Connection(
            name=name,
            kind=_SCHEMES.get(kind, kind),
            host=found.get("host") or "",
            port=int(port) if port else None,
            login=found.get("login") or "",
            password=found.get("password") or "",
            schema=found.get("schema") or "",
            extra=_extra(found.get("extra")),
        )
    except (ValueError, TypeError, AttributeError):
        raise SourceError(
            f"connection {name!r} is neither a URI nor JSON",
            where=f"AIRFLOW_CONN_{name.upper()}",
            remedy="write it as <type>://<login>:<password>@<host>:<port>/<schema> with each part percent-encoded",
        ) from None


def _extra(value: Any) -> dict[str, Any]:
    found = json.loads(value) if isinstance(value, str) and value else value or {}
    if not isinstance(found, dict):
        raise TypeError("extra is no object")
    return found


def _from_uri(text: str) -> dict[str, Any]:
    """The parts of a URI. The host may name a protocol of its own: `http://https://host/`."""
    kind, separator, rest = text.partition("://")
    if not separator:
        raise ValueError("no scheme")
    protocol, inner, there = rest.partition("://")
    nested = bool(inner) and not set(protocol) & set("/@?:")
    parts = urlsplit("//" + (there if nested else rest))
    given = parts.netloc.rpartition("@")[2]
    host = unquote(given.removesuffix(f":{parts.port}") if parts.port else given.removesuffix(":"))
    host = host.strip("[]")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return {
        "conn_type": kind,
        "host": f"{protocol}://{host}" if nested and host else host,
        "port": parts.port,
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "schema": unquote(parts.path[1:]),
        "extra": query.get("__extra__", query),
    }


def url_of(connection: Connection) -> URL:
    """The SQLAlchemy URL of a database.

    `extra["driver"]` chooses another driver than usual (`psycopg2`, or `dialect+driver`); other plain values of `extra`
    are handed to it. An SQLite file is opened, never made.
    """
    from sqlalchemy import URL

    name = _driver(connection)
    query = {
        key: str(value)
        for key, value in connection.extra.items()
        if key not in _NOT_FOR_DRIVER and isinstance(value, str | int | float) and not isinstance(value, bool)
    }
    if name.startswith("sqlite"):
        path = connection.host or connection.schema
        return URL.create(name, database=f"file:{quote(path)}", query={**query, "mode": "rw", "uri": "true"})
    host: str | None = connection.host
    if name.startswith("postgresql"):
        query = {"connect_timeout": _CONNECT_S, **query}
        if host and host.startswith("/"):  # the folder of a unix socket
            query, host = {**query, "host": host}, None
    return URL.create(
        name,
        username=connection.login or None,
        password=connection.password or None,
        host=host or None,
        port=connection.port,
        database=connection.schema or None,
        query=query,
    )


def _driver(connection: Connection) -> str:
    usual = _DRIVERS.get(connection.kind, connection.kind)
    given = connection.extra.get("driver") or connection.extra.get("sqlalchemy_scheme")
    if not given:
        return usual
    return str(given) if "+" in str(given) else f"{usual.partition('+')[0]}+{given}"


def storage_options(connection: Connection) -> dict[str, str]:
    """What an object store asks for, in the words of deltalake: `extra["storage_options"]`, and keys of AWS."""
    given = connection.extra.get("storage_options") or {}
    found = {str(name): str(value) for name, value in given.items()} if isinstance(given, Mapping) else {}
    if connection.kind not in {"aws", "s3"}:
        return found
    extra = connection.extra
    endpoint = str(extra.get("endpoint_url") or extra.get("host") or "")
    known = {
        "AWS_ACCESS_KEY_ID": connection.login or extra.get("aws_access_key_id"),
        "AWS_SECRET_ACCESS_KEY": connection.password or extra.get("aws_secret_access_key"),
        "AWS_SESSION_TOKEN": extra.get("aws_session_token"),
        "AWS_REGION": extra.get("region_name"),
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true" if endpoint.startswith("http://") else None,
    }
    return {**{name: str(value) for name, value in known.items() if value}, **found}


def scrub(text: str, connection: Connection | None) -> str:
    """A message without the secrets of a connection, however they are written in it."""
    if connection is None:
        return text
    for secret in sorted(_secrets(connection), key=len, reverse=True):
        for form in (secret, quote(secret, safe=""), quote_plus(secret), quote(secret)):
            text = text.replace(form, _HIDDEN)
    return text


def _secrets(connection: Connection) -> set[str]:
    found = {connection.password}
    waiting: list[tuple[str, Any]] = list(connection.extra.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Mapping):
            inherited = name if _is_secret(name) or name == "headers" else ""
            waiting += [(f"{inherited} {key}", item) for key, item in value.items()]
        elif isinstance(value, str) and (_is_secret(name) or name.startswith("headers ")):
            found.add(value)
    return {item for item in found if len(item) > 2}


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)
