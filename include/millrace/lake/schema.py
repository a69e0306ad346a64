"""The Arrow types behind the type names a spec declares: one table of them for every stage."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from millrace.spec.base import ColumnType

TIMESTAMP = pa.timestamp("us", "UTC")
_TYPES: dict[ColumnType, pa.DataType] = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": TIMESTAMP,
}


def arrow_schema(columns: Mapping[str, ColumnType]) -> pa.Schema:
    """The schema of declared columns, in the order they are declared."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
