"""Predictions of a lightgbm model out of its text."""

from __future__ import annotations

import lightgbm
import numpy as np
from numpy.typing import NDArray

from millrace.package.encoder import Encoder


class LightGBMModel:
    """A booster with a fixed number of threads."""

    def __init__(self, content: bytes, *, threads: int, classes: int = 0) -> None:
        self._booster = lightgbm.Booster(model_str=content.decode())
        self._threads, self._classes = threads, classes

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of 1, or of each class, or the value."""
        if not len(matrix):
            return np.empty((0, self._classes) if self._classes else 0)
        scored: NDArray[np.float64] = self._booster.predict(matrix, num_threads=self._threads)
        return scored

    def contribute(self, matrix: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Shapley values of the raw score, of the most probable class; the last column, the bias, is left out."""
        if not len(matrix):
            return np.empty((0, self._booster.num_feature()))
        found = self._booster.predict(matrix, pred_contrib=True, num_threads=self._threads)
        contributions = np.asarray(found, np.float64).reshape(len(matrix), max(self._classes, 1), -1)
        chosen = self.score(matrix).argmax(axis=1) if self._classes else 0
        return contributions[np.arange(len(matrix)), chosen, :-1]


def load(content: bytes, *, encoder: Encoder, problem: str, threads: int, classes: int = 0) -> LightGBMModel:
    """Load a model; features and problem stand in lightgbm's own file."""
    return LightGBMModel(content, threads=threads, classes=classes if problem == "multiclass" else 0)
