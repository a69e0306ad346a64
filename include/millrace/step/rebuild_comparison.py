"""How far a rebuilt model is the one that was released: in its bytes, else its predictions, else its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa

from millrace.errors import EvaluationError, MillraceError
from millrace.evaluation.metric import direction_of
from millrace.evaluation.sklearn_metric import measure
from millrace.package import Package
from millrace.spec import UseCaseSpec

Level = Literal["bytes", "predictions", "metrics", "none"]
PREDICTION_TOLERANCE = 1e-6
"""Greatest difference of two predictions of a row that counts as none; the online service allows as much."""
METRIC_TOLERANCE = 2e-3
"""Greatest difference of the metric on the same rows that counts as none: less than another seed makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What held between two packages.

    Attributes:
        level: the strongest that held; `none` where not even the metrics are alike.
        rows: rows that both predicted (0 where the bytes are equal: none were needed).
        prediction_gap: greatest difference of two predictions of a row.
        metric: name of the metric.
        metrics: its value for `recorded` and `rebuilt`.
        differing: files of the package that differ.
        why: what stood in the way of a comparison ("" where nothing did).
    """

    level: Level
    rows: int = 0
    prediction_gap: float = 0.0
    metric: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)
    why: str = ""


def compare_packages(
    recorded: Package | None, rebuilt: Package, wanted: str, use_case: UseCaseSpec, rows: pa.Table
) -> Comparison:
    """The strongest level on which a rebuilt package is the recorded one.

    Args:
        recorded: the package that was released; None where it is gone.
        rebuilt: what the rebuild sealed.
        wanted: digest of the package that was released.
        use_case: names problem and metric.
        rows: labelled rows with features that neither was trained on.
    """
    if rebuilt.digest == wanted:
        return Comparison(level="bytes")
    if recorded is None:
        return Comparison(level="none", why="the package that was released is gone, so only its digest is left")
    differing = [name for name, sha in rebuilt.manifest.files.items() if recorded.manifest.files.get(name) != sha]
    name = use_case.evaluation.metric
    try:
        old, new = (predict_rows(package, rows) for package in (recorded, rebuilt))
    except MillraceError as error:
        return Comparison(level="none", differing=differing, why=error.what)
    gap = _gap(old, new)
    try:
        metrics = {key: metric_of(use_case, rows, found) for key, found in (("recorded", old), ("rebuilt", new))}
    except EvaluationError as error:
        level: Level = "predictions" if gap <= PREDICTION_TOLERANCE else "none"
        return Comparison(level=level, rows=rows.num_rows, prediction_gap=gap, differing=differing, why=error.what)
    level = "none"
    if gap <= PREDICTION_TOLERANCE:
        level = "predictions"
    elif abs(metrics["recorded"] - metrics["rebuilt"]) <= METRIC_TOLERANCE * _scale(name, metrics["recorded"]):
        level = "metrics"
    return Comparison(
        level=level, rows=rows.num_rows, prediction_gap=gap, metric=name, metrics=metrics, differing=differing
    )


def predict_rows(package: Package, rows: pa.Table) -> np.ndarray:
    """Predictions of a package for rows of a training set.

    Raises:
        PackageError: the model does not load.
        FeatureError: a feature is missing.
    """
    columns = {name: rows.column(name) for name in package.features.columns if name in rows.column_names}
    return package.predictor().predict(columns)


def metric_of(use_case: UseCaseSpec, rows: pa.Table, prediction: np.ndarray) -> float:
    """The use case's metric of predictions of labelled rows.

    Raises:
        EvaluationError: it is not defined on these rows.
    """
    label = rows.column("label").cast(pa.float64()).to_numpy()
    return measure(use_case.problem, label, prediction)[use_case.evaluation.metric]


def _gap(old: np.ndarray, new: np.ndarray) -> float:
    if old.shape != new.shape:
        return float("inf")
    gap = float(np.abs(old - new).max(initial=0.0))
    return float("inf") if np.isnan(gap) else gap


def _scale(metric: str, value: float) -> float:
    """1 for metrics between 0 and 1; metrics in the label's own unit are compared relatively."""
    return abs(value) if direction_of(metric) < 0 and metric in {"rmse", "mae"} else 1.0
