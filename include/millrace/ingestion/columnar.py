"""Records of Python values as columns, without a guess: what Arrow would bend goes on as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.ingestion.conform import record_json

_NESTED = {list, dict, tuple}


def to_array(values: Sequence[Any], declared: pa.DataType | None = None) -> pa.Array:
    """A column of Python values, in a type that holds each of them unchanged.

    Values of several types in one column become text, which is read again as the declared type; so do lists and
    objects of a declared column, and truth values of a column of numbers, of which they are none.

    Args:
        values: values of one column.
        declared: type that the column is cast to later on; None where it is not declared.
    """
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int, float} and all(value is None or float(value) == value for value in values):
        return pa.array(values, pa.float64())
    zones = {value.tzinfo is None for value in values if value is not None} if kinds == {datetime} else set()
    truth = kinds == {bool} and declared is not None and not _takes_truth(declared)
    if not truth and len(kinds) <= 1 and len(zones) <= 1 and not (declared is not None and kinds & _NESTED):
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeError, ValueError):
            pass
    return _as_text(values)


def _takes_truth(declared: pa.DataType) -> bool:
    return pa.types.is_boolean(declared) or pa.types.is_string(declared)


def _as_text(values: Sequence[Any]) -> pa.Array:
    texts = [None if value is None else _text(value) for value in values]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair: kept as bytes, which are then no text
        return pa.array([None if text is None else text.encode("utf-8", "surrogatepass") for text in texts])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    return record_json(value).decode() if isinstance(value, list | dict | tuple) else str(value)


def to_batch(records: Sequence[dict[str, Any]], schema: pa.Schema, *, decimal: bool) -> pa.RecordBatch:
    """The declared columns of records; a field that a record does not have is null.

    Args:
        records: field → value.
        schema: the declared columns.
        decimal: whether floats were decimal text a moment ago, so that a float32 is made of them by rounding once.
    """
    columns = []
    for field in schema:
        values = [record.get(field.name) for record in records]
        array = to_array(values, field.type)
        if decimal and pa.types.is_float32(field.type) and pa.types.is_float64(array.type):
            narrow = pc.cast(array, field.type)
            array = _as_text(values) if pc.any(pc.is_inf(narrow)).as_py() else narrow
        columns.append(array)
    return pa.RecordBatch.from_arrays(columns, names=schema.names)


def transpose(rows: Iterable[Sequence[Any]], names: Sequence[str], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of values as columns."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    kinds = [schema.field(name).type if name in schema.names else None for name in names]
    arrays = [to_array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))
