"""The metric of a use case on predicted rows, by scikit-learn."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

MetricName = Literal["auc", "log_loss", "rmse"]


def score_predictions(
    metric: MetricName, target: NDArray[np.float32], prediction: NDArray[np.float64], *, classes: int
) -> float:
    """The figure that ranks candidates, on rows of equal weight.

    Args:
        metric: `auc` (of several classes each against the rest, the mean of all), `log_loss` or `rmse`.
        target: (n,) labels.
        prediction: (n,) probabilities of 1 or values; (n, classes) probabilities of several classes.
        classes: how many there are; 0 for a regression.
    """
    if metric == "rmse":
        return float(metrics.root_mean_squared_error(target, prediction))
    labels = np.arange(classes, dtype=np.float64)
    if prediction.ndim == 2:
        prediction = prediction / prediction.sum(axis=1, keepdims=True)
    if metric == "log_loss":
        return float(metrics.log_loss(target, prediction, labels=labels))
    if prediction.ndim == 1:
        return float(metrics.roc_auc_score(target, prediction))
    return float(metrics.roc_auc_score(target, prediction, multi_class="ovr", average="macro", labels=labels))
