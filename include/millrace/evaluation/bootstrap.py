"""Metrics in every round of a day-block bootstrap, from sums per day instead of from resampled rows.

A round gives each day a weight, how often it was drawn. Sums over rows become sums over days; the area under the
ROC curve becomes a quadratic form in those weights, because it counts pairs of a positive row of one day and a
negative row of another. Both are exact; only average precision has to walk the rows in each round, and lift a few.
"""

from __future__ import annotations

from datetime import date

import numpy as np
from numpy.typing import NDArray

from millrace.evaluation.block import DayBlocks
from millrace.evaluation.metric import TOP_SHARE, DecisionRule
from millrace.evaluation.sklearn_metric import CALIBRATION_BINS, calibration_bin, held_against, normalised
from millrace.spec.use_case import Problem

Floats = NDArray[np.float64]
_ROUNDS_AT_ONCE = 16
_STRETCHES = 256
_EPSILON = float(np.finfo(np.float64).eps)


def resample(
    problem: Problem, label: Floats, prediction: Floats, blocks: DayBlocks, *, rule: DecisionRule | None = None
) -> dict[str, Floats]:
    """Each metric of a problem in each round; NaN in rounds where it is undefined (a class that was not drawn).

    Args:
        problem: `binary`, `multiclass` or `regression`.
        label: (n,) labels.
        prediction: (n,) predictions, or (n, classes) probabilities.
        blocks: days of the rows, and the draws.
        rule: threshold and beta of `f_beta`; those of `DecisionRule()` by default.

    Returns:
        Metric name → (rounds,) values.
    """
    if problem == "binary":
        return {
            "auc": resample_auc(label, prediction, blocks),
            "average_precision": resample_average_precision(label, prediction, blocks),
            **_resample_binary_sums(label, prediction, blocks),
            "f_beta": _resample_f_beta(label, prediction, blocks, rule or DecisionRule()),
            "lift": resample_lift(label, prediction, blocks),
        }
    if problem == "multiclass":
        prediction = normalised(prediction)
        return {
            "auc": _resample_class_auc(label, prediction, blocks),
            **_resample_class_sums(label, prediction, blocks),
            "macro_f1": _resample_macro_f1(label, prediction, blocks),
        }
    return resample_errors(label, prediction, blocks)


def resample_metric(problem: Problem, metric: str, label: Floats, prediction: Floats, blocks: DayBlocks) -> Floats:
    """One metric in each round; cheap where it is the AUC, or several classes' log loss."""
    if problem == "multiclass" and metric == "auc":
        return _resample_class_auc(label, normalised(prediction), blocks)
    if problem == "multiclass" and metric != "macro_f1":
        return _resample_class_sums(label, normalised(prediction), blocks)[metric]
    if metric == "auc":
        return resample_auc(label, prediction, blocks)
    return resample(problem, label, prediction, blocks)[metric]


def measure_metric(problem: Problem, metric: str, label: Floats, prediction: Floats) -> float:
    """One metric on all rows, from the same sums; NaN where it is undefined."""
    whole = DayBlocks(of_row=np.zeros(len(label), np.int64), days=[date.min], draws=np.ones((1, 1)))
    return float(resample_metric(problem, metric, label, prediction, whole)[0])


def resample_auc(label: Floats, prediction: Floats, blocks: DayBlocks) -> Floats:
    """Area under the ROC curve in each round: the share of (positive, negative) pairs in right order, ties half.

    Mann and Whitney 1947. `pairs[d, e]` counts the pairs of day d's positives and day e's negatives, so that a round
    with weights w has w' pairs w of them in right order; all counts are exact in float64.
    """
    days = len(blocks.days)
    positive = label == 1
    order = np.argsort(prediction[positive], kind="stable")
    scores, day = prediction[positive][order], blocks.of_row[positive][order]
    negatives, of_negative = prediction[~positive], blocks.of_row[~positive]
    pairs = np.zeros((days, days))
    for other in range(days):
        against = np.sort(negatives[of_negative == other])
        if len(against):
            below = np.searchsorted(against, scores, side="left") + np.searchsorted(against, scores, side="right")
            pairs[:, other] = np.bincount(day, weights=below / 2, minlength=days)
    ones = blocks.draws @ np.bincount(day, minlength=days)
    noughts = blocks.draws @ np.bincount(of_negative, minlength=days)
    right = ((blocks.draws @ pairs) * blocks.draws).sum(axis=1)
    return _divide(right, ones * noughts)


