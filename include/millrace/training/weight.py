"""How much each training row counts: its own weight times that of its class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.errors import SpecError, TrainingError
from millrace.spec import CandidateSpec, UseCaseSpec


def class_names(use_case: UseCaseSpec) -> list[str]:
    """Names of the classes in the order of their labels: `0` and `1` where the problem is binary."""
    return ["0", "1"] if use_case.problem == "binary" else list(use_case.classes)


def check_class_weight(use_case: UseCaseSpec, spec: CandidateSpec, *, where: str) -> None:
    """Refuse weights of classes that there are not.

    Raises:
        SpecError: a regression, or an unknown class.
    """
    if not spec.class_weight:
        return
    known = class_names(use_case)
    if not known:
        raise SpecError(
            "a regression has no classes to weigh", where=f"{where}.class_weight", remedy="use label.weight instead"
        )
    if isinstance(spec.class_weight, dict) and (odd := sorted(set(spec.class_weight) - set(known))):
        raise SpecError(
            f"no class {odd[0]!r}", where=f"{where}.class_weight", remedy=f"classes are: {', '.join(known)}"
        )


def row_weights(
    use_case: UseCaseSpec, spec: CandidateSpec, target: NDArray[Any], own: NDArray[np.float64] | None, *, where: str
) -> NDArray[np.float32] | None:
    """The weight of each row; None where all count the same.

    Args:
        use_case: its classes.
        spec: its `class_weight`; `balanced` gives each class rows / (classes * rows of the class), as scikit-learn's
            `compute_class_weight` does.
        target: label of each row.
        own: weight of each row by itself, of `label.weight`.
        where: place of the rows, for messages.

    Raises:
        TrainingError: a weight is missing, infinite, or not above 0.
    """
    if own is None and not spec.class_weight:
        return None
    weights = np.ones(len(target)) if own is None else own
    if spec.class_weight:
        weights = weights * _of_classes(use_case, spec, target)[target.astype(np.int64)]
    narrow = weights.astype(np.float32)
    if faulty := np.flatnonzero(~(np.isfinite(narrow) & (narrow > 0))).tolist():
        raise TrainingError(
            f"{len(faulty)} of {len(target)} weights are no numbers above 0; the first is {weights[faulty[0]]:g}",
            where=where,
            remedy="let label.weight give a number above 0 for each row; to leave a row out, give it no label",
        )
    return narrow


def _of_classes(use_case: UseCaseSpec, spec: CandidateSpec, target: NDArray[Any]) -> NDArray[np.float64]:
    names = class_names(use_case)
    if isinstance(spec.class_weight, dict):
        return np.array([spec.class_weight.get(name, 1.0) for name in names], np.float64)
    counts = np.bincount(target.astype(np.int64), minlength=len(names))
    return np.asarray(len(target) / (len(names) * np.maximum(counts, 1)), np.float64)
