"""Point-in-time joins of 3.4 and 10 million rows: CPU seconds a row against those of 336,776 rows, and memory."""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.pairs import Sample
from tests.benchmarks.pit_join import measure
from tests.benchmarks.pit_rows import write_rows
from tests.benchmarks.row import Row

GOAL, GOAL_MB, YEAR, RUNS = 1.0, 2000.0, 336_776, 3
SIZES = {"3m": 10, "10m": 30}


def run(scale: float) -> list[Row]:
    """Ten and thirty years (times `scale`), each with keys of its own; then thirty read and saved by reference."""
    var = os.environ.get("MILLRACE_TEST_VAR")
    with tempfile.TemporaryDirectory(prefix="millrace-pit-", dir=var) as name:
        folders = {size: Path(name) / size for size in ("1", *SIZES)}
        copies = {"1": 1, **{size: max(1, round(count * scale)) for size, count in SIZES.items()}}
        for size, folder in folders.items():
            folder.mkdir()
            write_rows(folder, copies=copies[size])
        measure("ours", folders["1"], "arrow")
        found: dict[str, list[Sample]] = {size: [] for size in folders}
        for _ in range(RUNS):
            for size, folder in folders.items():
                found[size].append(_checked(measure("ours", folder, "arrow", figure="cpu_s"), copies[size]))
        saved = [_checked(measure("ours", folders["10m"], "reference"), copies["10m"]) for _ in range(RUNS)]
    return [row for size in SIZES for row in _rows(size, scale, found, copies)] + [
        _memory("pit_growth.10m_saved", scale, saved)
    ]


def _rows(size: str, scale: float, found: dict[str, list[Sample]], copies: dict[str, int]) -> list[Row]:
    per_row = {
        name: statistics.median(sample.figure for sample in found[name]) / (copies[name] * YEAR) * 1_000_000
        for name in ("1", size)
    }
    speed = Row(
        name=f"pit_growth.{size}", scale=scale, ours=per_row[size], other=per_row["1"],
        other_is="the same join of 336,776 rows", unit="CPU s per million rows", goal=GOAL, goal_kind="ratio",
        peak_mb=max(sample.peak_mb or 0.0 for sample in found[size]),
    )  # fmt: skip
    return [speed, _memory(f"pit_growth.{size}_memory", scale, found[size])]


def _memory(name: str, scale: float, samples: list[Sample]) -> Row:
    peak = max(sample.peak_mb or 0.0 for sample in samples)
    return Row(
        name=name, scale=scale, ours=peak, other_is="", unit="MB", goal=GOAL_MB, goal_kind="absolute", peak_mb=peak
    )


def _checked(sample: Sample, copies: int) -> Sample:
    rows = sample.result[0]
    if rows != copies * YEAR:
        raise AssertionError(f"{rows} rows came back of {copies * YEAR}")
    return sample
