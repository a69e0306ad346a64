"""Seconds and memory of a point-in-time join of 336,776 rows and two views, against Feast's duckdb store."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.pit_rows import write_rows
from tests.benchmarks.process import run_python
from tests.benchmarks.row import Row

GOAL, MEMORY_GOAL, RAW_GOAL = 1 / 25, 1 / 4, 2.0


def run(scale: float) -> list[Row]:
    """The year (times `scale`); Feast's store gets pandas, as it must, and so do we; raw engines and we get Arrow."""
    var = os.environ.get("MILLRACE_TEST_VAR")
    with tempfile.TemporaryDirectory(prefix="millrace-pit-", dir=var) as name:
        folder = Path(name)
        write_rows(folder, copies=max(1, round(scale)))
        peaks: dict[str, list[float]] = {"ours": [], "feast": []}
        feast = compare(
            partial(measure, "ours", folder, "pandas", peaks), partial(measure, "feast", folder, "pandas", peaks)
        )
        raw = {
            engine: compare(partial(measure, "ours", folder, "arrow"), partial(measure, engine, folder, "arrow"))
            for engine in ("polars", "duckdb")
        }
    ours_mb, feast_mb = max(peaks["ours"][1:]), min(peaks["feast"][1:])
    fastest = min(raw, key=lambda engine: raw[engine].other)
    speed = Row(
        name="pit_join", scale=scale, ours=feast.ours, other=feast.other, other_is="Feast's duckdb store, same frame",
        unit="s", goal=GOAL, goal_kind="ratio", peak_mb=feast.peak_mb,
    )  # fmt: skip
    memory = Row(
        name="pit_join.memory", scale=scale, ours=ours_mb, other=feast_mb, other_is="Feast's duckdb store, same frame",
        unit="MB", goal=MEMORY_GOAL, goal_kind="ratio", peak_mb=feast.peak_mb,
    )  # fmt: skip
    engine = Row(
        name="pit_join.raw", scale=scale, ours=raw[fastest].ours, other=raw[fastest].other,
        other_is=f"{fastest} on the same files, without Feast; the faster of polars and DuckDB",
        unit="s", goal=RAW_GOAL, goal_kind="ratio", peak_mb=raw[fastest].peak_mb,
    )  # fmt: skip
    return [speed, memory, engine]


def measure(side: str, folder: Path, frame: str, peaks: dict[str, list[float]] | None = None) -> Sample:
    """Seconds of one run of a side in a process of its own."""
    told: Any = run_python("-m", "tests.benchmarks.pit_side", side, str(folder), frame)
    if peaks is not None:
        peaks[side].append(told["peak_mb"])
    return Sample(figure=told["seconds"], result=(told["rows"], told["digest"]), peak_mb=told["peak_mb"])
