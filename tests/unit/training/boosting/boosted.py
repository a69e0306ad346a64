"""Rows to boost, and fits of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from millrace.package import Encoder
from millrace.package.encoder import ColumnEncoder
from millrace.training.base import Fit, TrainingData
from millrace.training.registry import build_trainer
from millrace.training.run import FitRun, FolderRun, LooseRun, StopFitError

LIBRARIES = ["xgboost", "lightgbm"]
PROBLEMS = ["binary", "multiclass", "regression"]
SAMPLED: dict[str, dict[str, Any]] = {
    "xgboost": {"subsample": 0.7, "colsample_bytree": 0.7},
    "lightgbm": {"bagging_fraction": 0.7, "bagging_freq": 1, "feature_fraction": 0.7},
}
KINDS = 6
NUMBERS = 4


@dataclass(slots=True)
class DyingRun(FolderRun):
    """A run whose process ends, as far as a trainer can tell, when it reports a step.

    Attributes:
        die_at: the step; -1 for none.
        dead: what it did after that.
    """

    die_at: int = -1
    dead: list[str] = field(default_factory=list)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        FolderRun.report(self, step, metrics)
        if self.dead or step == self.die_at:
            self.dead.append("report")
            raise StopFitError("the process is gone")


def make_data(problem: str, rows: int = 900, *, seed: int = 0, **changes: Any) -> TrainingData:
    """Numbers with holes and one category, of 6 kinds with one unseen and one missing; the last fifth is recent."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, NUMBERS + 1)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    matrix[:, -1] = rng.integers(0, KINDS + 2, rows)
    score = np.nan_to_num(matrix[:, 0] - matrix[:, 1] * matrix[:, 2]) + np.sin(2 * matrix[:, -1])
    noisy = score + rng.normal(0, 0.5, rows)
    target = {"binary": noisy > 0, "multiclass": np.digitize(noisy, [-0.7, 0.7]), "regression": noisy}[problem]
    vocabulary = [f"kind {number}" for number in range(KINDS)]
    columns = [ColumnEncoder(name=f"n{number}", kind="number") for number in range(NUMBERS)]
    encoder = Encoder([*columns, ColumnEncoder(name="kind", kind="category", vocabulary=vocabulary)])
    values: dict[str, Any] = {
        "matrix": matrix,
        "target": target.astype(np.float32),
        "recent": np.arange(rows) >= rows * 4 // 5,
        "encoder": encoder,
        "problem": problem,
        "classes": {"binary": 2, "multiclass": 3, "regression": 0}[problem],
        "weight": rng.uniform(0.5, 2.0, rows).astype(np.float32),
    }
    return TrainingData(**{**values, **changes})


def mapped(data: TrainingData, folder: Path, block_rows: int) -> TrainingData:
    """The same rows in a mapped file, to be held `block_rows` at once."""
    path = folder / "matrix.f32"
    data.matrix.tofile(path)
    values = {name: getattr(data, name) for name in TrainingData.__dataclass_fields__}
    matrix = np.memmap(path, np.float32, "r", shape=data.matrix.shape)
    return TrainingData(**{**values, "matrix": matrix, "block_rows": block_rows})


def fit(library: str, data: TrainingData, folder: Path, *, run: FitRun | None = None, **params: Any) -> Fit:
    """A fit of 2 threads."""
    trainer = build_trainer(library, {"threads": 2, **params}, where="candidates.x")
    return trainer.fit(data, seed=7, run=run or LooseRun(folder=folder))
