"""Seconds and memory of training one candidate, the whole step, against the library's fit on the same matrix."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.process import run_python
from tests.benchmarks.row import Row
from tests.benchmarks.training_rows import ROWS

GOAL, MEMORY_GOAL = 1.5, 1.5
_CLOSE = 0.002
_LEFT = ("packages", "training", "recipes")


def run(scale: float) -> list[Row]:
    """336,776 rows (times `scale`), 24 features, 200 rounds of depth 6 on 2 threads."""
    var = os.environ.get("MILLRACE_TEST_VAR")
    with tempfile.TemporaryDirectory(prefix="millrace-train-", dir=var) as name:
        folder = Path(name)
        run_python("-m", "tests.benchmarks.train_side", "prepare", name, str(round(ROWS * scale)))
        peaks: dict[str, list[float]] = {"step": [], "fit": []}
        found = compare(
            partial(measure, "step", folder, peaks),
            partial(measure, "fit", folder, peaks),
            same=lambda ours, other: abs(ours - other) < _CLOSE,
        )
    ours_mb, other_mb = max(peaks["step"][1:]), min(peaks["fit"][1:])
    speed = Row(
        name="train_candidate", scale=scale, ours=found.ours, other=found.other,
        other_is="xgboost's fit alone, on the same matrix in memory", unit="s", goal=GOAL, goal_kind="ratio",
        peak_mb=found.peak_mb,
    )  # fmt: skip
    memory = Row(
        name="train_candidate.memory", scale=scale, ours=ours_mb, other=other_mb,
        other_is="xgboost's fit alone, with the matrix it is given", unit="MB", goal=MEMORY_GOAL, goal_kind="ratio",
        peak_mb=found.peak_mb,
    )  # fmt: skip
    return [speed, memory]


def measure(side: str, folder: Path, peaks: dict[str, list[float]]) -> Sample:
    """One run of a side in a process of its own; nothing that an earlier run sealed is there."""
    for name in _LEFT:
        for installation in ("large", "small"):
            shutil.rmtree(folder / installation / "var" / name, ignore_errors=True)
    told: Any = run_python("-m", "tests.benchmarks.train_side", side, str(folder))
    peaks[side].append(told["peak_mb"])
    return Sample(figure=told["seconds"], result=told["result"], peak_mb=told["peak_mb"])
