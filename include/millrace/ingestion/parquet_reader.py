"""Parquet as record batches of the declared columns, conformed to their types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from millrace.errors import SourceError
from millrace.ingestion.base import check_columns
from millrace.ingestion.conform import conform
from millrace.ingestion.spool import Spool
from millrace.ingestion.text_format import Task

_BATCH_ROWS = 1 << 16


@dataclass(slots=True, kw_only=True)
class ParquetReader:
    """Reads one Parquet file once. Records have numbers there, no offsets; what is set aside are its declared fields.

    Attributes:
        path: where it lies.
        name: of the file, for messages.
        task: what is asked for.
        label: what the file is called in rejects.
        spool: takes the rejects.
        undeclared: columns that no declared one is read from.
    """

    path: Path
    name: str
    task: Task
    label: str
    spool: Spool
    undeclared: list[str] = field(init=False, default_factory=list)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of the partition in the order of the file.

        Raises:
            SourceError: not Parquet, or it has not the declared columns.
        """
        number = 1
        for batch in self._read():
            good, bad = conform(
                batch,
                self.task.spec,
                self.task.partition,
                where=self.name,
                first_record=number,
                first=self.task.first,
                last=self.task.last,
                file=self.label,
            )
            number += batch.num_rows
            if bad is not None:
                self.spool.write(bad)
            if good.num_rows:
                yield good

    def _read(self) -> Iterator[pa.RecordBatch]:
        from pyarrow import parquet

        names = list(self.task.spec.columns)
        try:
            with parquet.ParquetFile(self.path) as file:
                present = file.schema_arrow.names
                self.undeclared = [name for name in present if name not in names]
                check_columns(names, present, where=self.name)
                yield from file.schema_arrow.empty_table().select(names).to_batches()
                yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"not a Parquet file: {error}", where=self.name, remedy="deliver the file again"
            ) from error