def resample_average_precision(label: Floats, prediction: Floats, blocks: DayBlocks) -> Floats:
    """Average precision in each round: precision at each distinct score, weighted by the recall gained there."""
    order = np.argsort(-prediction, kind="stable")
    scores, day = prediction[order], blocks.of_row[order]
    positive = np.flatnonzero(label[order] == 1)
    if len(positive) == 0:
        return np.full(len(blocks.draws), np.nan)
    last_of_score = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    ends = last_of_score[np.searchsorted(last_of_score, positive)]
    last_positive = np.append(np.flatnonzero(ends[1:] != ends[:-1]), len(ends) - 1)
    ends = ends[last_positive]
    draws = blocks.draws.astype(np.int32)
    found = np.empty(len(draws))
    for start in range(0, len(draws), _ROUNDS_AT_ONCE):
        part = draws[start : start + _ROUNDS_AT_ONCE]
        rows = np.cumsum(part[:, day], axis=1, dtype=np.int32)[:, ends]
        hits = np.cumsum(part[:, day[positive]], axis=1, dtype=np.int32)[:, last_positive].astype(np.float64)
        gained = np.diff(hits, axis=1, prepend=0.0)
        found[start : start + len(part)] = _divide((gained * (hits / np.maximum(rows, 1))).sum(axis=1), hits[:, -1])
    return found


def resample_mean(values: Floats, blocks: DayBlocks) -> Floats:
    """The mean of a value of each row in each round."""
    rows, total = _sums(blocks, [np.ones_like(values), values])
    return _divide(total, rows)


def resample_lift(label: Floats, prediction: Floats, blocks: DayBlocks) -> Floats:
    """Lift of the top tenth in each round.

    The rows, best first, are cut into stretches that part no equal predictions. Sums per stretch and day tell in which
    one the tenth of a round ends; only the rows of that one are walked.
    """
    order = np.argsort(-prediction, kind="stable")
    hit, day, scores = label[order] == 1, blocks.of_row[order], prediction[order]
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]) + 1, len(scores))
    wanted = np.linspace(0, len(scores), _STRETCHES + 1)[1:]
    cuts = np.unique(np.append(ends[np.searchsorted(ends, wanted)], len(scores)))
    rows, hits = (_until(cuts, day, chosen, blocks) for chosen in (np.ones(len(hit), bool), hit))
    goal = TOP_SHARE * rows[:, -1]
    place = np.minimum((rows < goal[:, None]).sum(axis=1), len(cuts) - 1)
    found = np.full(len(blocks.draws), np.nan)
    for stretch in np.unique(place):
        of = np.flatnonzero(place == stretch)
        start, stop = int(cuts[stretch - 1]) if stretch else 0, int(cuts[stretch])
        closed = ends[np.searchsorted(ends, start, side="right") : np.searchsorted(ends, stop) + 1] - start
        drawn = blocks.draws[of][:, day[start:stop]]
        within = np.cumsum(drawn, axis=1)[:, closed - 1]
        gained = np.cumsum(drawn * hit[start:stop], axis=1)[:, closed - 1]
        for number, item in enumerate(of):
            before, known = (rows[item, stretch - 1], hits[item, stretch - 1]) if stretch else (0.0, 0.0)
            taken = np.append(0.0, within[number])
            reached = known + np.interp(goal[item] - before, taken, np.append(0.0, gained[number]))
            found[item] = reached / TOP_SHARE
    return _divide(found, hits[:, -1])


def _until(cuts: NDArray[np.int64], day: NDArray[np.int64], chosen: NDArray[np.bool_], blocks: DayBlocks) -> Floats:
    """(rounds, cuts): rows of each round before each cut, of those chosen."""
    count = len(cuts)
    stretch = np.searchsorted(cuts, np.arange(len(day)), side="right")
    cell = day * count + stretch
    by_day = np.bincount(cell[chosen], minlength=len(blocks.days) * count).reshape(len(blocks.days), count)
    summed: Floats = np.cumsum(blocks.draws @ by_day.astype(np.float64), axis=1)
    return summed


def resample_errors(label: Floats, prediction: Floats, blocks: DayBlocks) -> dict[str, Floats]:
    """RMSE, MAE, MAPE, R² and bias in each round."""
    error = prediction - label
    centred = label - label.mean()
    known = label != 0
    relative = np.where(known, np.abs(error) / np.maximum(np.abs(label), _EPSILON), 0.0)
    rows, squared, absolute, bias, total, spread, of_known, shares = _sums(
        blocks,
        [np.ones_like(label), error**2, np.abs(error), error, centred, centred**2, known.astype(np.float64), relative],
    )
    return {
        "rmse": np.sqrt(_divide(squared, rows)),
        "mae": _divide(absolute, rows),
        "mape": _divide(shares, of_known),
        "r2": 1 - _divide(squared, spread - _divide(total**2, rows)),
        "bias": _divide(bias, rows),
    }


