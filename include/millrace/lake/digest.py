"""A digest of rows that can be taken while they stream by: equal rows in equal order, equal digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import canonical


@dataclass(slots=True)
class ContentDigest:
    """sha256 over schema and values, column by column; independent of how the rows are cut into batches.

    What lies under a null is undefined, so values are hashed without the nulls and the places of these apart.

    Attributes:
        schema: columns of every batch.
    """

    schema: pa.Schema
    _columns: list[tuple[Any, Any, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self._columns = [(hashlib.sha256(), hashlib.sha256(), hashlib.sha256()) for _ in self.schema]

    def update(self, batch: pa.RecordBatch) -> None:
        """Take in the next rows."""
        for (places, lengths, values), column in zip(self._columns, batch.columns, strict=True):
            if column.null_count:
                places.update(_bytes(pc.cast(column.is_valid(), pa.uint8())))
                column = column.drop_null()  # noqa: PLW2901 - the name stays right
            else:
                places.update(b"\1" * len(column))
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                lengths.update(_bytes(pc.cast(pc.binary_length(column), pa.int64())))
                values.update(_text(column))
            elif pa.types.is_boolean(column.type):
                values.update(_bytes(pc.cast(column, pa.uint8())))
            elif pa.types.is_primitive(column.type) or pa.types.is_decimal(column.type):
                values.update(_bytes(column))
            else:
                for value in column.to_pylist():
                    values.update(canonical(value) + b"\n")

    def hexdigest(self) -> str:
        """The digest of all rows so far."""
        whole = hashlib.sha256(str(self.schema.remove_metadata()).encode())
        for hashes in self._columns:
            for each in hashes:
                whole.update(each.digest())
        return whole.hexdigest()


def content_digest(table: pa.Table) -> str:
    """The digest of a table's rows in their order."""
    found = ContentDigest(table.schema)
    for batch in table.to_batches():
        found.update(batch)
    return found.hexdigest()


def _bytes(values: pa.Array) -> Any:
    """The bytes of fixed-width values without nulls."""
    if not len(values):
        return b""
    width = values.type.bit_width // 8
    return values.buffers()[1].slice(values.offset * width, len(values) * width)


def _text(values: pa.Array) -> Any:
    """The bytes of texts without nulls, one after the other."""
    if not len(values):
        return b""
    width = 8 if pa.types.is_large_string(values.type) else 4
    _, ends, data = values.buffers()
    kind = pa.int64() if width == 8 else pa.int32()
    offsets = pa.Array.from_buffers(kind, len(values) + 1, [None, ends.slice(values.offset * width)])
    first, last = offsets[0].as_py(), offsets[-1].as_py()
    return b"" if data is None or first == last else data.slice(first, last - first)
