"""Which columns of which sources a feature is computed from, as DuckDB's own planner sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from millrace.features.source import register_empty
from millrace.features.transformation import Transformation
from millrace.lake.duck import connect, quoted
from millrace.spec import DomainSpec

_KEEP_SCANS = "filter_pushdown,statistics_propagation,empty_result_pullup"
"""Optimizers that would take a column out of a scan, or a scan of an empty table out of the plan."""


def source_columns(domain: DomainSpec, made_by: Transformation) -> dict[str, dict[str, list[str]]]:
    """Feature → source → columns it is computed from: its values, and what picks, joins and groups the rows.

    Of a Python function only the sources are known, so all their columns count.

    Args:
        domain: the domain of the table.
        made_by: the table's transformation.

    Raises:
        FeatureError: SQL that does not parse, or a clean-up that cannot work.
    """
    features, sources = list(made_by.table.features), made_by.sources(domain)
    connection = connect(threads=1, external=False)
    try:
        columns = register_empty(connection, domain)
        if made_by.table.function:
            return {feature: {source: list(columns[source]) for source in sources} for feature in features}
        _make_tables(connection, {source: columns[source] for source in sources})
        return {feature: _columns_of(connection, made_by.text, feature) for feature in features}
    finally:
        connection.close()


def _make_tables(connection: Any, columns: Mapping[str, Mapping[str, str]]) -> None:
    """Tables in the place of the sources' views: a plan names the table it scans, and only that."""
    connection.execute(f"SET disabled_optimizers = '{_KEEP_SCANS}'")
    for source, kinds in columns.items():
        declared = ", ".join(f"{quoted(name)} {kind}" for name, kind in kinds.items())
        connection.execute(f"DROP VIEW IF EXISTS {quoted(source)}")
        connection.execute(f"CREATE TEMP TABLE {quoted(source)} ({declared})")


def _columns_of(connection: Any, sql: str, feature: str) -> dict[str, list[str]]:
    bound = re.sub(r"\$(start|end)\b", "TIMESTAMP '2000-01-01'", sql)
    row = connection.execute(f"EXPLAIN (FORMAT json) SELECT {quoted(feature)} FROM ({bound})").fetchone()
    found: dict[str, set[str]] = {}
    for node in _walk(orjson.loads(row[1])):
        info = node.get("extra_info", {})
        if table := info.get("Table"):
            read = info.get("Projections", [])
            found.setdefault(str(table).rpartition(".")[2], set()).update([read] if isinstance(read, str) else read)
    return {source: sorted(names) for source, names in sorted(found.items())}


def _walk(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        yield node
        yield from _walk(node.get("children", []))