def _resample_binary_sums(label: Floats, prediction: Floats, blocks: DayBlocks) -> dict[str, Floats]:
    safe = np.clip(prediction, _EPSILON, 1 - _EPSILON)
    loss = -np.where(label == 1, np.log(safe), np.log1p(-safe))
    rows, losses, squared = _sums(blocks, [np.ones_like(label), loss, (prediction - label) ** 2])
    return {
        "log_loss": _divide(losses, rows),
        "brier": _divide(squared, rows),
        "ece": _divide(_resample_gaps(label, prediction, blocks), rows),
    }


def _resample_f_beta(label: Floats, prediction: Floats, blocks: DayBlocks, rule: DecisionRule) -> Floats:
    """(1 + β²) · hits / (β² · ones + rows decided 1); undefined where a round has neither (van Rijsbergen 1979)."""
    decided = (prediction >= rule.threshold).astype(np.float64)
    hits, ones, chosen = _sums(blocks, [label * decided, label, decided])
    return _divide((1 + rule.beta**2) * hits, rule.beta**2 * ones + chosen)


def _resample_class_auc(label: Floats, prediction: Floats, blocks: DayBlocks) -> Floats:
    """Mean over classes of the area for each against the rest; undefined where a class was not drawn."""
    areas = [resample_auc((label == place).astype(np.float64), of, blocks) for place, of in enumerate(prediction.T)]
    found: Floats = np.mean(areas, axis=0)
    return found


def _resample_class_sums(label: Floats, prediction: Floats, blocks: DayBlocks) -> dict[str, Floats]:
    came = prediction[np.arange(len(label)), label.astype(np.int64)]
    loss = -np.log(np.clip(came, _EPSILON, 1 - _EPSILON))
    squared = (prediction**2).sum(axis=1) - 2 * came + 1
    right, probability = held_against("multiclass", label, prediction)
    rows, losses, hits, squares = _sums(blocks, [np.ones_like(label), loss, right, squared])
    return {
        "log_loss": _divide(losses, rows),
        "accuracy": _divide(hits, rows),
        "brier": _divide(squares, rows),
        "ece": _divide(_resample_gaps(right, probability, blocks), rows),
    }


def _resample_macro_f1(label: Floats, prediction: Floats, blocks: DayBlocks) -> Floats:
    """Mean over classes of 2 · hits / (rows of it + rows named it); 0 for a class with neither."""
    classes, named, truth = prediction.shape[1], prediction.argmax(axis=1), label.astype(np.int64)
    hit = named == truth
    counted = []
    for of_row, rows in ((truth, hit), (truth, slice(None)), (named, slice(None))):
        cell = (blocks.of_row * classes + of_row)[rows]
        by_day = np.bincount(cell, minlength=len(blocks.days) * classes).reshape(len(blocks.days), classes)
        counted.append(blocks.draws @ by_day)
    hits, of_class, of_name = counted
    total = of_class + of_name
    found: Floats = np.where(total > 0, 2 * hits / np.maximum(total, 1), 0.0).mean(axis=1)
    return found


def _resample_gaps(came: Floats, probability: Floats, blocks: DayBlocks) -> Floats:
    """Rows times calibration error in each round."""
    days = len(blocks.days)
    cell = blocks.of_row * CALIBRATION_BINS + calibration_bin(probability)
    gaps = np.bincount(cell, weights=came - probability, minlength=days * CALIBRATION_BINS)
    by_bin = np.einsum("rd,db->rb", blocks.draws, gaps.reshape(days, CALIBRATION_BINS))
    found: Floats = np.abs(by_bin).sum(axis=1)
    return found


def _sums(blocks: DayBlocks, values: list[Floats]) -> Floats:
    """(len(values), rounds): each value summed over the rows of each round, in one fixed order."""
    per_day = np.stack([np.bincount(blocks.of_row, weights=item, minlength=len(blocks.days)) for item in values])
    summed: Floats = np.einsum("rd,vd->vr", blocks.draws, per_day)
    return summed


def _divide(above: Floats, below: Floats) -> Floats:
    found = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found
