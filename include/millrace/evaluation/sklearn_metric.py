"""Metrics by scikit-learn, and the calibration error it has not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from millrace.errors import EvaluationError
from millrace.spec.use_case import Problem

CALIBRATION_BINS = 10


def measure(
    problem: Problem,
    label: NDArray[np.float64],
    prediction: NDArray[np.float64],
    weight: NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """All metrics of a problem.

    Args:
        problem: `binary` (labels 0 and 1, predictions are probabilities of 1) or `regression`.
        label: (n,), no NaN.
        prediction: (n,), no NaN.
        weight: (n,) of the rows; each 1 by default.

    Raises:
        EvaluationError: no rows, NaN or infinite values, predictions that are no probabilities, one class only.
    """
    check_rows(problem, label, prediction)
    if problem == "binary":
        return {
            "auc": float(metrics.roc_auc_score(label, prediction, sample_weight=weight)),
            "average_precision": float(metrics.average_precision_score(label, prediction, sample_weight=weight)),
            "log_loss": float(metrics.log_loss(label, prediction, sample_weight=weight, labels=[0.0, 1.0])),
            "brier": float(metrics.brier_score_loss(label, prediction, sample_weight=weight)),
            "ece": calibration_error(label, prediction, weight),
        }
    return {
        "rmse": float(metrics.root_mean_squared_error(label, prediction, sample_weight=weight)),
        "mae": float(metrics.mean_absolute_error(label, prediction, sample_weight=weight)),
        "r2": float(metrics.r2_score(label, prediction, sample_weight=weight)),
        "bias": float(np.average(prediction - label, weights=weight)),
    }


def calibration_bin(prediction: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each probability, of `CALIBRATION_BINS` of equal width; the last one holds 1."""
    return np.minimum((prediction * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def calibration_error(
    label: NDArray[np.float64], prediction: NDArray[np.float64], weight: NDArray[np.float64] | None = None
) -> float:
    """Expected calibration error: the mean over bins, by their weight, of |share of ones - mean probability|.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    gap = label - prediction
    weighted = gap if weight is None else gap * weight
    sums = np.bincount(calibration_bin(prediction), weights=weighted, minlength=CALIBRATION_BINS)
    return float(np.abs(sums).sum() / (len(label) if weight is None else weight.sum()))


def check_rows(problem: Problem, label: NDArray[np.float64], prediction: NDArray[np.float64]) -> None:
    """Refuse what no metric is defined on.

    Raises:
        EvaluationError: see `measure`.
    """
    if len(label) == 0 or len(label) != len(prediction):
        raise EvaluationError(
            f"{len(label)} labels and {len(prediction)} predictions",
            where="metrics",
            remedy="give one prediction for each labelled row, and at least one row",
        )
    for name, values in (("labels", label), ("predictions", prediction)):
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise EvaluationError(
                f"{bad} of {len(values)} {name} are NaN or infinite",
                where="metrics",
                remedy="look at the model's output and the label expression for that partition",
            )
    if problem == "binary":
        if set(np.unique(label)) != {0.0, 1.0}:
            raise EvaluationError(
                f"labels of a binary problem are {np.unique(label)[:5].tolist()}",
                where="metrics",
                remedy="the rows must hold both classes, as 0 and 1",
            )
        if prediction.min() < 0 or prediction.max() > 1:
            raise EvaluationError(
                f"predictions reach from {prediction.min():.4g} to {prediction.max():.4g}",
                where="metrics",
                remedy="a binary model predicts the probability of 1",
            )
