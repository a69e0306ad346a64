"""How well each feature alone predicts the label: a feature that nearly suffices is probably the answer in disguise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.evaluation.bootstrap import measure_metric
from millrace.evaluation.evidence import Sufficiency
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
    """AUC or R² on the holdout of each column alone; by name.

    The column predicts the mean label of its bin on the training rows (64 quantile bins of a number, each category,
    missing apart), which finds bends as well as slopes; a number is also tried as it stands, which finds what bins
    are too coarse for.
    """
    if problem == "binary" and len(np.unique(holdout_label)) < 2:
        return []
    step = max(1, len(training_label) // _TRAINING_ROWS)
    label = training_label[::step]
    found = []
    for name in sorted(holdout):
        seen, new = training[name][::step], holdout[name]
        tried = [_by_bin(seen, label, new)]
        if new.dtype.kind == "f":
            tried.append(_as_it_stands(new))
        best = max(_sufficiency(problem, holdout_label, item) for item in tried)
        found.append(Sufficiency(feature=name, score=float(f"{best:.6g}")))
    return found


def _by_bin(seen: NDArray[Any], label: Floats, new: NDArray[Any]) -> Floats:
    """Mean training label of the bin that each new value falls into; the overall mean where training had none."""
    if new.dtype.kind == "f":
        known = seen[np.isfinite(seen)]
        cuts = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(known) else np.empty(0)
        missing = len(cuts) + 1
        of_seen = np.where(np.isfinite(seen), np.searchsorted(cuts, seen, side="right"), missing)
        of_new = np.where(np.isfinite(new), np.searchsorted(cuts, new, side="right"), missing)
    else:
        codes: dict[Any, int] = {}
        of_seen = np.array([codes.setdefault(item, len(codes)) for item in seen.tolist()], dtype=np.int64)
        missing = len(codes)
        of_new = np.array([codes.get(item, missing) for item in new.tolist()], dtype=np.int64)
    rows = np.bincount(of_seen, minlength=missing + 1)
    sums = np.bincount(of_seen, weights=label, minlength=missing + 1)
    mean = float(label.mean()) if len(label) else 0.0
    found: Floats = np.where(rows > 0, sums / np.maximum(rows, 1), mean)[of_new]
    return found


def _as_it_stands(values: NDArray[Any]) -> Floats:
    known = np.isfinite(values)
    middle = float(np.median(values[known])) if known.any() else 0.0
    return np.where(known, values, middle).astype(np.float64)


def _sufficiency(problem: Problem, label: Floats, guess: Floats) -> float:
    if guess.min() == guess.max() or label.min() == label.max():
        return 0.5 if problem == "binary" else 0.0
    if problem == "binary":
        area = measure_metric(problem, "auc", label, guess)
        return max(area, 1 - area)
    return float(np.corrcoef(label, guess)[0, 1] ** 2)
