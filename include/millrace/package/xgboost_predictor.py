"""Predictions of an xgboost model out of its UBJSON bytes."""

from __future__ import annotations

import numpy as np
import xgboost
from numpy.typing import NDArray

from millrace.package.encoder import Encoder


class XGBoostModel:
    """A booster, predicting in place: no matrix of xgboost's own is built for a row."""

    def __init__(self, content: bytes, *, encoder: Encoder, threads: int) -> None:
        self._booster = xgboost.Booster(params={"nthread": threads, "verbosity": 0})
        self._booster.load_model(bytearray(content))
        self._booster.set_param({"nthread": threads})
        self._types = ["c" if column.kind == "category" else "q" for column in encoder.columns]
        self._names, self._threads = encoder.names, threads

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of 1, or the value."""
        if not len(matrix):
            return np.empty(0)
        scored: NDArray[np.float32] = self._booster.inplace_predict(matrix, validate_features=False)
        return scored.astype(np.float64)

    def contribute(self, matrix: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Shapley values of the margin; the last column of xgboost, the bias, is left out."""
        rows = xgboost.DMatrix(
            matrix,
            feature_names=self._names,
            feature_types=self._types,
            enable_categorical=True,
            nthread=self._threads,
        )
        contributions: NDArray[np.float32] = self._booster.predict(rows, pred_contribs=True)
        return contributions[:, :-1].astype(np.float64)


def load(content: bytes, *, encoder: Encoder, problem: str, threads: int) -> XGBoostModel:
    """Load a model; the problem stands in xgboost's own file."""
    return XGBoostModel(content, encoder=encoder, threads=threads)
