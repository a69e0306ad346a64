"""Point-in-time joins of 3.4 and 10 million rows: CPU and wall seconds a row against those of 336,776 rows, and memory.

User seconds leave out the kernel, which hands out and zeroes memory: a virtual machine that gave free memory back to
its host pays for that many times over once a join needs more than was in use a moment ago. Every size takes memory as
processes of an installation do.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from millrace.local.memory import memory_environment
from tests.benchmarks.pit_rows import write_rows
from tests.benchmarks.process import run_python
from tests.benchmarks.row import Row

GOAL, GOAL_MB, YEAR, RUNS = 1.0, 2000.0, 336_776, 3
SIZES = {"3m": 10, "10m": 30}
FIGURES = {"": ("cpu_s", "CPU s"), "_user": ("user_s", "user CPU s"), "_wall": ("seconds", "s")}


def run(scale: float) -> list[Row]:
    """Ten and thirty years (times `scale`), each with keys of its own; then thirty read and saved by reference."""
    var = os.environ.get("MILLRACE_TEST_VAR")
    with tempfile.TemporaryDirectory(prefix="millrace-pit-", dir=var) as name:
        folders = {size: Path(name) / size for size in ("1", *SIZES)}
        copies = {"1": 1, **{size: max(1, round(count * scale)) for size, count in SIZES.items()}}
        for size, folder in folders.items():
            folder.mkdir()
            write_rows(folder, copies=copies[size])
        _measure(folders["1"], "arrow", copies["1"])
        found: dict[str, list[Any]] = {size: [] for size in folders}
        for _ in range(RUNS):
            for size, folder in folders.items():
                found[size].append(_measure(folder, "arrow", copies[size]))
        saved = [_measure(folders["10m"], "reference", copies["10m"]) for _ in range(RUNS)]
    return [row for size in SIZES for row in _rows(size, scale, found, copies)] + [
        _memory("pit_growth.10m_saved", scale, saved)
    ]


def _rows(size: str, scale: float, found: dict[str, list[Any]], copies: dict[str, int]) -> list[Row]:
    def per_million(name: str, figure: str) -> float:
        return float(statistics.median(told[figure] for told in found[name])) / (copies[name] * YEAR) * 1_000_000

    speeds = [
        Row(
            name=f"pit_growth.{size}{part}", scale=scale, ours=per_million(size, figure),
            other=per_million("1", figure), other_is="the same join of 336,776 rows", unit=f"{unit} per million rows",
            goal=GOAL, goal_kind="ratio", peak_mb=max(told["peak_mb"] for told in found[size]),
        )
        for part, (figure, unit) in FIGURES.items()
    ]  # fmt: skip
    return [*speeds, _memory(f"pit_growth.{size}_memory", scale, found[size])]


def _memory(name: str, scale: float, runs: list[Any]) -> Row:
    peak = max(told["peak_mb"] for told in runs)
    return Row(
        name=name, scale=scale, ours=peak, other_is="", unit="MB", goal=GOAL_MB, goal_kind="absolute", peak_mb=peak
    )


def _measure(folder: Path, frame: str, copies: int) -> Any:
    env = memory_environment(os.environ)
    told = run_python("-m", "tests.benchmarks.pit_side", "ours", str(folder), frame, env=env)
    if told["rows"] != copies * YEAR:
        raise AssertionError(f"{told['rows']} rows came back of {copies * YEAR}")
    return told
