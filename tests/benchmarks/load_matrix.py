"""Seconds of loading a training set into the matrix a library trains on, against reading its columns by pyarrow."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.process import run_python
from tests.benchmarks.row import Row
from tests.benchmarks.training_rows import ROWS

GOAL = 2.0


def run(scale: float) -> list[Row]:
    """336,776 rows (times `scale`) of 24 features: learn the encoder and encode; then xgboost's own matrix of both."""
    var = os.environ.get("MILLRACE_TEST_VAR")
    with tempfile.TemporaryDirectory(prefix="millrace-load-", dir=var) as name:
        folder = Path(name)
        run_python("-m", "tests.benchmarks.train_side", "prepare", name, str(round(ROWS * scale)))
        plain = compare(partial(measure, "load", folder), partial(measure, "read", folder), pairs=5)
        library = compare(partial(measure, "load_xgboost", folder), partial(measure, "read_xgboost", folder))
    matrix = Row(
        name="load_matrix", scale=scale, ours=plain.ours, other=plain.other,
        other_is="pyarrow reading the same columns of the same files", unit="s", goal=GOAL, goal_kind="ratio",
        peak_mb=plain.peak_mb,
    )  # fmt: skip
    booster = Row(
        name="load_matrix.xgboost", scale=scale, ours=library.ours, other=library.other,
        other_is="pyarrow reading them, and xgboost's QuantileDMatrix of a matrix in memory", unit="s", goal=GOAL,
        goal_kind="ratio", peak_mb=library.peak_mb,
    )  # fmt: skip
    return [matrix, booster]


def measure(side: str, folder: Path) -> Sample:
    """One run of a side in a process of its own."""
    told: Any = run_python("-m", "tests.benchmarks.train_side", side, str(folder))
    return Sample(figure=told["seconds"], result=told["result"], peak_mb=told["peak_mb"])
