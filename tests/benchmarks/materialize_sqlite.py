"""Seconds to materialize into SQLite through Feast's API: ours, Feast's own store and engine, and raw inserts."""

from __future__ import annotations

from tests.benchmarks.materialize_pairs import bytes_row, measure
from tests.benchmarks.row import Row


def run(scale: float) -> list[Row]:
    """40,000 entities (times `scale`) beside Feast's own, five times as many beside raw inserts."""
    rows, sizes = measure("materialize_sqlite", "sqlite", scale, stock_goal=1 / 15, raw_is="raw upserts of packed rows")
    return [*rows, bytes_row("materialize_sqlite", scale, sizes)]
