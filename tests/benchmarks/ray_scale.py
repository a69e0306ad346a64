"""Seconds of 20 rounds of xgboost on 1,000,000 rows of 30 numbers by two workers of Ray against one; no goal."""

from __future__ import annotations

import math
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from millrace.engine import open_engine
from millrace.engine.ray_engine import RayEngine
from millrace.package import Encoder
from millrace.package.predictor import load_model
from millrace.spec import ComputeSpec
from millrace.training.base import Fit, TrainingData
from millrace.training.boosting.xgboost_trainer import XGBoostTrainer
from millrace.training.cluster.ray_trainer import RayTrainer
from millrace.training.params import XGBoostParams
from millrace.training.run import FitRun, LooseRun
from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.row import Row

ROWS, COLUMNS, PAIRS = 1_000_000, 30, 2
_NEAR = 0.002


class TimedXGBoost(XGBoostTrainer):
    """Tells how long the fit itself took in its worker, from its share to its model."""

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Fit and tell the seconds."""
        since = time.perf_counter()
        fit = super().fit(data, seed=seed, run=run)
        fit.metrics["fit_seconds"] = time.perf_counter() - since
        return fit


def run(scale: float) -> list[Row]:
    """One row for the fit alone, one for all of it: shares handed out, workers started, model brought back."""
    data = make_data(round(ROWS * scale))
    whole: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="millrace-ray-", dir=os.environ.get("MILLRACE_TEST_VAR")) as name:
        with open_engine(ComputeSpec(engine="ray", threads=1)) as engine:
            if not isinstance(engine, RayEngine) or engine.width < 2:
                raise RuntimeError("two workers need two cores")
            one, two = (partial(measure, engine, data, workers, Path(name), whole) for workers in (1, 2))
            fit = compare(two, one, pairs=PAIRS, same=lambda a, b: abs(a - b) < _NEAR)
    other_is = "one worker of one thread"
    return [
        Row(name="ray_scale", scale=scale, ours=fit.ours, other=fit.other, other_is=f"{other_is}, the fit alone",
            unit="s", goal=math.inf, goal_kind="ratio"),
        Row(name="ray_scale.whole", scale=scale, ours=float(np.median(whole[2][1:])),
            other=float(np.median(whole[1][1:])), other_is=f"{other_is}, with shares and start of the workers",
            unit="s", goal=math.inf, goal_kind="ratio"),
    ]  # fmt: skip


def measure(engine: RayEngine, data: TrainingData, workers: int, folder: Path, whole: dict[int, list[float]]) -> Sample:
    """Seconds of a fit, and the loss of its model on the first rows."""
    inner = TimedXGBoost(XGBoostParams(rounds=20, threads=1))
    trainer = RayTrainer(inner=inner, engine=engine, workers=workers, resources={"CPU": 1.0})
    since = time.perf_counter()
    fit = trainer.fit(data, seed=7, run=LooseRun(folder=folder))
    whole[workers].append(time.perf_counter() - since)
    model = load_model("xgboost-ubj", fit.content, encoder=data.encoder, problem="binary", threads=1)
    chance = model.score(data.matrix[:50_000])
    right = np.where(data.target[:50_000] == 1, chance, 1 - chance)
    return Sample(figure=fit.metrics["fit_seconds"], result=float(-np.log(right).mean()))


def make_data(rows: int) -> TrainingData:
    """Numbers, and a label that a few of them make."""
    rng = np.random.default_rng(11)
    matrix = rng.standard_normal((rows, COLUMNS), dtype=np.float32)
    score = matrix[:, 0] * matrix[:, 1] + matrix[:, 2] - 0.5 * matrix[:, 3] ** 2 + rng.standard_normal(rows)
    names = [f"n{number}" for number in range(COLUMNS)]
    encoder = Encoder.learn(dict.fromkeys(names, matrix[:10, 0]), dict.fromkeys(names, "number"), scaled=False)
    return TrainingData(
        matrix=matrix,
        target=(score > 0).astype(np.float32),
        recent=np.zeros(rows, bool),
        encoder=encoder,
        problem="binary",
        classes=2,
    )
