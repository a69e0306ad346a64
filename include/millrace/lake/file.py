"""The Parquet files of a table: brought into its folder before a commit names them, and fetched from it to read."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from millrace.lake.staging import StagedFile

_BLOCK = 1 << 23


def is_remote(uri: str) -> bool:
    """True for an object store, False for a local folder."""
    return "://" in uri and not uri.startswith("file://")


def bring(uri: str, staged: StagedFile, *, folder: str) -> str:
    """Move a staged file into the folder of a local table, where no reader sees it before a commit names it.

    Args:
        uri: of the table.
        staged: the file; gone from its place afterwards.
        folder: folder inside the table (`partition=2013-03`), or "".

    Returns:
        Its path inside the table.
    """
    name = "/".join([*([folder] if folder else []), f"part-{uuid.uuid4()}.parquet"])
    target = local(uri) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with staged.path.open("rb+") as written:
        os.fsync(written.fileno())
    try:
        staged.path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(staged.path, target)
    return name


def local(uri: str) -> Path:
    """The folder of a local table."""
    return Path(uri.removeprefix("file://"))


def stream(staged: StagedFile, key: Mapping[str, str]) -> pa.RecordBatchReader:
    """The rows of a staged file, with columns of one value added."""
    from pyarrow import parquet

    schema = staged.schema
    for column in key:
        schema = schema.append(pa.field(column, pa.string()))

    def batches() -> Iterator[pa.RecordBatch]:
        with parquet.ParquetFile(staged.path) as source:
            for batch in source.iter_batches():
                added = [pa.repeat(pa.scalar(value, pa.string()), batch.num_rows) for value in key.values()]
                yield pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def add_action(name: str, staged: StagedFile, partition: dict[str, str | None], size: int) -> Any:
    """What a commit says of a file."""
    from deltalake.transaction import AddAction

    return AddAction(
        path=name,
        size=size,
        partition_values=partition,
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps({"numRecords": staged.rows}),
    )


def fetch(uri: str, files: Sequence[str], into: Path) -> list[Path]:
    """Local paths of files of a table, in their order; those of an object store are copied into a folder.

    Args:
        uri: of the table.
        files: as `DeltaTable.file_uris` names them.
        into: folder for copies.
    """
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import PyFileSystem

    if not is_remote(uri):
        return [Path(unquote(file.removeprefix("file://"))) for file in files]
    storage, found = PyFileSystem(DeltaStorageHandler(uri)), []
    for number, file in enumerate(files):
        path = into / f"{number:05d}.parquet"
        name = file.removeprefix(uri).lstrip("/")
        with storage.open_input_stream(unquote(name)) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, _BLOCK)
        found.append(path)
    return found
