"""Predictions of a scikit-learn pipeline out of a skops file: nothing is unpickled, and only listed types are made."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from skops.io.exceptions import UntrustedTypesFoundException
from threadpoolctl import ThreadpoolController

from millrace.errors import PackageError
from millrace.package.encoder import Encoder
from millrace.package.estimator import list_estimators

TRUSTED = [
    "functools.partial",
    "scipy.sparse._csr.csr_matrix",
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

_WRAPPER = "compose.TransformedTargetRegressor"
_STEPS = {"columns": ("compose.ColumnTransformer",), "estimator": (*list_estimators(), _WRAPPER)}
_INNER = (
    "compose.ColumnTransformer",
    "dummy.DummyClassifier",
    "dummy.DummyRegressor",
    "ensemble._hist_gradient_boosting.binning._BinMapper",
    "preprocessing.FunctionTransformer",
    "preprocessing.LabelBinarizer",
    "preprocessing.LabelEncoder",
    "preprocessing.OneHotEncoder",
    "preprocessing.OrdinalEncoder",
    "preprocessing.StandardScaler",
    "tree.ExtraTreeClassifier",
    "tree.ExtraTreeRegressor",
)
"""What stands within the two steps of a pipeline: encoders, and what estimators of the list make for themselves."""


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
        PackageError: the file holds a type that none of the listed estimators has, or is no such pipeline.
    """
    try:
        pipeline = skops.io.loads(content, trusted=TRUSTED)
    except UntrustedTypesFoundException as error:
        raise PackageError(
            f"the model holds types that are not trusted: {error}",
            where="model file",
            remedy="train it with an estimator of the list in docs/authoring.md",
        ) from error
    _check_pipeline(pipeline)
    return SklearnModel(pipeline, encoder=encoder, problem=problem, threads=threads, classes=classes)


def _check_pipeline(pipeline: Any) -> None:
    """Refuses what no training seals: skops itself makes every class of scikit-learn."""
    steps = pipeline.steps if type(pipeline) is Pipeline else []
    if [name for name, _ in steps] != list(_STEPS):
        raise _refusal("a pipeline of an encoding step and an estimator was sealed, this is something else")
    for name, step in steps:
        if not _is_one(step, _STEPS[name]):
            raise _refusal(f"its step {name!r} is {_name(step)}, which is not on the list")
    last = pipeline[-1]
    if _is_one(last, (_WRAPPER,)) and not _is_one(last.regressor_, list_estimators()):
        raise _refusal(f"its estimator is {_name(last.regressor_)}, which is not on the list")
    allowed = (*list_estimators(), _WRAPPER, *_INNER)
    for found in _held(steps):
        if not _is_one(found, allowed):
            raise _refusal(f"it holds {_name(found)}, which no estimator of the list makes")


def _held(root: Any) -> Iterator[BaseEstimator]:
    """Every estimator that is to be reached from an object through attributes and containers."""
    seen: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen[id(item)] = item
        if isinstance(item, BaseEstimator):
            yield item
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            waiting.extend(item)
        elif isinstance(item, np.ndarray):
            waiting.extend(item.flat if item.dtype == object else ())
        else:
            waiting.extend(getattr(item, "__dict__", {}).values())


def _is_one(found: Any, paths: Collection[str]) -> bool:
    return any(path.endswith(f".{type(found).__name__}") and type(found) is _class_of(path) for path in paths)


def _class_of(path: str) -> type[Any]:
    module, _, name = path.rpartition(".")
    found: type[Any] = getattr(importlib.import_module(f"sklearn.{module}"), name)
    return found


def _name(found: Any) -> str:
    return f"{type(found).__module__}.{type(found).__qualname__}"


def _refusal(what: str) -> PackageError:
    return PackageError(
        f"the model is not what the list of estimators allows: {what}",
        where="model file",
        remedy="train it with an estimator of the list in docs/authoring.md",
    )
