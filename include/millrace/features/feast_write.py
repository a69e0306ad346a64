"""Writing through Feast: saved datasets, facts that are pushed, and logged features."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from feast import FeatureView
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.file_source import FileSource
from feast.repo_config import RepoConfig

from millrace.errors import FeatureError
from millrace.features.feast_source import LakeSource, file_system, open_source, source_path, storage_options
from millrace.lake import Table
from millrace.lake.commits import PARTITION
from millrace.lake.digest import content_digest

_PANDAS_INDEX = "__index_level_"


def save(pieces: Iterator[pa.Table], source: FileSource, config: RepoConfig, *, allow_overwrite: bool) -> None:
    """Write a result where nothing is, or over what is there; what was there stays until the result is complete.

    Raises:
        FeatureError: something is there and may not be overwritten.
    """
    if not allow_overwrite and _is_there(source, config):
        raise FeatureError(
            "something is there already",
            where=source_path(source, config),
            remedy="name another place, or pass allow_overwrite=True",
        )
    schema, batches = _stream(pieces)
    if isinstance(source.file_format, DeltaFormat):
        from deltalake import write_deltalake

        write_deltalake(
            source_path(source, config),
            pa.RecordBatchReader.from_batches(schema, batches),
            mode="overwrite",
            schema_mode="overwrite",
            storage_options=storage_options(source),
        )
        return
    files, path = _files(source, config)
    if path.endswith(".parquet"):
        _write_file(files, path, schema, batches)
        return
    old = [item.path for item in files.get_file_info(pafs.FileSelector(path, allow_not_found=True)) if item.is_file]
    _write_file(files, f"{path}/{uuid.uuid4().hex}.parquet", schema, batches)
    for name in old:
        files.delete_file(name)


def push(view: FeatureView, rows: pa.Table, config: RepoConfig) -> None:
    """Append facts to the source of a view: to Parquet (file or folder), Delta, or a writable table of the lake.

    Columns may come in any order, by their names in the source or as the field mapping calls them. To the lake the
    same facts are appended once, however often they are pushed.

    Raises:
        FeatureError: other columns than the source's, types that cannot be cast, or a table that is computed.
    """
    source = view.batch_source
    if isinstance(source, LakeSource) and not source.writable:
        raise FeatureError(
            f"view {view.name!r} cannot be written through Feast: its table is computed of clean data",
            where=source.table,
            remedy="run the domain's data DAG, or `millrace features build`; "
            "facts from elsewhere go to a LakeSource(writable=True) of their own",
        )
    if isinstance(source, LakeSource):
        _push_to_lake(source, rows, config)
        return
    schema = open_source(source, config, view=view.name).schema
    rows = _fit(view.name, source, rows, schema)
    if isinstance(source.file_format, DeltaFormat):
        from deltalake import write_deltalake

        write_deltalake(source_path(source, config), rows, mode="append", storage_options=storage_options(source))
        return
    files, path = _files(source, config)
    if files.get_file_info(path).type == pafs.FileType.Directory:
        _write_file(files, f"{path}/{uuid.uuid4().hex}.parquet", schema, iter(rows.to_batches()))
        return
    with _alone(files, path):
        old = pads.dataset(path, filesystem=files, format="parquet")
        _write_file(files, path, schema, _chain(old, rows))


def log_features(data: pa.Table | Path, destination: Any) -> None:
    """Add logged features to a folder of Parquet files, in files of their own.

    Args:
        data: rows, or a folder of Parquet files with them.
        destination: a `FileLoggingDestination`.
    """
    files, path = FileSource.create_filesystem_and_path(destination.path, destination.s3_endpoint_override or "")
    rows = pads.dataset(data, format="parquet") if isinstance(data, Path) else data
    pads.write_dataset(
        rows,
        path,
        filesystem=files,
        format="parquet",
        basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
        partitioning=destination.partition_by or None,
        partitioning_flavor="hive" if destination.partition_by else None,
        existing_data_behavior="overwrite_or_ignore",
    )


def _push_to_lake(source: LakeSource, rows: pa.Table, config: RepoConfig) -> None:
    """Facts go to the partition of the month they happened in, each partition's under the digest of its rows."""
    table = Table(config.offline_store.resolve_lake(), source.table)
    if table.exists():
        schema = pa.schema([field for field in open_source(source, config).schema if field.name != PARTITION])
        rows = _fit(source.name, source, rows, schema)
    months = pc.strftime(rows.column(source.timestamp_field), format="%Y-%m")
    for month in sorted(pc.unique(months).to_pylist()):
        part = rows.filter(pc.equal(months, month))
        table.append(part, partition=month, marker=f"push-{content_digest(part)}")


def _fit(view: str, source: DataSource, rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with the columns and types of the source."""
    mapped = {feature: column for column, feature in source.field_mapping.items()}
    rows = rows.select([name for name in rows.column_names if not name.startswith(_PANDAS_INDEX)])
    held = [name if name in schema.names else mapped.get(name, name) for name in rows.column_names]
    rows = rows.rename_columns(held)
    if sorted(held) != sorted(schema.names):
        missing, more = sorted(set(schema.names) - set(held)), sorted(set(held) - set(schema.names))
        raise FeatureError(
            f"facts for view {view!r} have other columns than its source {source.name!r}",
            where=f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(more) or 'none'}",
            remedy=f"give {', '.join(schema.names)}",
        )
    try:
        return rows.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise FeatureError(
            f"facts for view {view!r} do not fit its source {source.name!r}: {error}",
            remedy="cast them to the types of the source",
        ) from error


def _is_there(source: FileSource, config: RepoConfig) -> bool:
    if isinstance(source.file_format, DeltaFormat):
        from deltalake import DeltaTable

        return bool(DeltaTable.is_deltatable(source_path(source, config), storage_options(source)))
    files, path = _files(source, config)
    found = files.get_file_info(path)
    if found.type == pafs.FileType.Directory:
        return bool(files.get_file_info(pafs.FileSelector(path)))
    return bool(found.type == pafs.FileType.File)


def _files(source: FileSource, config: RepoConfig) -> tuple[Any, str]:
    files, path = file_system(source, config)
    return files or pafs.LocalFileSystem(), path


def _stream(pieces: Iterator[pa.Table]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema of pieces, and their batches; each piece is made when it is asked for."""
    first = next(pieces)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for piece in pieces:
            yield from piece.to_batches()

    return first.schema, batches()


def _chain(old: Any, rows: pa.Table) -> Iterator[pa.RecordBatch]:
    yield from old.to_batches(batch_size=65_536, batch_readahead=2)
    yield from rows.to_batches()


def _write_file(files: Any, path: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    """A Parquet file that is there complete or not at all: written aside first, then moved or uploaded."""
    local = isinstance(files, pafs.LocalFileSystem)
    if local:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".millrace-", dir=Path(path).parent if local else None) as folder:
        staged = Path(folder) / "rows.parquet"
        with pq.ParquetWriter(staged, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        if local:
            with staged.open("rb") as file:
                os.fsync(file.fileno())
            staged.replace(path)
        else:
            pafs.copy_files(str(staged), path, destination_filesystem=files)


@contextlib.contextmanager
def _alone(files: Any, path: str) -> Iterator[None]:
    """One writer at a time of files in a local folder; object stores have no such lock."""
    if not isinstance(files, pafs.LocalFileSystem):
        yield
        return
    folder = os.open(Path(path).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)
        os.close(folder)
