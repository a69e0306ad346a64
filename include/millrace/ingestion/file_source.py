"""The source of kind `file`: CSV (plain, `.gz`, `.zip`) and Parquet."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from millrace.errors import SourceError
from millrace.ingestion.base import keep_partition, partition_values
from millrace.ingestion.csv_reader import read_csv
from millrace.ingestion.location import locate
from millrace.ingestion.parquet_reader import read_parquet
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec.domain import SourceSpec

_FORMATS = {".csv": "csv", ".csv.gz": "csv", ".csv.zip": "csv", ".zip": "csv", ".gz": "csv", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """One file that holds all partitions; each reading filters it while it streams by.

    Attributes:
        spec: the source as its domain declares it.
        root: folder that relative paths start at.
    """

    spec: SourceSpec
    root: Path

    @property
    def schema(self) -> pa.Schema:
        """The declared columns."""
        return arrow_schema(self.spec.columns)

    @property
    def origin(self) -> str:
        """The URI of the spec."""
        return self.spec.uri

    def batches(self, partition: Partition) -> Iterator[pa.RecordBatch]:
        """The rows of a partition in the order of the file; batches without rows are left out.

        Raises:
            SourceError: the file is absent, unreadable, or has not what `columns` declares.
        """
        path = locate(self.spec.uri, self.root)
        values = partition_values(self.spec, partition)
        try:
            for batch in self._read(path):
                kept = keep_partition(batch, values, origin=str(path))
                if kept.num_rows:
                    yield kept
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise SourceError(
                f"cannot be read: {error}", where=str(path), remedy="check its rights, or deliver the file again"
            ) from error

    def _read(self, path: Path) -> Iterator[pa.RecordBatch]:
        ending = next((item for item in ("".join(path.suffixes[-2:]), path.suffix) if item in _FORMATS), "")
        if not ending:
            raise SourceError(
                f"unknown format {path.suffix!r}", where=str(path), remedy=f"use one of {', '.join(sorted(_FORMATS))}"
            )
        if _FORMATS[ending] == "parquet":
            return read_parquet(path, self.schema)
        return read_csv(path, self.schema, self.spec.null_values)
