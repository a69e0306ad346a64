"""Points of the curves people look at, by scikit-learn: ROC and precision–recall, and errors along the prediction."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from millrace.evaluation.finding import Curve
from millrace.evaluation.sklearn_metric import has_metrics
from millrace.spec.use_case import Problem

MAX_POINTS = 60
_BINS = 20
_ROWS_A_BIN = 20
_TAIL = 0.05

Floats = NDArray[np.float64]


def draw_curves(
    problem: Problem, label: Floats, prediction: Floats, of: Literal["challenger", "champion"]
) -> list[Curve]:
    """The curves of one model, at most `MAX_POINTS` points each; none where the labels define none.

    Of several classes it is the curve of all (row, class) pairs, each class against the rest, taken together.
    """
    if not has_metrics(problem, label):
        return []
    if problem == "regression":
        return [_residuals(label, prediction, of)]
    if problem == "multiclass":
        label = (label[:, None] == np.arange(prediction.shape[1])).astype(np.float64).ravel()
        prediction = prediction.ravel()
    false, true, _ = metrics.roc_curve(label, prediction)
    precision, recall, _ = metrics.precision_recall_curve(label, prediction)
    return [
        _thinned("roc", of, false, true, along=false + true),
        _thinned("precision_recall", of, recall[::-1], precision[::-1], along=recall[::-1]),
    ]


def _thinned(kind: Literal["roc", "precision_recall"], of: str, x: Floats, y: Floats, *, along: Floats) -> Curve:
    """The points nearest to equal steps of a value that grows along the curve, with both ends."""
    steps = np.linspace(along[0], along[-1], MAX_POINTS)
    chosen = np.unique(np.append(np.searchsorted(along, steps[:-1], side="left"), len(along) - 1))
    return Curve(kind=kind, of=of, x=_shortened(x[chosen]), y=_shortened(y[chosen]))


def _residuals(label: Floats, prediction: Floats, of: str) -> Curve:
    """Median error, and the range nine tenths of errors lie in, in bins of as many rows each, by prediction."""
    error = prediction - label
    bins = max(1, min(_BINS, len(label) // _ROWS_A_BIN))
    parts = np.array_split(np.argsort(prediction, kind="stable"), bins)
    low, middle, high = (
        [float(np.quantile(error[rows], share)) for rows in parts] for share in (_TAIL, 0.5, 1 - _TAIL)
    )
    return Curve(
        kind="residuals",
        of=of,
        x=_shortened(np.array([prediction[rows].mean() for rows in parts])),
        y=_shortened(np.array(middle)),
        low=_shortened(np.array(low)),
        high=_shortened(np.array(high)),
    )


def _shortened(values: Floats) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
