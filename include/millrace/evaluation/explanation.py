"""What moves a model: contributions of its booster where there are any, else what shuffling a column costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.evaluation.bootstrap import measure_metric
from millrace.evaluation.finding import Contribution, Explanation
from millrace.evaluation.metric import direction_of
from millrace.evaluation.sklearn_metric import has_metrics
from millrace.spec.use_case import Problem

Floats = NDArray[np.float64]
Predict = Callable[[Mapping[str, Any]], Floats]
EXPLAINED_ROWS = 300
SHUFFLED_ROWS = 1_000
ROWS_OF_CLASS = 20


def sample_rows(count: int, wanted: int) -> NDArray[np.int64]:
    """Indices of at most `wanted` rows, evenly spread over all of them; the same for ever."""
    return np.arange(count) if count <= wanted else np.linspace(0, count - 1, wanted).astype(np.int64)


def sample_classes(label: Floats, wanted: int) -> NDArray[np.int64]:
    """`sample_rows`, and the first rows of each class besides, so that none is missing."""
    first = [np.flatnonzero(label == place)[:ROWS_OF_CLASS] for place in np.unique(label)]
    return np.unique(np.concatenate([sample_rows(len(label), wanted), *first]))


def explain_contributions(features: list[str], contributions: Floats) -> Explanation:
    """Mean absolute contribution of each feature (the booster's own, Lundberg et al. 2020), largest first.

    Args:
        contributions: (rows, features) in the order of `features`.
    """
    return _rank("contributions", len(contributions), features, np.abs(contributions).mean(axis=0))


def explain_permutation(
    problem: Problem,
    metric: str,
    *,
    columns: Mapping[str, Any],
    features: list[str],
    label: Floats,
    predict: Predict,
    seed: int,
) -> Explanation:
    """How much worse the metric gets when one column is shuffled (Breiman 2001); never below nought.

    Args:
        columns: feature → Arrow column.
    """
    if not has_metrics(problem, label):
        return Explanation(method="none", rows=len(label), features=[])
    way = direction_of(metric)
    whole = measure_metric(problem, metric, label, predict(columns))
    order = pa.array(np.random.default_rng(seed).permutation(len(label)))
    losses = []
    for name in features:
        shuffled = {**columns, name: columns[name].take(order)}
        losses.append(max(0.0, way * (whole - measure_metric(problem, metric, label, predict(shuffled)))))
    return _rank("permutation", len(label), features, np.array(losses))


def _rank(method: Any, rows: int, features: list[str], values: Floats) -> Explanation:
    total = float(values.sum())
    ranked = sorted(zip(features, values.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    return Explanation(
        method=method,
        rows=rows,
        features=[
            Contribution(feature=name, value=float(f"{value:.6g}"), share=float(f"{value / total if total else 0:.6g}"))
            for name, value in ranked
        ],
    )
