"""Which functions an SQL expression calls that give another value at every run: they would break idempotence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

_CLOCKS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}


def unrepeatable_functions(connection: Any, expression: str) -> list[str]:
    """Names of the functions in an expression that DuckDB holds for volatile or constant in one query only, sorted.

    Args:
        connection: a DuckDB connection.
        expression: one that compiles.
    """
    statement = connection.execute("SELECT json_serialize_sql($1)", [f"SELECT (\n{expression}\n)"]).fetchone()[0]
    called = set(_called(orjson.loads(statement)))
    unstable = connection.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions()"
        " WHERE stability IN ('VOLATILE', 'CONSISTENT_WITHIN_QUERY')"
    ).fetchall()
    return sorted(called & ({name for (name,) in unstable} | _CLOCKS))


def _called(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _called(item)
    elif isinstance(node, dict):
        if node.get("class") == "FUNCTION":
            yield str(node["function_name"]).lower()
        elif node.get("class") == "COLUMN_REF" and len(node["column_names"]) == 1:
            name = str(node["column_names"][0]).lower()
            if name in _CLOCKS:  # written without brackets they look like columns
                yield name
        for value in node.values():
            yield from _called(value)
