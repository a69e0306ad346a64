"""Seconds to materialize into Redis through Feast's API: ours, Feast's own store and engine, and a raw MSET."""

from __future__ import annotations

from tests.benchmarks.materialize_pairs import measure
from tests.benchmarks.row import Row


def run(scale: float) -> list[Row]:
    """40,000 entities (times `scale`) beside Feast's own, five times as many beside MSET."""
    rows, _ = measure("materialize_redis", "redis", scale, stock_goal=1 / 8, raw_is="raw MSET of packed rows, no guard")
    return rows
