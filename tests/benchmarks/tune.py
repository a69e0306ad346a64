"""50 trials of 50 rounds on 100,000 rows, against a bare loop of Optuna over xgboost on arrays in memory."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.process import run_python
from tests.benchmarks.row import Row

GOAL = 1.15
ROWS, TRIALS, ROUNDS, THREADS = 100_000, 50, 50, 2


def run(scale: float) -> list[Row]:
    """Ours from rows of Arrow to the best parameters; the other encodes before the clock starts."""
    found = compare(partial(measure, "ours", scale), partial(measure, "bare", scale), same=close)
    return [
        Row(
            name="tune", scale=scale, ours=found.ours, other=found.other,
            other_is="Optuna in memory, xgboost on one quantised matrix, the same proposals",
            unit="s", goal=GOAL, goal_kind="ratio", peak_mb=found.peak_mb,
        )
    ]  # fmt: skip


def measure(side: str, scale: float) -> Sample:
    """Seconds of one search in a process of its own."""
    words = map(str, (round(ROWS * scale), TRIALS, ROUNDS, THREADS))
    told: Any = run_python("-m", "tests.benchmarks.tune_side", side, *words)
    return Sample(figure=told["seconds"], result=told["values"], peak_mb=told["peak_mb"])


def close(ours: list[float], other: list[float]) -> bool:
    """Every trial has the same value, to the last digits of float32."""
    return len(ours) == len(other) and all(abs(a - b) < 1e-6 for a, b in zip(ours, other, strict=True))
