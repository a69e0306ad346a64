"""lightgbm in its deterministic mode, categories split natively, the same bytes twice."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from millrace.package import Library, ModelFile
from millrace.training.base import Fit, TrainingData
from millrace.training.params import LightGBMParams
from millrace.training.run import FitRun

_OBJECTIVE = {"binary": ("binary", "binary_logloss"), "regression": ("regression", "rmse")}


class LightGBMTrainer:
    """Trains a booster row-wise, so that the order of sums does not hang on timing."""

    scaled = False
    library = Library(name="lightgbm", version=lightgbm.__version__)
    model = ModelFile(name="model.txt", format="lightgbm-text")

    def __init__(self, params: LightGBMParams) -> None:
        self.params = params

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Train the rounds asked for, or until the last partition gains no more."""
        objective, metric = _OBJECTIVE[data.problem]
        settings: dict[str, Any] = {
            **self.params.model_dump(exclude={"rounds", "early_stopping", "threads"}),
            "objective": objective,
            "metric": metric,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.params.threads,
            "verbose": -1,
        }
        if data.problem == "regression":
            del settings["scale_pos_weight"]
        patience = self.params.early_stopping
        kept = self._dataset(data, settings, ~data.recent if patience else None)
        watched = [self._dataset(data, settings, data.recent, kept)] if patience else []
        booster = lightgbm.train(
            settings,
            kept,
            self.params.rounds,
            valid_sets=watched,
            valid_names=["recent"] if patience else None,
            callbacks=[lightgbm.early_stopping(patience, verbose=False)] if patience else None,
        )
        rounds, metrics = self.params.rounds, {}
        if patience:
            rounds = booster.best_iteration
            metrics = {f"recent_{metric}": float(booster.best_score["recent"][metric])}
        return Fit(
            content=booster.model_to_string(num_iteration=rounds).encode(), facts={"rounds": rounds}, metrics=metrics
        )

    @staticmethod
    def _dataset(
        data: TrainingData,
        settings: dict[str, Any],
        rows: NDArray[np.bool_] | None,
        reference: lightgbm.Dataset | None = None,
    ) -> lightgbm.Dataset:
        matrix, target = (data.matrix, data.target) if rows is None else (data.matrix[rows], data.target[rows])
        return lightgbm.Dataset(
            matrix,
            target,
            reference=reference,
            feature_name=data.encoder.names,
            categorical_feature=data.encoder.categories,
            params=settings,
            free_raw_data=True,
        )
