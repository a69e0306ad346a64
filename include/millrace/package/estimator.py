"""The estimators of scikit-learn that may be named in a spec and read out of a package: a closed list."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from millrace.spec.base import RuleError

Inputs = Literal["dense", "native", "ordinal"]

RESERVED = frozenset(
    {
        "categorical_features",
        "class_weight",
        "early_stopping",
        "memory",
        "monotonic_cst",
        "n_iter_no_change",
        "n_jobs",
        "random_state",
        "validation_fraction",
        "verbose",
        "warm_start",
    }
)
"""Parameters of estimators that Millrace sets, or that would draw a validation set at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """What is known of one estimator.

    Attributes:
        path: dotted path below `sklearn`.
        inputs: `dense` takes standardised numbers with indicators of missing ones, and categories one-hot; `ordinal`
            takes numbers with NaN, and the codes of categories as numbers; `native` splits the codes as categories.
        classifies: whether it gives probabilities; a value otherwise.
        weighted: whether rows may have weights.
        monotone: whether features may be monotone.
        stops_early: whether it can watch a window that is handed to it.
        sparse: whether categories one-hot may be a sparse matrix.
        standardises: whether it learns a standardised target, which its own predictions are brought back from.
    """

    path: str
    inputs: Inputs
    classifies: bool
    weighted: bool = True
    monotone: bool = False
    stops_early: bool = False
    sparse: bool = True
    standardises: bool = False

    @property
    def parallel(self) -> bool:
        """Whether `n_jobs` spreads its work over cores."""
        return self.path.startswith(("ensemble.RandomForest", "ensemble.ExtraTrees", "neighbors."))


_DENSE_ONLY = ("naive_bayes.GaussianNB", "linear_model.BayesianRidge")
_BOTH: dict[str, Inputs] = {
    "ensemble.HistGradientBoosting": "native",
    "ensemble.RandomForest": "ordinal",
    "ensemble.ExtraTrees": "ordinal",
    "ensemble.GradientBoosting": "dense",
    "tree.DecisionTree": "ordinal",
    "neighbors.KNeighbors": "dense",
    "neural_network.MLP": "dense",
}
_CLASSIFIERS = ("linear_model.LogisticRegression", "naive_bayes.GaussianNB")
_REGRESSORS = (
    "linear_model.LinearRegression",
    "linear_model.Ridge",
    "linear_model.Lasso",
    "linear_model.ElasticNet",
    "linear_model.BayesianRidge",
    "linear_model.HuberRegressor",
    "linear_model.PoissonRegressor",
    "linear_model.GammaRegressor",
    "linear_model.TweedieRegressor",
    "linear_model.QuantileRegressor",
)


def _list() -> dict[str, Estimator]:
    found = [
        Estimator(
            path=f"{stem}{ending}",
            inputs=inputs,
            classifies=ending == "Classifier",
            weighted="KNeighbors" not in stem,
            monotone=inputs == "native",
            stops_early=inputs == "native",
            standardises=f"{stem}{ending}" == "neural_network.MLPRegressor",
        )
        for stem, inputs in _BOTH.items()
        for ending in ("Classifier", "Regressor")
    ]
    found += [
        Estimator(path=path, inputs="dense", classifies=True, sparse=path not in _DENSE_ONLY) for path in _CLASSIFIERS
    ]
    found += [
        Estimator(path=path, inputs="dense", classifies=False, sparse=path not in _DENSE_ONLY) for path in _REGRESSORS
    ]
    return {item.path: item for item in found}


_KNOWN = _list()


def list_estimators() -> list[str]:
    """Dotted paths of all estimators that may be named, below `sklearn`."""
    return sorted(_KNOWN)


def find_estimator(path: str) -> Estimator:
    """An estimator by its dotted path, with or without `sklearn.` in front.

    Raises:
        RuleError: it is not on the list.
    """
    found = _KNOWN.get(path.removeprefix("sklearn."))
    if found is None:
        near = difflib.get_close_matches(path, _KNOWN, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"name one of: {', '.join(list_estimators())}"
        raise RuleError(f"no estimator {path!r} on the list", remedy=hint)
    return found
