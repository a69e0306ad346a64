"""Metrics by scikit-learn, and the calibration error it has not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from millrace.errors import EvaluationError
from millrace.evaluation.metric import TOP_SHARE, DecisionRule
from millrace.spec.use_case import Problem

CALIBRATION_BINS = 10
_OFF = 1e-3


def measure(
    problem: Problem,
    label: NDArray[np.float64],
    prediction: NDArray[np.float64],
    *,
    rule: DecisionRule | None = None,
) -> dict[str, float]:
    """All metrics of a problem.

    Args:
        problem: `binary` (labels 0 and 1, predictions are probabilities of 1), `multiclass` (labels are places of
            classes, predictions the probabilities of all of them) or `regression`.
        label: (n,), no NaN.
        prediction: (n,), or (n, classes) for several classes, no NaN.
        rule: threshold and beta of `f_beta`; those of `DecisionRule()` by default.

    Returns:
        Metric name → value; NaN where these rows do not define it.

    Raises:
        EvaluationError: no rows, NaN or infinite values, predictions that are no probabilities, one class only.
    """
    check_rows(problem, label, prediction)
    if problem == "binary":
        return _measure_binary(label, prediction, rule or DecisionRule())
    if problem == "multiclass":
        return _measure_classes(label, normalised(prediction))
    return {
        "rmse": float(metrics.root_mean_squared_error(label, prediction)),
        "mae": float(metrics.mean_absolute_error(label, prediction)),
        "mape": _percentage_error(label, prediction),
        "r2": float(metrics.r2_score(label, prediction)),
        "bias": float((prediction - label).mean()),
    }


def _measure_binary(
    label: NDArray[np.float64], prediction: NDArray[np.float64], rule: DecisionRule
) -> dict[str, float]:
    decided = (prediction >= rule.threshold).astype(np.float64)
    return {
        "auc": float(metrics.roc_auc_score(label, prediction)),
        "average_precision": float(metrics.average_precision_score(label, prediction)),
        "log_loss": float(metrics.log_loss(label, prediction, labels=[0.0, 1.0])),
        "brier": float(metrics.brier_score_loss(label, prediction)),
        "ece": calibration_error(label, prediction),
        "f_beta": float(metrics.fbeta_score(label, decided, beta=rule.beta, zero_division=0.0)),
        "lift": _lift(label, prediction),
    }


def _lift(label: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    """Share of ones in the top tenth over their share in all rows, which is the top tenth's recall over a tenth.

    Rows of one prediction stand in no order, so a cut among them takes the same part of their ones as of their rows.
    """
    false, true, _ = metrics.roc_curve(label, prediction, drop_intermediate=False)
    ones = float(label.mean())
    taken = ones * true + (1 - ones) * false
    return float(np.interp(TOP_SHARE, taken, true) / TOP_SHARE)


def _percentage_error(label: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    """Mean of |error / label| over the rows whose label is not 0; NaN where there is none, for it has no percentage."""
    rows = label != 0
    if not rows.any():
        return float("nan")
    return float(metrics.mean_absolute_percentage_error(label[rows], prediction[rows]))


def _measure_classes(label: NDArray[np.float64], prediction: NDArray[np.float64]) -> dict[str, float]:
    classes = np.arange(prediction.shape[1], dtype=np.float64)
    area = np.nan
    if len(np.unique(label)) == len(classes):
        area = metrics.roc_auc_score(label, prediction, multi_class="ovr", average="macro", labels=classes)
    named = prediction.argmax(axis=1).astype(np.float64)
    return {
        "auc": float(area),
        "log_loss": float(metrics.log_loss(label, prediction, labels=classes)),
        "accuracy": float(metrics.accuracy_score(label, named)),
        "macro_f1": float(metrics.f1_score(label, named, labels=classes, average="macro", zero_division=0.0)),
        "brier": float(metrics.brier_score_loss(label, prediction, labels=classes)),
        "ece": calibration_error(*held_against("multiclass", label, prediction)),
    }


def normalised(prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of classes that sum to one to the last bit, which float32 of a library does not."""
    found: NDArray[np.float64] = prediction / prediction.sum(axis=1, keepdims=True)
    return found


def held_against(
    problem: Problem, label: NDArray[np.float64], prediction: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What came (0 or 1) and the probability of it, row by row: what calibration compares.

    Of several classes it is whether the most probable one came, and its probability (Guo, Pleiss, Sun, Weinberger:
    On Calibration of Modern Neural Networks, ICML 2017).
    """
    if problem != "multiclass":
        return label, prediction
    return (prediction.argmax(axis=1) == label).astype(np.float64), prediction.max(axis=1)


def has_metrics(problem: Problem, label: NDArray[np.float64]) -> bool:
    """Whether rows of these labels have metrics: some rows, and two classes where there are classes."""
    return len(label) > 0 and (problem == "regression" or len(np.unique(label)) > 1)


def calibration_bin(prediction: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each probability, of `CALIBRATION_BINS` of equal width; the last one holds 1."""
    return np.minimum((prediction * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def calibration_error(label: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    """Expected calibration error: the mean over bins, by their rows, of |share of ones - mean probability|.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    sums = np.bincount(calibration_bin(prediction), weights=label - prediction, minlength=CALIBRATION_BINS)
    return float(np.abs(sums).sum() / len(label))


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
    if problem == "multiclass":
        _check_classes(label, prediction)
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


def _check_classes(label: NDArray[np.float64], prediction: NDArray[np.float64]) -> None:
    if prediction.ndim != 2:
        raise EvaluationError(
            "one prediction a row, where there are several classes",
            where="metrics",
            remedy="a multiclass model predicts the probability of each class",
        )
    classes = np.unique(label)
    if len(classes) < 2 or not set(classes) <= set(range(prediction.shape[1])):
        raise EvaluationError(
            f"labels of a problem with {prediction.shape[1]} classes are {classes[:5].tolist()}",
            where="metrics",
            remedy="the rows must hold two classes or more, each as its place in `classes`",
        )
    off = float(np.abs(prediction.sum(axis=1) - 1).max())
    if prediction.min() < 0 or prediction.max() > 1 + _OFF or off > _OFF:
        raise EvaluationError(
            f"predictions reach from {prediction.min():.4g} to {prediction.max():.4g} and sum to 1 but for {off:.4g}",
            where="metrics",
            remedy="a multiclass model predicts the probability of each class, and they sum to 1",
        )
