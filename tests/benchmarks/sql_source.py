"""Seconds from 1 M rows in PostgreSQL to a committed partition, against COPY … CSV piped into pyarrow and Parquet."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import make_url

from tests.benchmarks.flight_rows import write_csv
from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.process import peak_mb, run_python
from tests.benchmarks.row import Row
from tests.postgres_server import serve

GOAL = 1.5
ROWS = 1_000_000
YEAR = 336_776
TABLE = "benchmark_flights"
COLUMNS = {
    **{"year": "int32", "month": "int32", "day": "int32", "dep_time": "int32", "sched_dep_time": "int32"},
    **{"dep_delay": "int32", "arr_time": "int32", "sched_arr_time": "int32", "arr_delay": "int32"},
    **{"carrier": "string", "flight": "int32", "tailnum": "string", "origin": "string", "dest": "string"},
    **{"air_time": "int32", "distance": "int32", "hour": "int32", "minute": "int32", "time_hour": "timestamp"},
}
_SQL = {"int32": "integer", "string": "text", "timestamp": "timestamptz"}


def run(scale: float) -> list[Row]:
    """A million flights (times `scale`), each side in processes of its own.

    Ours reads in the order of the key, digests and commits; the other side does neither.
    """
    with serve() as url, tempfile.TemporaryDirectory(prefix="millrace-sql-") as folder, _filled(url, scale):
        found = compare(lambda: _measure("ours", url, folder), lambda: _measure("other", url, folder))
    return [
        Row(
            name="sql_source",
            scale=scale,
            ours=found.ours,
            other=found.other,
            other_is="psycopg's COPY … CSV piped into pyarrow.csv, written as Parquet",
            unit="s",
            goal=GOAL,
            goal_kind="ratio",
            peak_mb=found.peak_mb,
        )
    ]


@contextmanager
def _filled(url: str, scale: float) -> Iterator[None]:
    """The table, with its key, for as long as it is needed."""
    rows = round(ROWS * scale)
    columns = ", ".join(f"{name} {_SQL[kind]}" for name, kind in COLUMNS.items())
    with _connect(url) as connection, tempfile.TemporaryDirectory(prefix="millrace-csv-") as folder:
        path = write_csv(Path(folder) / "flights.csv", copies=-(-rows // YEAR))
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} (id bigserial, {columns})")
        copy = f"COPY {TABLE} ({', '.join(COLUMNS)}) FROM STDIN (FORMAT csv, HEADER, NULL 'NA')"
        with connection.cursor() as cursor, cursor.copy(copy) as sink, path.open("rb") as file:
            while block := file.read(1 << 20):
                sink.write(block)
        connection.execute(f"DELETE FROM {TABLE} WHERE id > {rows}")
        connection.execute(f"ALTER TABLE {TABLE} ADD PRIMARY KEY (id)")
        connection.commit()
        connection.autocommit = True
        connection.execute(f"VACUUM ANALYZE {TABLE}")
        yield
        connection.execute(f"DROP TABLE {TABLE}")


def _connect(url: str) -> Any:
    import psycopg

    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))


def _measure(side: str, url: str, folder: str) -> Sample:
    code = f"import tests.benchmarks.sql_source as it; it.work({side!r}, {url!r}, {folder!r})"
    told = run_python("-c", code)
    return Sample(figure=told["seconds"], result=told["result"], peak_mb=told["peak_mb"])


def work(side: str, url: str, folder: str) -> None:
    """One side once, in this process; prints what it took and what came out."""
    import duckdb

    import millrace.ingestion.delta_source
    import millrace.ingestion.postgres_copy
    import millrace.ingestion.sqlalchemy_reading
    import millrace.step.ingestion  # noqa: F401

    duckdb.connect().close()
    with tempfile.TemporaryDirectory(dir=folder) as target:
        base = peak_mb()
        started = time.perf_counter()
        files = (_ingest if side == "ours" else _pipe)(url, Path(target))
        told = {"seconds": time.perf_counter() - started, "peak_mb": peak_mb() - base}
        sums = ", ".join(f"sum({name}), count({name})" for name, kind in COLUMNS.items() if kind == "int32")
        texts = ", ".join(f"sum(hash({name}))::varchar" for name, kind in COLUMNS.items() if kind == "string")
        rows = f"SELECT count(*), max(epoch_us(time_hour)), {sums}, {texts} FROM read_parquet($1)"
        result = duckdb.execute(rows, [[str(path) for path in files]]).fetchone()
    print(orjson.dumps({**told, "result": [str(value) for value in result or ()]}).decode())


def _ingest(url: str, target: Path) -> list[Path]:
    from millrace.ingestion.base import Connection
    from millrace.settings import Settings
    from millrace.spec import DomainSpec
    from millrace.step.ingestion import ingest_partition

    parts = make_url(url)
    connection = Connection(
        name="database",
        kind="postgres",
        host=str(parts.host or parts.query.get("host", "")),
        port=parts.port,
        login=parts.username or "",
        password=parts.password or "",
        schema=parts.database or "",
    )
    columns = {"id": "int64", **COLUMNS}
    source = {"kind": "sql", "connection": "database", "table": TABLE, "columns": columns, "key": ["id"]}
    domain = DomainSpec.model_validate(
        {
            **{"name": "flights", "description": "flights in a database", "owners": ["admin"], "first": "2013-01"},
            **{"sources": {"flights": {**source, "null_values": []}}, "feature_tables": {}},
        }
    )
    settings = Settings.load({**os.environ, "MILLRACE_VAR": str(target)})
    ingest_partition(domain, "flights", "2013-01", settings=settings, connections=lambda _: connection)
    return sorted((target / "lake").rglob("*.parquet"))


def _pipe(url: str, target: Path) -> list[Path]:
    """What a good engineer writes: a thread feeds the rows into a pipe that pyarrow reads in blocks."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    kinds = {"int32": pa.int32(), "string": pa.string(), "timestamp": pa.timestamp("us", "UTC")}
    types = {"id": pa.int64(), **{name: kinds[kind] for name, kind in COLUMNS.items()}}
    path = target / "flights.parquet"
    reading, writing = os.pipe()

    def feed() -> None:
        query = f"COPY (SELECT {', '.join(types)} FROM {TABLE}) TO STDOUT (FORMAT csv)"
        with os.fdopen(writing, "wb") as sink, _connect(url) as connection:
            with connection.cursor() as cursor, cursor.copy(query) as copy:
                for row in copy:
                    sink.write(row)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(reading, "rb") as stream:
        batches = csv.open_csv(
            stream,
            read_options=csv.ReadOptions(column_names=list(types), block_size=4 << 20),
            convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""]),
        )
        with parquet.ParquetWriter(path, batches.schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
    feeder.join()
    return [path]
