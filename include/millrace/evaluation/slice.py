"""The ranking metric on parts of the holdout: rows that share the values of one column, or of several crossed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.evaluation.block import DayBlocks
from millrace.evaluation.bootstrap import Floats, measure_metric, resample_metric
from millrace.evaluation.finding import Estimate, SliceScore, shortened
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
_DIGITS, _MOST_DIGITS = 6, 17
_LARGEST_WHOLE = 2.0**53


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
        own, drawn = label[rows], blocks.take(rows)
        days = len(np.unique(drawn.of_row))
        scored = [_score(problem, metric, own, item[rows], drawn) for item in predictions]
        estimates = [estimate(*item, days=days) for item in scored]
        found.append(
            SliceScore(
                column=column,
                value=str(name),
                rows=len(rows),
                mean_label=0.0 if problem == "multiclass" else shortened(own.mean()),
                score=estimates[0],
                champion=estimates[1] if len(scored) > 1 else None,
                gain=_gain(metric, *scored, days=days) if len(scored) > 1 else None,
            )
        )
    return found


def crossed_names(columns: Sequence[str], values: Mapping[str, NDArray[Any]]) -> NDArray[np.object_]:
    """(n,) what each row is called by the values of one column, or of several joined by `CROSS`."""
    parts = [slice_names(values[name]) for name in columns]
    return np.array([CROSS.join(row) for row in zip(*parts, strict=True)], dtype=object)


def slice_names(values: NDArray[Any], *, codes: bool = False) -> NDArray[np.str_]:
    """(n,) name of the slice each row is in.

    Args:
        values: (n,) the column.
        codes: whether whole numbers are codes, each of them a slice however many there are.
    """
    if values.dtype.kind not in "fiu":
        return np.array([MISSING if item is None else str(item) for item in values], dtype=np.str_)
    numbers = values.astype(np.float64)
    known = np.isfinite(numbers)
    distinct, place = np.unique(numbers[known], return_inverse=True)
    if len(distinct) > _DISTINCT_NUMBERS and not (codes and (distinct == np.floor(distinct)).all()):
        cuts = np.quantile(numbers[known], [0.25, 0.5, 0.75])
        told = _told_apart(cuts)
        names, place = [*(f"up to {item}" for item in told), f"over {told[-1]}"], np.searchsorted(cuts, numbers[known])
    else:
        names = _told_apart(distinct)
    found = np.full(len(numbers), MISSING, dtype=object)
    found[known] = np.array(names, dtype=object)[place]
    return found.astype(np.str_)


def _told_apart(numbers: Floats) -> list[str]:
    """Six digits of each number, all of a whole one, and as many more as it takes until no two are called the same."""
    distinct = len(np.unique(numbers))
    for digits in range(_DIGITS, _MOST_DIGITS + 1):
        names = [f"{item:.0f}" if _is_whole(item) else f"{item:.{digits}g}" for item in (numbers + 0.0).tolist()]
        if len(set(names)) == distinct:
            break
    return names


def _is_whole(number: float) -> bool:
    return abs(number) < _LARGEST_WHOLE and number == int(number)


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
