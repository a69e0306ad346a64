"""PostgreSQL's COPY as record batches: the text of the rows streams into Arrow's CSV reader, block by block."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import postgres
from pyarrow import csv

_BLOCK_BYTES = 4 << 20
_AHEAD = 3
_CANCEL_S = 5.0
_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "timestamptz": pa.timestamp("us", "UTC"),
    "timestamp": pa.timestamp("us"),
    "date": pa.date32(),
}
"""Types whose text Arrow reads; every other one comes as its text."""


@dataclass(slots=True, kw_only=True)
class CopyStream:
    """The rows of one SELECT.

    An empty text and null stay apart: COPY quotes the former. What PostgreSQL can say and Arrow's types cannot
    (`infinity`, years over 9999) comes as text.

    Attributes:
        connection: in the transaction that reads.
        text: the SELECT, with psycopg's placeholders.
        values: of these.
        names: columns of the result.
    """

    connection: psycopg.Connection[Any]
    text: str
    values: dict[str, Any]
    names: list[str] = field(init=False)
    _kinds: list[str] = field(init=False)

    def __post_init__(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM ({self.text}\n) AS rows LIMIT 0", self.values)
            found = cursor.description or []
        self.names = [column.name for column in found]
        self._kinds = [_name_of(column.type_code) for column in found]

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows. While some are worked on, the next ones arrive: server and reader keep each other busy.

        Args:
            schema: the declared columns; numbers without bounds are read with them in mind.
        """
        types = [self._type(name, kind, schema) for name, kind in zip(self.names, self._kinds, strict=True)]
        blocks = self._blocks()
        with ThreadPoolExecutor(1, thread_name_prefix="copy") as pool:
            coming = deque(pool.submit(next, blocks, None) for _ in range(_AHEAD))
            try:
                while (block := coming.popleft().result()) is not None:
                    coming.append(pool.submit(next, blocks, None))
                    yield self._parse(block, types, schema)
            except BaseException:  # nobody wants the rest: the server need not finish it
                for item in coming:
                    item.cancel()
                if not self.connection.closed:
                    with contextlib.suppress(psycopg.Error):
                        self.connection.cancel_safe(timeout=_CANCEL_S)
                raise
            finally:
                pool.submit(blocks.close)

    def _blocks(self) -> Generator[bytearray]:
        """Whole rows, about 4 MB at a time: the server sends each row as a message of its own."""
        with psycopg.ClientCursor(self.connection) as cursor:
            text = cursor.mogrify(self.text, self.values)
            block = bytearray()
            with cursor.copy(f"COPY ({text}\n) TO STDOUT (FORMAT csv, ENCODING 'UTF8')") as copy:
                for row in copy:
                    block += row
                    if len(block) >= _BLOCK_BYTES:
                        yield block
                        block = bytearray()
            if block:
                yield block

    def _type(self, name: str, kind: str, schema: pa.Schema) -> pa.DataType:
        declared = schema.field(name).type if name in schema.names else None
        if kind == "numeric" and declared == pa.float64():
            return declared
        if declared == pa.string() and kind != "bool":
            return declared
        return _TYPES.get(kind, pa.string())

    def _parse(self, block: bytearray, types: list[pa.DataType], schema: pa.Schema) -> pa.RecordBatch:
        try:
            columns = _read(block, types)
        except pa.ArrowInvalid:
            plain = [kind if pa.types.is_boolean(kind) else pa.binary() for kind in types]
            columns = [_retyped(values, kind) for values, kind in zip(_read(block, plain), types, strict=True)]
        for index, (name, kind) in enumerate(zip(self.names, self._kinds, strict=True)):
            whole = kind == "numeric" and name in schema.names and pa.types.is_integer(schema.field(name).type)
            if whole and pa.types.is_string(columns[index].type):
                columns[index] = pc.replace_substring_regex(columns[index], r"\.0*$", "")
        return pa.RecordBatch.from_arrays(columns, names=self.names)


def _name_of(oid: int) -> str:
    known = postgres.types.get(oid)
    return known.name if known is not None else ""


def _read(block: bytearray, types: list[pa.DataType]) -> list[pa.Array]:
    names = [f"c{index}" for index in range(len(types))]
    table = csv.read_csv(
        pa.py_buffer(block),
        read_options=csv.ReadOptions(column_names=names, block_size=len(block) + 1, use_threads=False),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=dict(zip(names, types, strict=True)),
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return [column.combine_chunks() for column in table.columns]


def _retyped(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column of bytes as its type, or as text, or as what it is: as far as all of its values go."""
    for target in (pa.string(), kind):
        try:
            values = pc.cast(values, target)
        except pa.ArrowInvalid:
            return values
    return values
