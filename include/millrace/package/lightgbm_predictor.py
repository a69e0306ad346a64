"""Predictions of a lightgbm model out of its text."""

from __future__ import annotations

import lightgbm
import numpy as np
from numpy.typing import NDArray

from millrace.package.encoder import Encoder


class LightGBMModel:
    """A booster with a fixed number of threads."""

    def __init__(self, content: bytes, *, threads: int) -> None:
        self._booster = lightgbm.Booster(model_str=content.decode())
        self._threads = threads

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of 1, or the value."""
        if not len(matrix):
            return np.empty(0)
        scored: NDArray[np.float64] = self._booster.predict(matrix, num_threads=self._threads)
        return scored

    def contribute(self, matrix: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Shapley values of the raw score; the last column of lightgbm, the bias, is left out."""
        contributions = self._booster.predict(matrix, pred_contrib=True, num_threads=self._threads)
        return np.asarray(contributions, np.float64)[:, :-1]


def load(content: bytes, *, encoder: Encoder, problem: str, threads: int) -> LightGBMModel:
    """Load a model; features and problem stand in lightgbm's own file."""
    return LightGBMModel(content, threads=threads)
