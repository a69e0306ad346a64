"""From Arrow batches to packed rows, a column at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import FeatureError
from millrace.online.base import EVENT_TIMESTAMP, KNOWN_AT, PackedRow
from millrace.online.layout import TEXT, RowCodec, ViewLayout

_NUMPY = {
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "float32": "<f4",
    "float64": "<f8",
    "bool": "?",
    "timestamp": "<i8",
}
_WHOLE = {"int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64()}
_INSTANT = pa.timestamp("us", "UTC")


def packed(
    layout: ViewLayout, batches: Iterable[pa.RecordBatch | Sequence[PackedRow]], *, rows: int
) -> Iterator[list[PackedRow]]:
    """Packed rows in pieces of at most `rows`, no key twice in a piece."""
    for batch in batches:
        if isinstance(batch, pa.RecordBatch):
            for start in range(0, batch.num_rows, rows):
                yield distinct(pack_batch(layout, batch.slice(start, rows)))
        else:
            rest = iter(batch)
            while piece := list(islice(rest, rows)):
                yield distinct(piece)


def started(batches: Iterable[Any]) -> Iterator[Any]:
    """The same batches, the first of them computed before this returns: before a lock is taken, say."""
    rest = iter(batches)
    return chain(list(islice(rest, 1)), rest)


def distinct(rows: list[PackedRow]) -> list[PackedRow]:
    """Each key once, with its newest row; of rows equally new the last."""
    if len({row[0] for row in rows}) == len(rows):
        return rows
    newest: dict[bytes, PackedRow] = {}
    for row in rows:
        held = newest.get(row[0])
        if held is None or row[1:3] >= held[1:3]:
            newest[row[0]] = row
    return list(newest.values())


def pack_batch(layout: ViewLayout, batch: pa.RecordBatch | pa.Table) -> list[PackedRow]:
    """Rows of a batch as the store keeps them; rows with a null in their key are left out.

    Raises:
        FeatureError: a column of the layout is missing in the batch, or its values are of another type.
    """
    columns = _columns(layout, batch)
    keys = [columns[name] for name, _ in layout.entities]
    rows: Any = zip(
        _keys(layout, keys),
        _instants(columns[EVENT_TIMESTAMP]).tolist(),
        _instants(columns[KNOWN_AT]).tolist(),
        _rows(layout, [columns[name] for name, _ in layout.features], len(columns[EVENT_TIMESTAMP])),
        strict=True,
    )
    if any(key.null_count for key in keys):
        rows = (row for row in rows if row[0] is not None)
    return list(rows)


def _columns(layout: ViewLayout, batch: pa.RecordBatch | pa.Table) -> dict[str, Any]:
    names = [name for name, _ in (*layout.entities, *layout.features)]
    present = set(batch.schema.names)
    if absent := sorted({*names, EVENT_TIMESTAMP, KNOWN_AT} - present):
        raise FeatureError(f"columns {absent} are missing in the rows to write", remedy="build the features again")
    columns = {name: batch.column(name) for name in (*names, EVENT_TIMESTAMP, KNOWN_AT)}
    return {
        name: column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        for name, column in columns.items()
    }


def _rows(layout: ViewLayout, columns: list[Any], count: int) -> list[bytes]:
    codec = RowCodec(layout)
    fields: list[tuple[Any, ...]] = [("nulls", "u1", (codec.bitmap_bytes,))]
    fixed = [(index, kind) for index, (_, kind) in enumerate(layout.features) if kind != TEXT]
    fields += [(str(index), _NUMPY[kind]) for index, kind in fixed]
    heads = np.zeros(count, dtype=fields)
    heads["nulls"] = np.packbits(_nulls(columns, codec.bitmap_bytes, count), axis=1, bitorder="little")
    for index, _ in fixed:
        heads[str(index)] = _fitting(_numbers, columns[index], *layout.features[index])
    size = heads.dtype.itemsize
    raw = heads.tobytes()
    found = [raw[start : start + size] for start in range(0, count * size, size)] if size else [b""] * count
    texts = [
        _fitting(lambda values, _: _texts(values), column, name, kind)
        for column, (name, kind) in zip(columns, layout.features, strict=True)
        if kind == TEXT
    ]
    return list(map(b"".join, zip(found, *texts, strict=True))) if texts else found


def _fitting(convert: Callable[[Any, str], Any], column: Any, name: str, kind: str) -> Any:
    """A column converted to a kind; one whose values are not of that kind is named."""
    try:
        return convert(column, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise FeatureError(
            f"column {name!r} holds {column.type} that is no {kind}: {error}",
            remedy=f"cast it to {kind} where it is made, or declare another type",
        ) from error


def _nulls(columns: list[Any], bitmap_bytes: int, count: int) -> Any:
    nulls = np.zeros((count, bitmap_bytes * 8), dtype=bool)
    for index, column in enumerate(columns):
        if column.null_count:
            nulls[:, index] = column.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _texts(column: Any) -> list[bytes]:
    """Each text with its length before it."""
    texts: list[bytes] = pc.fill_null(column.cast(pa.binary()), b"").to_pylist()
    sizes = np.fromiter(map(len, texts), dtype="<u4", count=len(texts)).tobytes()
    return [sizes[4 * index : 4 * index + 4] + text for index, text in enumerate(texts)]


def _numbers(column: Any, kind: str) -> Any:
    if kind == "timestamp":
        return _instants(column)
    if kind in _WHOLE:
        column = column.cast(_WHOLE[kind])  # numpy would bend what does not fit
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(False if pa.types.is_boolean(column.type) else 0, column.type))
    return column.to_numpy(zero_copy_only=False).astype(_NUMPY[kind], copy=False)


def _instants(column: Any) -> Any:
    """Timestamps (or microseconds since 1970) as 64-bit integers, 0 for null."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(_INSTANT, safe=False)
    return pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)


def _keys(layout: ViewLayout, columns: list[Any]) -> list[bytes | None]:
    parts = [
        _fitting(_parts, column, name, kind) for column, (name, kind) in zip(columns, layout.entities, strict=True)
    ]
    if len(parts) == 1:
        return parts[0]
    return [None if None in entity else _joined(entity) for entity in zip(*parts, strict=True)]


def _parts(column: Any, kind: str) -> list[bytes | None]:
    if kind == TEXT:
        found: list[bytes | None] = column.cast(pa.binary()).to_pylist()
        return found
    raw = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False).astype("<i8").tobytes()
    keys: list[bytes | None] = [raw[start : start + 8] for start in range(0, len(raw), 8)]
    if column.null_count:
        missing = column.is_null().to_pylist()
        return [None if gone else key for key, gone in zip(keys, missing, strict=True)]
    return keys


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)
