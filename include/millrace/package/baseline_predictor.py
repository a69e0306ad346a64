"""The prediction of the dummy that every candidate must beat: one number for all rows."""

from __future__ import annotations

import numpy as np
import orjson
from numpy.typing import NDArray

from millrace.package.encoder import Encoder


class ConstantModel:
    """The prior rate, or the mean, of the training rows."""

    def __init__(self, value: float) -> None:
        self._value = value

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same number for each row."""
        return np.full(len(matrix), self._value)

    def contribute(self, matrix: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """No feature adds anything."""
        return np.zeros(matrix.shape)


def load(content: bytes, *, encoder: Encoder, problem: str, threads: int) -> ConstantModel:
    """Load the number."""
    return ConstantModel(float(orjson.loads(content)["value"]))
