"""The ranking metric on parts of the holdout: rows that share the values of one column, or of several crossed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.evaluation.block import DayBlocks
from millrace.evaluation.bootstrap import Floats, measure_metric, resample_metric
from millrace.evaluation.finding import Estimate, SliceScore
from millrace.evaluation.metric import direction_of
from millrace.evaluation.score import estimate, paired
from millrace.evaluation.sklearn_metric import check_rows, has_metrics
from millrace.spec.use_case import Problem

CROSS = " × "
"""Between crossed columns, and between their values."""
MISSING = "(missing)"
OTHERS = "(others)"
"""All values of a column beyond the `MAX_SLICES` with the most rows, so that no row is in no slice."""
MAX_SLICES = 30
_DISTINCT_NUMBERS = 12


def score_slices(
    problem: Problem,
    metric: str,
    column: str,
    *,
    values: NDArray[Any],
    label: Floats,
    predictions: Sequence[Floats],
    blocks: DayBlocks,
) -> list[SliceScore]:
    """The ranking metric of a model for each value of a column; with a second model that one's, and the paired gain.

    Args:
        problem: of the use case.
        metric: the one that ranks.
        column: its name.
        values: (n,) the column. Numbers of many values are cut at their quartiles; None and NaN are `MISSING`.
        label: (n,) labels.
        predictions: of the model, then of the champion if there is one.
        blocks: days of the rows, and the draws.
    """
    names = largest_named(slice_names(values))
    found = []
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        own, days = label[rows], blocks.take(rows)
        scored = [_score(problem, metric, own, item[rows], days) for item in predictions]
        estimates = [estimate(*item) for item in scored]
        found.append(
            SliceScore(
                column=column,
                value=str(name),
                rows=len(rows),
                mean_label=0.0 if problem == "multiclass" else float(f"{own.mean():.10g}"),
                score=estimates[0],
                champion=estimates[1] if len(scored) > 1 else None,
                gain=_gain(metric, *scored, days=len(np.unique(days.of_row))) if len(scored) > 1 else None,
            )
        )
    return found


def crossed_names(columns: Sequence[str], values: Mapping[str, NDArray[Any]]) -> NDArray[np.object_]:
    """(n,) what each row is called by the values of one column, or of several joined by `CROSS`."""
    parts = [slice_names(values[name]) for name in columns]
    return np.array([CROSS.join(row) for row in zip(*parts, strict=True)], dtype=object)


def slice_names(values: NDArray[Any]) -> NDArray[np.str_]:
    """(n,) name of the slice each row is in."""
    if values.dtype.kind in "fiu":
        numbers = values.astype(np.float64)
        known = np.isfinite(numbers)
        distinct = np.unique(numbers[known])
        names = np.full(len(numbers), MISSING, dtype=object)
        if len(distinct) <= _DISTINCT_NUMBERS:
            names[known] = [f"{item:g}" for item in numbers[known]]
        else:
            cuts = np.quantile(numbers[known], [0.25, 0.5, 0.75])
            parts = [f"up to {cuts[0]:g}", f"up to {cuts[1]:g}", f"up to {cuts[2]:g}", f"over {cuts[2]:g}"]
            names[known] = np.array(parts, dtype=object)[np.searchsorted(cuts, numbers[known], side="left")]
        return names.astype(np.str_)
    return np.array([MISSING if item is None else str(item) for item in values], dtype=np.str_)


def largest_named(names: NDArray[np.str_]) -> NDArray[np.str_]:
    """(n,) the names, with `OTHERS` for those beyond the `MAX_SLICES` that most rows have."""
    distinct, counts = np.unique(names, return_counts=True)
    if len(distinct) <= MAX_SLICES:
        return names
    ranked = sorted(zip(distinct.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    kept = [name for name, _ in ranked[:MAX_SLICES]]
    return np.where(np.isin(names, kept), names, OTHERS)


def _score(problem: Problem, metric: str, label: Floats, prediction: Floats, blocks: DayBlocks) -> tuple[float, Floats]:
    """The metric, and the same in every round; NaN where it is undefined."""
    if not has_metrics(problem, label):
        return np.nan, np.full(len(blocks.draws), np.nan)
    check_rows(problem, label, prediction)
    value = measure_metric(problem, metric, label, prediction)
    return value, resample_metric(problem, metric, label, prediction, blocks)


def _gain(metric: str, ours: tuple[float, Floats], theirs: tuple[float, Floats], *, days: int) -> Estimate:
    way = direction_of(metric)
    return paired(way * (ours[0] - theirs[0]), way * (ours[1] - theirs[1]), days=days)
