"""Which metrics there are, what they are called, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from millrace.errors import EvaluationError
from millrace.spec.use_case import Problem

MetricName = Literal[
    "auc",
    "average_precision",
    "log_loss",
    "accuracy",
    "macro_f1",
    "brier",
    "ece",
    "f_beta",
    "lift",
    "rmse",
    "mae",
    "mape",
    "r2",
    "bias",
]
TOP_SHARE = 0.1
"""Share of the rows, those with the highest probabilities, that `lift` is about."""
_CLASSES: tuple[Problem, ...] = ("binary", "multiclass")
_BINARY: tuple[Problem, ...] = ("binary",)
_MULTICLASS: tuple[Problem, ...] = ("multiclass",)
_REGRESSION: tuple[Problem, ...] = ("regression",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure of merit.

    Attributes:
        name: key in evidence, policies and reports.
        title: what people read.
        problems: problems it is defined for.
        direction: 1 where more is better, -1 where less is, 0 where neither is (bias: nearer to nought).
    """

    name: MetricName
    title: str
    problems: tuple[Problem, ...]
    direction: Literal[-1, 0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRule:
    """How a probability becomes a decision, and what its errors weigh in F-beta.

    Attributes:
        threshold: a probability from here on is decided 1.
        beta: how much more recall counts than precision.
    """

    threshold: float = 0.5
    beta: float = 1.0


METRICS: dict[str, Metric] = {
    item.name: item
    for item in (
        Metric(name="auc", title="AUC", problems=_CLASSES, direction=1),
        Metric(name="average_precision", title="Average precision", problems=_BINARY, direction=1),
        Metric(name="log_loss", title="Log loss", problems=_CLASSES, direction=-1),
        Metric(name="accuracy", title="Accuracy", problems=_MULTICLASS, direction=1),
        Metric(name="macro_f1", title="Macro F1", problems=_MULTICLASS, direction=1),
        Metric(name="brier", title="Brier score", problems=_CLASSES, direction=-1),
        Metric(name="ece", title="Calibration error", problems=_CLASSES, direction=-1),
        Metric(name="f_beta", title="F-beta", problems=_BINARY, direction=1),
        Metric(name="lift", title="Lift", problems=_BINARY, direction=1),
        Metric(name="rmse", title="RMSE", problems=_REGRESSION, direction=-1),
        Metric(name="mae", title="MAE", problems=_REGRESSION, direction=-1),
        Metric(name="mape", title="MAPE", problems=_REGRESSION, direction=-1),
        Metric(name="r2", title="R²", problems=_REGRESSION, direction=1),
        Metric(name="bias", title="Bias", problems=_REGRESSION, direction=0),
    )
}


def metrics_for(problem: str) -> list[Metric]:
    """The metrics of a problem, in the order reports show them."""
    return [item for item in METRICS.values() if problem in item.problems]


def direction_of(name: str) -> int:
    """1 where more of a metric is better, -1 where less is.

    Raises:
        EvaluationError: the metric is unknown, or ranks nothing.
    """
    metric = METRICS.get(name)
    if metric is None or metric.direction == 0:
        ranking = ", ".join(item.name for item in METRICS.values() if item.direction)
        raise EvaluationError(f"{name!r} ranks no models", where="metric", remedy=f"use one of: {ranking}")
    return metric.direction
