"""What becomes of predictions when the numbers among the inputs change a little, or when a feature goes missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.evaluation.audit_finding import StabilityTest
from millrace.evaluation.bootstrap import measure_metric
from millrace.evaluation.finding import shortened
from millrace.evaluation.holdout import numbers
from millrace.evaluation.metric import direction_of
from millrace.evaluation.sklearn_metric import has_metrics
from millrace.spec.use_case import Problem

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]
Predict = Callable[[Mapping[str, Any]], Floats]
CHANGED_ROWS = 2_000
SHARE_OF_SPREAD = 0.05
"""Standard deviation of the noise on a number, as a share of the number's own over the rows."""
_DIGITS = 6
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What is tried.

    Attributes:
        problem: `binary`, `multiclass` or `regression`.
        metric: the metric that ranks.
        columns: feature → Arrow column, in the order of the model's features.
        categories: features that are no numbers.
        label: (n,) labels of the same rows.
        predict: the model.
        seed: of the noise.
    """

    problem: Problem
    metric: str
    columns: Mapping[str, Any]
    categories: list[str]
    label: Floats
    predict: Predict
    seed: int


def measure_stability(probed: Probed) -> list[StabilityTest]:
    """Predictions on changed rows beside those on the rows as they are; equal inputs give equal tests.

    First noise on all numbers at once, normal and a twentieth of each number's spread wide, which says whether small
    errors of measurement decide; then each feature missing in every row, which is what a source that stays away does.
    """
    whole = probed.predict(probed.columns)
    changed = [("perturbed", "", _perturb(probed))] if _numeric(probed) else []
    changed += [
        ("missing", name, {**probed.columns, name: pa.nulls(len(column), column.type)})
        for name, column in probed.columns.items()
    ]
    return [_compare(probed, whole, change, feature, columns) for change, feature, columns in changed]


def _numeric(probed: Probed) -> list[str]:
    return [name for name in probed.columns if name not in probed.categories]


def _perturb(probed: Probed) -> dict[str, Any]:
    generator = np.random.default_rng(probed.seed)
    found = dict(probed.columns)
    for name in _numeric(probed):
        values = numbers(found[name])
        known = values[np.abs(values) < _LARGEST]
        spread = float(known.std()) if len(known) else 0.0
        noise = generator.standard_normal(len(values))
        found[name] = pa.array(values + SHARE_OF_SPREAD * spread * noise, from_pandas=True)
    return found


def _compare(probed: Probed, whole: Floats, change: Any, feature: str, columns: Mapping[str, Any]) -> StabilityTest:
    rows = len(probed.label)
    try:
        found = np.asarray(probed.predict(columns), np.float64)
    except Exception as error:  # noqa: BLE001 - a model of any library may refuse such inputs in any way
        log.warning("no prediction with %s %s: %s", feature or "all numbers", change, error)
        return StabilityTest(change=change, feature=feature, rows=rows, moved=0.0, broken=rows)
    finite = np.isfinite(found.reshape(rows, -1)).all(axis=1)
    both = finite & np.isfinite(whole.reshape(rows, -1)).all(axis=1)
    moved = _moved(probed, whole[both], found[both])
    metric = drop = None
    if both.all() and has_metrics(probed.problem, probed.label):
        before, after = (measure_metric(probed.problem, probed.metric, probed.label, item) for item in (whole, found))
        if np.isfinite(before) and np.isfinite(after):
            lost = direction_of(probed.metric) * (before - after)
            metric, drop = shortened(after, _DIGITS), shortened(lost, _DIGITS)
    return StabilityTest(
        change=change,
        feature=feature,
        rows=rows,
        moved=moved,
        metric=metric,
        drop=drop,
        broken=int(rows - finite.sum()),
    )


def _moved(probed: Probed, whole: Floats, found: Floats) -> float:
    """Mean change; of several classes the share of probability that goes to another class."""
    if not len(found):
        return 0.0
    gap = np.abs(found - whole)
    if probed.problem == "multiclass":
        gap = gap.sum(axis=1) / 2
    unit = 1.0
    if probed.problem == "regression":
        unit = float(probed.label.std()) or 1.0
    mean = float(gap.mean() / unit)
    return shortened(mean, _DIGITS) if np.isfinite(mean) else 0.0
