"""Predictions of an xgboost model out of its UBJSON bytes."""

from __future__ import annotations

import numpy as np
import xgboost
from numpy.typing import NDArray

from millrace.package.encoder import Encoder


class XGBoostModel:
    """A booster, predicting in place: no matrix of xgboost's own is built for a row."""

    def __init__(self, content: bytes, *, encoder: Encoder, threads: int, classes: int = 0) -> None:
        self._booster = xgboost.Booster(params={"nthread": threads, "verbosity": 0})
        self._booster.load_model(bytearray(content))
        self._booster.set_param({"nthread": threads})
        self._types = ["c" if column.kind == "category" else "q" for column in encoder.columns]
        self._names, self._threads, self._classes = encoder.names, threads, classes

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of 1, or of each class, or the value."""
        if not len(matrix):
            return np.empty((0, self._classes) if self._classes else 0)
        scored: NDArray[np.float32] = self._booster.inplace_predict(matrix, validate_features=False)
        return scored.astype(np.float64)

    def contribute(self, matrix: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Shapley values of the margin, of the most probable class; the last column, the bias, is left out."""
        if not len(matrix):
            return np.empty((0, len(self._names)))
        rows = xgboost.DMatrix(
            matrix,
            feature_names=self._names,
            feature_types=self._types,
            enable_categorical=True,
            nthread=self._threads,
        )
        contributions: NDArray[np.float32] = self._booster.predict(rows, pred_contribs=True)
        if self._classes:
            contributions = contributions[np.arange(len(matrix)), self.score(matrix).argmax(axis=1)]
        return contributions[:, :-1].astype(np.float64)


def load(content: bytes, *, encoder: Encoder, problem: str, threads: int, classes: int = 0) -> XGBoostModel:
    """Load a model; the problem stands in xgboost's own file."""
    return XGBoostModel(content, encoder=encoder, threads=threads, classes=classes if problem == "multiclass" else 0)
