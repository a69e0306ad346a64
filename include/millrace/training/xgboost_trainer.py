"""xgboost by histogram, categories split natively, the same bytes twice."""

from __future__ import annotations

import numpy as np
import xgboost
from numpy.typing import NDArray

from millrace.package import Library, ModelFile
from millrace.training.base import Fit, TrainingData
from millrace.training.params import XGBoostParams
from millrace.training.run import FitRun

_OBJECTIVE = {"binary": ("binary:logistic", "logloss"), "regression": ("reg:squarederror", "rmse")}


class XGBoostTrainer:
    """Trains a booster with `tree_method=hist`."""

    scaled = False
    library = Library(name="xgboost", version=xgboost.__version__)
    model = ModelFile(name="model.ubj", format="xgboost-ubj")

    def __init__(self, params: XGBoostParams) -> None:
        self.params = params

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Train the rounds asked for, or until the last partition gains no more."""
        objective, metric = _OBJECTIVE[data.problem]
        own = self.params.model_dump(exclude={"rounds", "early_stopping", "threads"})
        settings = {
            **own,
            "tree_method": "hist",
            "objective": objective,
            "eval_metric": metric,
            "seed": seed,
            "nthread": self.params.threads,
            "verbosity": 0,
        }
        if self.params.scale_pos_weight == 1 or data.problem == "regression":
            del settings["scale_pos_weight"]
        patience = self.params.early_stopping
        kept = self._matrix(data, ~data.recent if patience else None)
        watched = [(self._matrix(data, data.recent, kept), "recent")] if patience else []
        booster = xgboost.train(
            settings,
            kept,
            self.params.rounds,
            evals=watched,
            early_stopping_rounds=patience or None,
            verbose_eval=False,
        )
        rounds, metrics = self.params.rounds, {}
        if patience:
            rounds = int(booster.best_iteration) + 1
            metrics = {f"recent_{metric}": float(booster.best_score)}
            booster = booster[:rounds]
            booster.set_attr(best_iteration=None, best_score=None)
        return Fit(content=bytes(booster.save_raw("ubj")), facts={"rounds": rounds}, metrics=metrics)

    def _matrix(
        self, data: TrainingData, rows: NDArray[np.bool_] | None, reference: xgboost.QuantileDMatrix | None = None
    ) -> xgboost.QuantileDMatrix:
        matrix, target = (data.matrix, data.target) if rows is None else (data.matrix[rows], data.target[rows])
        return xgboost.QuantileDMatrix(
            matrix,
            target,
            feature_names=data.encoder.names,
            feature_types=["c" if column.kind == "category" else "q" for column in data.encoder.columns],
            enable_categorical=True,
            max_bin=self.params.max_bin,
            nthread=self.params.threads,
            ref=reference,
        )
