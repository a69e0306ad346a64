"""What a model is worth on the holdout: metrics with intervals, gains over another model, slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from millrace.evaluation.block import DayBlocks
from millrace.evaluation.bootstrap import Floats, measure_metric, resample, resample_metric
from millrace.evaluation.evidence import Estimate, SliceScore
from millrace.evaluation.metric import direction_of
from millrace.evaluation.sklearn_metric import check_rows, has_metrics, measure
from millrace.spec.use_case import Problem

CONFIDENCE = 0.95
_MAX_UNDEFINED = 0.1
_MAX_SLICES = 30
_DISTINCT_NUMBERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The metrics of one model on all rows, and in every round of the bootstrap."""

    value: dict[str, float]
    rounds: dict[str, Floats]

    def estimates(self) -> dict[str, Estimate]:
        """Each metric with its interval."""
        return {name: estimate(value, self.rounds[name]) for name, value in self.value.items()}


def score(problem: Problem, label: Floats, prediction: Floats, blocks: DayBlocks) -> Scored:
    """Metrics of one model.

    Raises:
        EvaluationError: the rows define no metrics (see `sklearn_metric.measure`).
    """
    return Scored(value=measure(problem, label, prediction), rounds=resample(problem, label, prediction, blocks))


def estimate(value: float, rounds: Floats) -> Estimate:
    """A figure with its percentile interval; without one where over a tenth of the rounds are undefined."""
    if not np.isfinite(value):
        return Estimate()
    known = rounds[np.isfinite(rounds)]
    if len(known) < (1 - _MAX_UNDEFINED) * len(rounds):
        return Estimate(value=_round(value))
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(known, [tail, 100 - tail])
    return Estimate(value=_round(value), low=_round(low), high=_round(high))


def gain(metric: str, ours: Scored, theirs: Scored) -> Estimate:
    """How much better one model is than another on the same rows and the same resampled days; positive is better."""
    way = direction_of(metric)
    return estimate(
        way * (ours.value[metric] - theirs.value[metric]), way * (ours.rounds[metric] - theirs.rounds[metric])
    )


def score_slices(
    problem: Problem,
    metric: str,
    column: str,
    *,
    values: NDArray[np.object_] | Floats,
    label: Floats,
    predictions: Sequence[Floats],
    blocks: DayBlocks,
) -> list[SliceScore]:
    """The ranking metric of a model, and of a second one where given, for each value of a column.

    Args:
        values: (n,) the column. Numbers of many values are cut at their quartiles; None and NaN are "(missing)".
        predictions: of the model, then of the champion if there is one.
    """
    found = []
    names = slice_names(values)
    sizes = {str(name): int(size) for name, size in zip(*np.unique(names, return_counts=True), strict=True)}
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:_MAX_SLICES]
    for name in sorted(largest):
        rows = np.flatnonzero(names == name)
        scores = [_slice_estimate(problem, metric, label[rows], item[rows], blocks.take(rows)) for item in predictions]
        found.append(
            SliceScore(
                column=column,
                value=name,
                rows=len(rows),
                mean_label=0.0 if problem == "multiclass" else _round(label[rows].mean()),
                score=scores[0],
                champion=scores[1] if len(scores) > 1 else None,
            )
        )
    return found


def slice_names(values: NDArray[np.object_] | Floats) -> NDArray[np.str_]:
    """(n,) name of the slice each row is in."""
    if values.dtype.kind in "fiu":
        numbers = values.astype(np.float64)
        known = np.isfinite(numbers)
        distinct = np.unique(numbers[known])
        names = np.full(len(numbers), "(missing)", dtype=object)
        if len(distinct) <= _DISTINCT_NUMBERS:
            names[known] = [f"{item:g}" for item in numbers[known]]
        else:
            cuts = np.quantile(numbers[known], [0.25, 0.5, 0.75])
            parts = [f"up to {cuts[0]:g}", f"up to {cuts[1]:g}", f"up to {cuts[2]:g}", f"over {cuts[2]:g}"]
            names[known] = np.array(parts, dtype=object)[np.searchsorted(cuts, numbers[known], side="left")]
        return names.astype(np.str_)
    return np.array(["(missing)" if item is None else str(item) for item in values], dtype=np.str_)


def _slice_estimate(problem: Problem, metric: str, label: Floats, prediction: Floats, blocks: DayBlocks) -> Estimate:
    if not has_metrics(problem, label):
        return Estimate()
    check_rows(problem, label, prediction)
    value = measure_metric(problem, metric, label, prediction)
    return estimate(value, resample_metric(problem, metric, label, prediction, blocks))


def _round(value: float) -> float:
    """Ten significant digits: enough for any reader, and a last bit that differs changes no digest."""
    return float(f"{value:.10g}")
