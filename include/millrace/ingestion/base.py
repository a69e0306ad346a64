"""What every source is: a stream of record batches of the declared types, for one partition at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import SourceError, SpecError
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec.domain import SourceSpec


class Source(Protocol):
    """A stream of Arrow record batches with bounded memory. Reading twice gives the same rows in the same order."""

    @property
    def schema(self) -> pa.Schema:
        """The declared columns; every batch has exactly these."""
        ...

    @property
    def origin(self) -> str:
        """Where it reads from, for messages and lineage."""
        ...

    def batches(self, partition: Partition) -> Iterator[pa.RecordBatch]:
        """The rows of a partition (all rows of a static source), in the order of the source.

        Raises:
            SourceError: the source has not what its spec declares; names place, column and remedy.
        """
        ...


def partition_values(spec: SourceSpec, partition: Partition) -> dict[str, pa.Scalar]:
    """What the partition columns of a row of this partition hold, in their declared types.

    Raises:
        SpecError: a form gives no value of the declared type.
    """
    first_day = partition.start.astimezone(ZoneInfo(partition.timezone))
    types = arrow_schema(spec.columns)
    found = {}
    for column, form in spec.partition_columns.items():
        text = first_day.strftime(form)
        try:
            found[column] = pc.cast(pa.scalar(text), types.field(column).type)
        except pa.ArrowInvalid as error:
            raise SpecError(
                f"partition column {column!r}: {form!r} gives {text!r}, which is no {spec.columns[column]}",
                where=f"partition_columns.{column}",
                remedy="correct the form, or the type of the column",
            ) from error
    return found


def keep_partition(batch: pa.RecordBatch, values: Mapping[str, pa.Scalar], *, origin: str) -> pa.RecordBatch:
    """The rows of a batch that hold these values.

    Raises:
        SourceError: a row has no value there, so that no partition would ever hold it.
    """
    mask = None
    for column, value in values.items():
        present = batch.column(column)
        if present.null_count:
            raise SourceError(
                f"{present.null_count} rows have no value in partition column {column!r}: no partition would hold them",
                where=f"{origin}, column {column}",
                remedy="fill the column in the source, or partition by another one",
            )
        equal = pc.equal(present, value)
        mask = equal if mask is None else pc.and_(mask, equal)
    return batch if mask is None else batch.filter(mask)
