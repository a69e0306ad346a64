"""In which features two computations of a feature table differ."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa

from millrace.features.base import EVENT_TIMESTAMP, KNOWN_AT
from millrace.lake.duck import arrow, quoted
from millrace.spec import FeatureTableSpec

ROWS = "*"
"""In place of a feature: one has rows that the other has not."""
_TIE = "tie#"
TOLERANCE = 1e-9
"""Relative: sums of other summands in another order may differ by less."""


def differing(
    connection: Any, one: pa.Table, other: pa.Table, table: FeatureTableSpec, *, until: datetime | None = None
) -> list[str]:
    """Features whose values differ, in the order of the spec; `ROWS` first where rows are missing.

    Args:
        connection: a DuckDB connection.
        one: rows of the feature table.
        other: rows of it, computed another way.
        table: its spec.
        until: rows that can be used only after this instant do not count.
    """
    keys = [*table.entities, EVENT_TIMESTAMP, KNOWN_AT]
    for name, rows in (("one", one), ("other", other)):
        connection.register(f"{name}_rows", rows)
        by, ties = (", ".join(quoted(column) for column in columns) for columns in (keys, table.features))
        number = f"row_number() OVER (PARTITION BY {by} ORDER BY {ties}) AS {quoted(_TIE)}"
        usable = f"WHERE greatest({EVENT_TIMESTAMP}, {KNOWN_AT}) <= $until" if until else ""
        relation = connection.sql(
            f"SELECT *, {number} FROM {name}_rows {usable}", params={"until": until} if until else None
        )
        connection.register(name, arrow(relation))
    paired = ", ".join(quoted(column) for column in [*keys, _TIE])
    counts = [f"count(*) FILTER (WHERE {_differ(name, str(kind))})" for name, kind in table.features.items()]
    alone = f"count(*) FILTER (WHERE one.{KNOWN_AT} IS NULL OR other.{KNOWN_AT} IS NULL)"
    query = f"SELECT {', '.join([alone, *counts])} FROM one FULL JOIN other USING ({paired})"
    found: tuple[Any, ...] = connection.execute(query).fetchall()[0]
    return [name for name, count in zip([ROWS, *table.features], found, strict=True) if count]


def _differ(name: str, kind: str) -> str:
    """SQL: both rows are there and their values are not the same."""
    one, other = f"one.{quoted(name)}", f"other.{quoted(name)}"
    there = f"one.{KNOWN_AT} IS NOT NULL AND other.{KNOWN_AT} IS NOT NULL"
    apart = f"{one} IS DISTINCT FROM {other}"
    if kind.startswith("float"):
        near = f"abs({one} - {other}) <= {TOLERANCE} * greatest(abs({one}), abs({other}))"
        apart = f"{apart} AND NOT coalesce({near}, false)"
    return f"{there} AND {apart}"
