"""Databases, services, functions and Delta tables as the contract suite reads them."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import shutil
import sqlite3
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool
from tests.contract.sources import FIRST, LAST, Kind, Place, no_connections
from tests.postgres_server import NoServerError, shared_url

from millrace.ingestion.base import Connection
from millrace.ingestion.delta_source import DeltaSource
from millrace.ingestion.http_source import HttpSource
from millrace.ingestion.python_source import PythonSource
from millrace.ingestion.sql_source import SqlSource

_SQL = {
    "int64": "BIGINT",
    "int32": "INTEGER",
    "double": "FLOAT8",
    "string": "TEXT",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}


def records(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as JSON has them: times as text."""
    return [
        {name: value.isoformat() if name == "at" and value else value for name, value in row.items()}
        for row in table.to_pylist()
    ]


def file_of(place: Place) -> Path:
    return place.folder / "shop.db"


def write_sqlite(place: Place, table: pa.Table) -> dict[str, Any]:
    file_of(place).unlink(missing_ok=True)
    names = ", ".join(f'"{field.name}" {_SQL.get(str(field.type), "TEXT")}' for field in table.schema)
    with sqlite3.connect(file_of(place)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"CREATE TABLE sales ({names})")
        marks = ", ".join("?" * table.num_columns)
        connection.executemany(f"INSERT INTO sales VALUES ({marks})", [tuple(row.values()) for row in records(table)])
    connection.close()
    return {"kind": "sql", "connection": "shop", "table": "sales"}


def open_sqlite(spec: Any, place: Place) -> SqlSource:
    found = Connection(name="shop", kind="sqlite", host=str(file_of(place)))
    return SqlSource(spec=spec, connections=lambda _: found, first=FIRST, last=LAST)


def sqlite() -> Kind:
    return Kind(
        name="sqlite",
        write=write_sqlite,
        open=open_sqlite,
        spoil=lambda place: _overwrite(file_of(place)),
        remove=lambda place: file_of(place).unlink(),
        fingerprints=False,
    )


def _overwrite(path: Path) -> None:
    path.write_bytes(b"no database " * 100)


def _run(*statements: str) -> None:
    try:
        engine = create_engine(shared_url(), poolclass=NullPool)
    except NoServerError as error:
        pytest.skip(str(error))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _table_of(place: Place) -> str:
    return f"sales_{uuid.uuid5(uuid.NAMESPACE_URL, str(place.folder)).hex[:12]}"


@functools.cache
def _drop_at_exit(name: str) -> None:
    """The database may be one that the environment named."""
    shared_url()  # whose end is then registered first, so that it comes last
    atexit.register(_run, f"DROP TABLE IF EXISTS {name}")


def write_postgres(place: Place, table: pa.Table) -> dict[str, Any]:
    name = _table_of(place)
    columns = ", ".join(f'"{field.name}" {_SQL.get(str(field.type), "TEXT")}' for field in table.schema)
    rows = json.dumps(records(table)).replace("'", "''").replace(":", "\\:")
    _run(
        f"DROP TABLE IF EXISTS {name}",
        f"CREATE TABLE {name} ({columns})",
        f"INSERT INTO {name} SELECT * FROM json_populate_recordset(NULL\\:\\:{name}, '{rows}')",
    )
    _drop_at_exit(name)
    return {"kind": "sql", "connection": "shop", "table": name}


def open_postgres(spec: Any, place: Place, driver: str) -> SqlSource:
    url = make_url(shared_url())
    found = Connection(
        name="shop",
        kind="postgres",
        host=str(url.host or url.query.get("host", "")),
        port=url.port,
        login=url.username or "",
        password=url.password or "",
        schema=url.database or "",
        extra={"driver": driver},
    )
    return SqlSource(spec=spec, connections=lambda _: found, first=FIRST, last=LAST)


def postgres(driver: str) -> Kind:
    return Kind(
        name=f"postgres by {driver}",
        write=write_postgres,
        open=lambda spec, place: open_postgres(spec, place, driver),
        remove=lambda place: _run(f"DROP TABLE {_table_of(place)}"),
        fingerprints=False,
        marks=[pytest.mark.integration],
    )


class _Pages(BaseHTTPRequestHandler):
    """Serves `rows.json` of a folder, in pages where `page` is asked for."""

    def do_GET(self) -> None:
        folder, _, page = self.path.partition("?page=")
        path = Path(folder) / "rows.json"
        found = path.read_bytes() if path.exists() else b""
        if page and found.startswith(b"["):
            found = json.dumps(json.loads(found)[(int(page) - 1) * 150 :][:150]).encode()
        self.send_response(200 if path.exists() else 404)
        self.send_header("ETag", f'"{hash(found)}"')
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(found)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@functools.cache
def _service() -> str:
    """The address of a server that stands until the tests end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    atexit.register(server.server_close)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def http(name: str, **own: Any) -> Kind:
    def write(place: Place, table: pa.Table) -> dict[str, Any]:
        (place.folder / "rows.json").write_text(json.dumps(records(table)), encoding="utf-8")
        return {"kind": "http", "url": f"{_service()}{place.folder}", **own}

    return Kind(
        name=name,
        write=write,
        open=lambda spec, place: HttpSource(
            spec=spec, connections=no_connections, first=FIRST, last=LAST, sleep=lambda _: None
        ),
        spoil=lambda place: _overwrite(place.folder / "rows.json"),
        remove=lambda place: (place.folder / "rows.json").unlink(),
        fingerprints="page_param" not in own,
    )


def python(form: str) -> Kind:
    """A function that reads `rows.parquet` beside it."""
    given = "table.to_pylist()" if form == "records" else "table"

    def write(place: Place, table: pa.Table) -> dict[str, Any]:
        pq.write_table(table, place.folder / "rows.parquet")
        name = f"rows_{uuid.uuid5(uuid.NAMESPACE_URL, str(place.folder)).hex[:12]}"
        path = place.folder / f"{name}.py"
        path.write_text(
            "import pyarrow.parquet as pq\n\n\n"
            "def rows(partition):\n"
            f"    table = pq.read_table({str(place.folder / 'rows.parquet')!r})\n"
            f"    yield {given}\n",
            encoding="utf-8",
        )
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        return {"kind": "python", "function": f"{name}:rows", "partitioned": False}

    return Kind(
        name=f"python, {form}",
        write=write,
        open=lambda spec, place: PythonSource(spec=spec, connections=no_connections, first=FIRST, last=LAST),
        spoil=lambda place: _overwrite(place.folder / "rows.parquet"),
        remove=lambda place: (place.folder / "rows.parquet").unlink(),
        fingerprints=False,
    )


def write_delta(place: Place, table: pa.Table) -> dict[str, Any]:
    write_deltalake(str(place.folder / "sales"), table, mode="overwrite", schema_mode="overwrite")
    return {"kind": "delta", "uri": "sales"}


def spoil_delta(place: Place) -> None:
    for uri in DeltaTable(str(place.folder / "sales")).file_uris():
        _overwrite(Path(uri))


def delta() -> Kind:
    return Kind(
        name="delta",
        write=write_delta,
        open=lambda spec, place: DeltaSource(
            spec=spec, root=place.folder, connections=no_connections, first=FIRST, last=LAST
        ),
        spoil=spoil_delta,
        remove=lambda place: shutil.rmtree(place.folder / "sales"),
    )


KINDS = [
    sqlite(),
    postgres("psycopg"),
    postgres("psycopg2"),
    http("http, one page"),
    http("http, counted pages", page_param="page"),
    python("records"),
    python("tables"),
    delta(),
]
