"""How well each feature alone predicts the label: a feature that nearly suffices is probably the answer in disguise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.evaluation.bootstrap import measure_metric
from millrace.evaluation.finding import Sufficiency, shortened
from millrace.evaluation.sklearn_metric import has_metrics
from millrace.spec.use_case import Problem

Floats = NDArray[np.float64]
_BINS = 64
_TRAINING_ROWS = 50_000


def measure_sufficiency(
    problem: Problem,
    training: Mapping[str, NDArray[Any]],
    training_label: Floats,
    holdout: Mapping[str, NDArray[Any]],
    holdout_label: Floats,
) -> list[Sufficiency]:
    """AUC or R² on the holdout of each column alone; by name. Of several classes, the greatest AUC of one of them.

    The column predicts the mean label of its bin on the training rows (64 quantile bins of a number, each category,
    missing apart), which finds bends as well as slopes; a number is also tried as it stands, which finds what bins
    are too coarse for.
    """
    if not has_metrics(problem, holdout_label):
        return []
    step = max(1, len(training_label) // _TRAINING_ROWS)
    seen_labels = _targets(problem, training_label[::step], holdout_label)
    found = []
    for name in sorted(holdout):
        new = holdout[name]
        of_seen, of_new = _bins(training[name][::step], new)
        fixed = _as_it_stands(new) if new.dtype.kind == "f" else None
        scores = []
        for seen_label, label in seen_labels:
            tried = [_means(of_seen, seen_label, of_new), *([] if fixed is None else [fixed])]
            scores += [_sufficiency(problem, label, item) for item in tried]
        found.append(Sufficiency(feature=name, score=shortened(max(scores), 6)))
    return found


def _targets(problem: Problem, seen: Floats, new: Floats) -> list[tuple[Floats, Floats]]:
    """Labels of training and holdout; of several classes, those of each class against the rest."""
    if problem != "multiclass":
        return [(seen, new)]
    return [((seen == place).astype(np.float64), (new == place).astype(np.float64)) for place in np.unique(new)]


def _bins(seen: NDArray[Any], new: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bins of the training values and of the new ones; missing numbers, and categories new by then, are in the last."""
    if new.dtype.kind == "f":
        known = seen[np.isfinite(seen)]
        cuts = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(known) else np.empty(0)
        missing = len(cuts) + 1
        of_seen = np.where(np.isfinite(seen), np.searchsorted(cuts, seen, side="right"), missing)
        return of_seen, np.where(np.isfinite(new), np.searchsorted(cuts, new, side="right"), missing)
    codes: dict[Any, int] = {}
    of_seen = np.array([codes.setdefault(item, len(codes)) for item in seen.tolist()], dtype=np.int64)
    return of_seen, np.array([codes.get(item, len(codes)) for item in new.tolist()], dtype=np.int64)


def _means(of_seen: NDArray[np.int64], label: Floats, of_new: NDArray[np.int64]) -> Floats:
    """Mean training label of the bin of each new value; the overall mean where training had none."""
    bins = int(max(of_seen.max(initial=0), of_new.max(initial=0))) + 1
    rows = np.bincount(of_seen, minlength=bins)
    sums = np.bincount(of_seen, weights=label, minlength=bins)
    mean = float(label.mean()) if len(label) else 0.0
    found: Floats = np.where(rows > 0, sums / np.maximum(rows, 1), mean)[of_new]
    return found


def _as_it_stands(values: NDArray[Any]) -> Floats:
    known = np.isfinite(values)
    middle = float(np.median(values[known])) if known.any() else 0.0
    return np.where(known, values, middle).astype(np.float64)


def _sufficiency(problem: Problem, label: Floats, guess: Floats) -> float:
    if guess.min() == guess.max() or label.min() == label.max():
        return 0.0 if problem == "regression" else 0.5
    if problem != "regression":
        area = measure_metric("binary", "auc", label, guess)
        return max(area, 1 - area)
    return float(np.corrcoef(label, guess)[0, 1] ** 2)
