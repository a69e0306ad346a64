"""Seconds and memory of 17,000 rows joined to ten views of a hundred features, with polars' own join beside it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.benchmarks.pairs import compare
from tests.benchmarks.pit_join import measure
from tests.benchmarks.pit_rows import write_wide
from tests.benchmarks.row import Row

GOAL, GOAL_MB = 5.0, 1000.0


def run(scale: float) -> list[Row]:
    """The case that a user of Feast reported with 30 minutes and 50 GB."""
    var = os.environ.get("MILLRACE_TEST_VAR")
    with tempfile.TemporaryDirectory(prefix="millrace-pit-", dir=var) as name:
        folder = Path(name)
        write_wide(folder)
        found = compare(lambda: measure("ours", folder, "pandas"), lambda: measure("polars", folder, "arrow"))
    speed = Row(
        name="pit_wide", scale=scale, ours=found.ours, other=found.other,
        other_is="polars on the same files, without Feast", unit="s", goal=GOAL, goal_kind="absolute",
        peak_mb=found.peak_mb,
    )  # fmt: skip
    memory = Row(
        name="pit_wide.memory", scale=scale, ours=found.peak_mb or 0.0, unit="MB", goal=GOAL_MB, goal_kind="absolute",
        peak_mb=found.peak_mb,
    )  # fmt: skip
    return [speed, memory]
