"""The types a column of a clean table may have, as DuckDB names them, and what becomes of its other types."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from millrace.lake.schema import TIMESTAMP
from millrace.spec.base import ColumnType

INSTANT = "TIMESTAMP WITH TIME ZONE"
INTEGERS = {"SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
"""Whole numbers and their bits."""
FLOATS = {"FLOAT": 32, "DOUBLE": 64}

_DECLARED: dict[ColumnType, str] = {
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "bool": "BOOLEAN",
    "timestamp": INSTANT,
}
_ARROW = {
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    INSTANT: TIMESTAMP,
}
_BECOMES = {
    **{kind.lower(): kind for kind in _ARROW},
    **dict.fromkeys(["timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"], INSTANT),
    **dict.fromkeys(["hugeint", "uhugeint", "ubigint", "uinteger"], "BIGINT"),
    **dict.fromkeys(["tinyint", "utinyint", "usmallint", "null"], "INTEGER"),
    **dict.fromkeys(["enum", "uuid"], "VARCHAR"),
    "decimal": "DOUBLE",
}


def declared_kind(kind: ColumnType) -> str:
    """The DuckDB type of a declared one."""
    return _DECLARED[kind]


def storable_kind(kind: Any) -> str | None:
    """The type in which a column holds what an expression gives, None where no column can hold it.

    Args:
        kind: a `duckdb.sqltypes.DuckDBPyType`.
    """
    return _BECOMES.get(kind.id)


def arrow_kind(kind: str) -> pa.DataType:
    """The Arrow type of a column's DuckDB type."""
    return _ARROW[kind]


def spoken_kind(kind: str) -> str:
    """A type as specs call it, for messages."""
    return next((name for name, value in _DECLARED.items() if value == kind), kind.lower())
