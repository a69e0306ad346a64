"""Predictions of a scikit-learn pipeline out of a skops file: nothing is unpickled, and only listed types are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from skops.io.exceptions import UntrustedTypesFoundException
from threadpoolctl import ThreadpoolController

from millrace.errors import PackageError
from millrace.package.encoder import Encoder

_TRUSTED = [
    "functools.partial",
    "sklearn._loss.loss.HalfGammaLoss",
    "sklearn._loss.loss.HalfPoissonLoss",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
]
"""What models of the listed estimators hold beyond the types that skops trusts by itself."""


class SklearnModel:
    """A fitted pipeline over encoded rows."""

    def __init__(self, pipeline: Any, *, encoder: Encoder, problem: str, threads: int, classes: int) -> None:
        self._pipeline, self._encoder = pipeline, encoder
        self._threads, self._pool = threads, ThreadpoolController()
        estimator = pipeline[-1]
        if estimator.get_params(deep=False).get("n_jobs") is not None:
            estimator.set_params(n_jobs=threads)
        self._problem, self._classes = problem, classes
        self._places = None if problem == "regression" else np.asarray(estimator.classes_).astype(np.int64)

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of 1, of each class, or the value."""
        width = self._classes if self._problem == "multiclass" else 2
        if not len(matrix):
            return np.empty((0, width) if self._problem == "multiclass" else 0)
        rows = model_input(matrix, self._encoder)
        with self._pool.limit(limits=self._threads):
            if self._places is None:
                return np.asarray(self._pipeline.predict(rows), np.float64)
            found = np.zeros((len(matrix), width))
            found[:, self._places] = self._pipeline.predict_proba(rows)
        return found if self._problem == "multiclass" else found[:, 1].copy()

    def contribute(self, matrix: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """A pipeline tells no contributions."""
        return None


def model_input(matrix: NDArray[np.float32], encoder: Encoder) -> NDArray[Any]:
    """Encoded rows as the pipeline takes them.

    Where the encoder scales: standardised numbers, indicators of missing ones, then the codes, as float64, so that a
    row alone agrees with its batch. Otherwise the rows as they are, numbers with NaN and codes in model order.
    """
    if not encoder.scaled:
        return matrix
    return np.concatenate([encoder.standardise(matrix), matrix[:, encoder.categories]], axis=1).astype(np.float64)


def load(content: bytes, *, encoder: Encoder, problem: str, threads: int, classes: int = 0) -> SklearnModel:
    """Load a pipeline.

    Raises:
        PackageError: the file holds a type that none of the listed estimators has.
    """
    try:
        pipeline = skops.io.loads(content, trusted=_TRUSTED)
    except UntrustedTypesFoundException as error:
        raise PackageError(
            f"the model holds types that are not trusted: {error}",
            where="model file",
            remedy="train it with an estimator of the list in docs/authoring.md",
        ) from error
    return SklearnModel(pipeline, encoder=encoder, problem=problem, threads=threads, classes=classes)
