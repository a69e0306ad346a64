"""Files as the contract suite reads them: each format, packed and plain, local and in storages."""

from __future__ import annotations

import atexit
import functools
import gzip
import io
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.contract.object_store import bucket
from tests.contract.sources import FIRST, LAST, Kind, Place, no_connections

from millrace.ingestion.base import Connection
from millrace.ingestion.file_source import FileSource
from millrace.ingestion.fsspec_storage import options_of

Encode = Callable[[pa.Table], bytes]
Pack = Callable[[bytes], bytes]


def as_csv(table: pa.Table) -> bytes:
    lines = [",".join(table.column_names)]
    for row in table.to_pylist():
        shown = {**row, "at": row.get("at") and row["at"].isoformat()}
        if row.get("name"):
            shown["name"] = f'"{row["name"]}"'
        lines.append(",".join("NA" if value is None else str(value) for value in shown.values()))
    return ("\n".join(lines) + "\n").encode()


def as_jsonl(table: pa.Table) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in table.to_pylist())


def as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=64)
    return sink.getvalue()


def zipped(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows", content)
    return sink.getvalue()


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, "zstd", asbytes=True)
    return packed


def open_file(spec: Any, place: Place) -> FileSource:
    return FileSource(
        spec=spec, root=place.folder, staging=place.staging, connections=no_connections, first=FIRST, last=LAST
    )


def local(name: str, encode: Encode, pack: Pack = bytes, **spec: Any) -> Kind:
    """Files of one name, which may be a pattern; `{partition}` has no place in it here."""

    def path(place: Place) -> Path:
        return place.folder / name.replace("*", "one")

    def write(place: Place, table: pa.Table) -> dict[str, Any]:
        path(place).write_bytes(pack(encode(table)))
        return {"kind": "file", "uri": name, **spec}

    def spoil(place: Place) -> None:
        content = path(place).read_bytes()
        path(place).write_bytes(content[: len(content) // 2] if pack is not bytes else b"\0\xff" * 200)

    label = f"{name} in {spec['encoding']}" if "encoding" in spec else name
    return Kind(
        name=label,
        write=write,
        open=open_file,
        spoil=spoil,
        remove=lambda place: path(place).unlink(),
        text=encode is not as_parquet,
    )


def two_files() -> Kind:
    """A table in two files, read one after the other."""

    def write(place: Place, table: pa.Table) -> dict[str, Any]:
        half = table.num_rows // 2
        for name, part in (("part1.csv", table.slice(0, half)), ("part2.csv", table.slice(half))):
            (place.folder / name).write_bytes(as_csv(part))
        return {"kind": "file", "uri": "part*.csv"}

    return Kind(name="two files", write=write, open=open_file, text=True)


def in_memory(name: str, encode: Encode, pack: Pack = bytes) -> Kind:
    """A storage of fsspec; that of its tests, which lies in memory."""

    def uri(place: Place) -> str:
        return f"memory://{place.folder.name}/{name}"

    def write(place: Place, table: pa.Table) -> dict[str, Any]:
        with fsspec.open(uri(place), "wb") as file:
            file.write(pack(encode(table)))
        return {"kind": "file", "uri": uri(place)}

    def remove(place: Place) -> None:
        system, path = fsspec.core.url_to_fs(uri(place))
        system.rm(path)

    return Kind(name=f"memory://{name}", write=write, open=open_file, remove=remove, text=encode is not as_parquet)


@functools.cache
def _store() -> str:
    """The address of an S3 server that stands until the tests end."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(bucket("source"))["AWS_ENDPOINT_URL"]


def in_bucket(name: str, encode: Encode) -> Kind:
    """S3, reached with an Airflow connection."""

    def connection(name: str) -> Connection:
        extra = {"endpoint_url": _store(), "region_name": "us-east-1"}
        return Connection(name=name, kind="aws", login="test", password="test", extra=extra)

    def system() -> Any:
        return fsspec.filesystem("s3", **options_of("s3", connection("store")))

    def uri(place: Place) -> str:
        return f"s3://source/{place.folder.name}/{name}"

    def write(place: Place, table: pa.Table) -> dict[str, Any]:
        system().pipe(uri(place).replace("*", "one"), encode(table))
        return {"kind": "file", "uri": uri(place), "connection": "store"}

    def open_bucket(spec: Any, place: Place) -> FileSource:
        return replace(open_file(spec, place), connections=connection)

    return Kind(
        name=f"s3://{name}",
        write=write,
        open=open_bucket,
        remove=lambda place: system().rm(uri(place).replace("*", "one")),
        text=encode is not as_parquet,
        marks=[pytest.mark.integration],
    )


KINDS = [
    in_bucket("rows_*.csv", as_csv),
    in_bucket("rows.parquet", as_parquet),
    local("rows.csv", as_csv),
    local("rows.csv.gz", as_csv, gzip.compress),
    local("rows.csv.zst", as_csv, zstd),
    local("rows.csv.zip", as_csv, zipped),
    local("rows_*.csv", as_csv),
    local("rows.csv", lambda table: as_csv(table).decode().encode("utf-16"), encoding="utf-16"),
    local("rows.jsonl", as_jsonl),
    local("rows.ndjson.gz", as_jsonl, gzip.compress),
    local("rows.parquet", as_parquet),
    two_files(),
    in_memory("rows.csv", as_csv),
    in_memory("rows.jsonl.gz", as_jsonl, gzip.compress),
    in_memory("rows.parquet", as_parquet),
]
