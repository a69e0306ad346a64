"""SQL expressions of a spec: what they refer to, and why one cannot be the value of a column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from millrace.lake import duck

_CLOCKS = {
    "current_date",
    "current_localtime",
    "current_localtimestamp",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
}
_MULTIPLY = {"unnest", "unlist", "generate_subscripts"}
_CLASSES = {
    "WINDOW": "looks at other rows, by a window",
    "SUBQUERY": "has a query of its own",
    "STAR": "stands for several columns",
    "PARAMETER": "has a parameter",
    "POSITIONAL_REFERENCE": "names a column by its position",
}
_MODIFIERS = ["where_clause", "group_expressions", "group_sets", "having", "sample", "qualify", "modifiers"]


@contextmanager
def isolated() -> Iterator[Any]:
    """A DuckDB connection whose SQL can read neither files nor network."""
    connection = duck.connect(external=False)
    try:
        yield connection
    finally:
        connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """An expression as it was read.

    Attributes:
        fault: why it is not the value of one column for one row; "" where it is.
        names: names it refers to, in small letters.
        calls: functions it calls, in small letters.
        ages: whether it calls `age` of one argument, which means: as of today.
    """

    fault: str = ""
    names: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()
    ages: bool = False


def parse_expression(connection: Any, expression: str) -> Parsed:
    """Read an expression without binding it to any table.

    Args:
        connection: a DuckDB connection.
        expression: SQL, as the spec has it.
    """
    if not expression.strip():
        return Parsed(fault="it is empty")
    sql = f"SELECT (\n{expression}\n)"
    tree = orjson.loads(connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()[0][0])
    if tree.get("error"):
        return Parsed(fault=str(tree.get("error_message", "it is no SQL")).split("\n")[0])
    node = tree["statements"][0]["node"]
    if len(tree["statements"]) != 1 or not _is_bare(node):
        return Parsed(fault="it is not one expression")
    nodes = list(_nodes(node["select_list"][0]))
    calls = frozenset(str(item["function_name"]).lower() for item in nodes if item["class"] == "FUNCTION")
    parts = [part for item in nodes if item["class"] == "COLUMN_REF" for part in item["column_names"]]
    names = frozenset(str(part).lower() for part in parts)
    alone = any(item["class"] == "FUNCTION" and _is_age(item) for item in nodes)
    return Parsed(fault=_fault(nodes, names, calls), names=names, calls=calls, ages=alone)


def unrepeatable_functions(parsed: Parsed) -> list[str]:
    """Names of the functions an expression calls that may give another value at every run, sorted.

    They are those that DuckDB holds for volatile or for constant in one query only, and its clocks.
    """
    clocks = _CLOCKS & (parsed.names | parsed.calls)
    aging = {"age"} if parsed.ages else set()
    return sorted((parsed.calls & _functions()["unstable"]) | clocks | aging)


def unrepeatable_calls(connection: Any, query: str) -> list[str]:
    """Names of the functions a whole query calls that may give another value at every run, sorted; none of no SQL."""
    tree = orjson.loads(connection.execute("SELECT json_serialize_sql($1)", [query]).fetchall()[0][0])
    nodes = list(_nodes(tree.get("statements", [])))
    calls = frozenset(str(item["function_name"]).lower() for item in nodes if item["class"] == "FUNCTION")
    alone = [item["column_names"] for item in nodes if item["class"] == "COLUMN_REF" and len(item["column_names"]) == 1]
    names = frozenset(str(name).lower() for (name,) in alone)
    ages = any(item["class"] == "FUNCTION" and _is_age(item) for item in nodes)
    return unrepeatable_functions(Parsed(names=names, calls=calls, ages=ages))


def _fault(nodes: list[Any], names: frozenset[str], calls: frozenset[str]) -> str:
    if aggregates := sorted(calls & _functions()["aggregate"]):
        return f"calls {aggregates[0]}(), an aggregate over many rows"
    if several := sorted(calls & _MULTIPLY):
        return f"calls {several[0]}(), which makes several rows of one"
    for item in nodes:
        if item["class"] in _CLASSES:
            return _CLASSES[item["class"]]
    if ours := sorted(name for name in names if name.endswith("#")):
        return f"names {ours[0]!r}, which is no column of yours"
    return ""


def _is_bare(node: Any) -> bool:
    return (
        node["type"] == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and node["from_table"]["type"] == "EMPTY"
        and not node["cte_map"]["map"]
        and not any(node.get(key) for key in _MODIFIERS)
    )


def _is_age(item: Any) -> bool:
    return str(item["function_name"]).lower() == "age" and len(item["arguments"]) == 1


def _nodes(node: Any) -> Iterator[Any]:
    if isinstance(node, list):
        for item in node:
            yield from _nodes(item)
    elif isinstance(node, dict):
        if "class" in node:
            yield node
        for value in node.values():
            yield from _nodes(value)


@lru_cache(maxsize=1)
def _functions() -> Mapping[str, frozenset[str]]:
    with isolated() as connection:
        unstable = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions()"
            " WHERE stability IN ('VOLATILE', 'CONSISTENT_WITHIN_QUERY')"
        ).fetchall()
        aggregate = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'"
        ).fetchall()
    return {
        "unstable": frozenset(name for (name,) in unstable),
        "aggregate": frozenset(name for (name,) in aggregate),
    }
