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
    """Refuse weights of classes that there are not, and those that are no 32-bit number above 0.

    Raises:
        SpecError: a regression, an unknown class, or a weight out of range.
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
    if isinstance(spec.class_weight, dict):
        for name, weight in spec.class_weight.items():
            if not _usable(np.array([weight], np.float64))[0]:
                raise SpecError(
                    f"class {name!r} weighs {weight:g}, which a 32-bit number cannot hold",
                    where=f"{where}.class_weight.{name}",
                    remedy="write weights relative to each other, such as 1 and 20",
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
    if own is not None and (faulty := np.flatnonzero(~_usable(own)).tolist()):
        raise TrainingError(
            f"{len(faulty)} of {len(target)} weights are no numbers above 0; the first is {own[faulty[0]]:g}",
            where=where,
            remedy="let label.weight give a number above 0 for each row; to leave a row out, give it no label",
        )
    if faulty := np.flatnonzero(~_usable(weights)).tolist():
        factors = "class_weight" if own is None else "label.weight times class_weight"
        raise TrainingError(
            f"{factors} of {len(faulty)} of {len(target)} rows is no 32-bit number above 0; "
            f"the first is {weights[faulty[0]]:g}",
            where=f"class_weight of the candidate, on {where}",
            remedy="write the weights in class_weight relative to each other, such as 1 and 20",
        )
    return weights.astype(np.float32)


def _usable(weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    with np.errstate(over="ignore", under="ignore"):
        narrow = weights.astype(np.float32)
    return np.asarray(np.isfinite(narrow) & (narrow > 0))


def _of_classes(use_case: UseCaseSpec, spec: CandidateSpec, target: NDArray[Any]) -> NDArray[np.float64]:
    names = class_names(use_case)
    if isinstance(spec.class_weight, dict):
        return np.array([spec.class_weight.get(name, 1.0) for name in names], np.float64)
    counts = np.bincount(target.astype(np.int64), minlength=len(names))
    return np.asarray(len(target) / (len(names) * np.maximum(counts, 1)), np.float64)
