"""Parquet as record batches: declared columns only, cast to the declared types where nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import SourceError

_BATCH_ROWS = 1 << 16


def read_parquet(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches of the declared columns.

    Raises:
        SourceError: not Parquet, a declared column is missing, or a value does not fit its declared type.
    """
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow, schema)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=schema.names, use_threads=False):
                columns = [_cast(path, field, batch.column(field.name)) for field in schema]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except pa.ArrowInvalid as error:
        raise SourceError(f"not a Parquet file: {error}", where=str(path), remedy="deliver the file again") from error


def _check_columns(path: Path, present: pa.Schema, schema: pa.Schema) -> None:
    for field in schema:
        if field.name not in present.names:
            raise SourceError(
                f"column {field.name!r} is missing; there are: {', '.join(present.names[:30])}",
                where=f"{path}, column {field.name}",
                remedy=f"deliver the file with column {field.name!r}, or correct `columns` of the source",
            )
        kind = present.field(field.name).type
        if pa.types.is_timestamp(field.type) and pa.types.is_timestamp(kind) and kind.tz is None:
            raise SourceError(
                f"column {field.name!r} holds times without a zone, which is ambiguous",
                where=f"{path}, column {field.name}",
                remedy="write the column as timestamps with a zone",
            )


def _cast(path: Path, field: pa.Field, values: pa.Array) -> pa.Array:
    try:
        return pc.cast(values, field.type, safe=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SourceError(
            f"column {field.name!r} is {values.type} and does not fit {field.type}: {error}",
            where=f"{path}, column {field.name}",
            remedy="mend the values, or correct the type in `columns` of the source",
        ) from error
