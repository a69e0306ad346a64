"""The prediction of the dummy that every candidate must beat: the same for all rows."""

from __future__ import annotations

import numpy as np
import orjson
from numpy.typing import NDArray

from millrace.errors import PackageError
from millrace.package.encoder import Encoder


class ConstantModel:
    """The prior rate, the share of each class, or the mean, of the training rows."""

    def __init__(self, value: float | list[float]) -> None:
        self._value = np.asarray(value, np.float64)

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same for each row: a number, or one a class."""
        return np.broadcast_to(self._value, (len(matrix), *self._value.shape)).copy()

    def contribute(self, matrix: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """No feature adds anything."""
        return np.zeros(matrix.shape)


def load(content: bytes, *, encoder: Encoder, problem: str, threads: int, classes: int = 0) -> ConstantModel:
    """Load the numbers.

    Raises:
        PackageError: they are not as many as the classes.
    """
    value = orjson.loads(content)["value"]
    expected = classes if problem == "multiclass" else None
    if (len(value) if isinstance(value, list) else None) != expected:
        raise PackageError(
            f"the constant {value!r} is not one for {problem} with {classes} classes",
            where="model file",
            remedy="restore the package from the registry",
        )
    return ConstantModel(value)
