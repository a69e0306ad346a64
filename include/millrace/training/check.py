"""What training refuses to train on, with the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.artifact import canonical
from millrace.errors import SpecError, TrainingError
from millrace.package import FeatureSpec, GoldenRows, OnDemandFunctions
from millrace.package.golden import same_values
from millrace.training.data.weight import check_class_weight
from millrace.training.job import TrainingJob

MIN_ROWS = 50
_NEAR = 1e-6
_BLUR = 1e-2  # of their deviation


def check_job(job: TrainingJob) -> None:
    """Refuse a candidate that asks for classes or features as the use case has them not.

    Raises:
        SpecError: `class_weight` or `monotone` names what the use case has not, or what no model can hold.
    """
    check_class_weight(job.use_case, job.spec, where=job.where)
    if job.spec.monotone and job.use_case.problem == "multiclass":
        raise SpecError(
            "probabilities of several classes sum to 1: not all of them can rise or fall with a feature",
            where=f"{job.where}.monotone",
            remedy="take `monotone` away, or ask a binary or regression question",
        )
    kinds = {column.name: column.kind for column in job.features.model}
    for name in job.spec.monotone:
        if kinds.get(name) != "number":
            found = "a category" if name in kinds else "no feature"
            raise SpecError(
                f"{name!r} is {found}; only numbers rise and fall",
                where=f"{job.where}.monotone",
                remedy=f"numbers are: {', '.join(known for known, kind in kinds.items() if kind == 'number')}",
            )


def check_rows(rows: int, *, where: str) -> None:
    """Refuse a training set that is empty or too small to learn anything of.

    Raises:
        TrainingError: fewer than `MIN_ROWS` rows.
    """
    if rows < MIN_ROWS:
        found = "no rows" if not rows else f"{rows} rows, needed are {MIN_ROWS}"
        raise TrainingError(
            f"the training set has {found}",
            where=where,
            remedy="ingest earlier partitions, or check label.expression and label.known_at of the use case",
        )


def checked_target(
    labels: NDArray[np.float64], problem: str, *, classes: Sequence[str] = (), where: str
) -> NDArray[np.float32]:
    """The labels as float32.

    Raises:
        TrainingError: a label is null, not finite, or none of the classes.
    """
    with np.errstate(over="ignore"):
        target = labels.astype(np.float32)
    if faulty := int((~np.isfinite(target)).sum()):
        raise TrainingError(
            f"{faulty} of {len(target)} labels are NaN or infinite",
            where=where,
            remedy="let label.expression give null where there is no label; such rows are left out",
        )
    varied = len(target) > 0 and not (target == target[0]).all()
    if problem == "regression" and varied and np.abs(labels - target).max() > _BLUR * float(labels.std()):
        raise TrainingError(
            f"labels around {labels.mean():g} differ by {labels.std():g} only, which float32 does not tell apart",
            where=where,
            remedy="let label.expression subtract what all have in common",
        )
    if problem == "binary" and (odd := labels[(labels != 0) & (labels != 1)]).size:
        raise TrainingError(
            f"a label is {odd[0]:g}, binary labels are 0 and 1",
            where=where,
            remedy="correct label.expression, or say `problem: regression`",
        )
    if problem == "multiclass" and (odd := labels[~np.isin(labels, np.arange(len(classes)))]).size:
        raise TrainingError(
            f"a label is {odd[0]:g}, labels are the places of {len(classes)} classes",
            where=where,
            remedy="build the training set again, with the classes the use case names now",
        )
    return target


def check_variety(target: NDArray[Any], problem: str, *, classes: Sequence[str] = (), where: str) -> None:
    """Refuse labels that there is nothing to learn from.

    Raises:
        TrainingError: there are none, all are the same, or (multiclass) a class has no row.
    """
    if not len(target):
        raise TrainingError(
            "no rows whose label was known in time",
            where=where,
            remedy="train on more partitions; for a search, lower tuning.folds so that the earliest is not predicted",
        )
    if (target == target[0]).all():
        known = "a constant target" if problem == "regression" else "one class only"
        shown = repr(classes[int(target[0])]) if problem == "multiclass" else f"{target[0]:g}"
        raise TrainingError(
            f"{known}: all {len(target)} labels are {shown}",
            where=where,
            remedy="train on more partitions, or correct label.expression",
        )
    if absent := _absent(target, problem, classes):
        raise TrainingError(
            f"classes without a single training row: {', '.join(map(repr, absent))}",
            where=where,
            remedy="train on more partitions, or take them out of `classes`",
        )


def check_early_stopping(
    target: NDArray[Any],
    recent: NDArray[np.bool_],
    partitions: Sequence[str],
    problem: str,
    *,
    kept: int = 1,
    classes: Sequence[str] = (),
    where: str,
) -> None:
    """Refuse early stopping where the last partitions, kept back, or what is left without them teaches nothing.

    Args:
        kept: how many are kept back.

    Raises:
        TrainingError: no partition beside those, one class in either part, a constant target in what is left, or a
            class that is in those kept back alone.
    """
    several = kept > 1
    if several and len(partitions) <= kept:
        raise TrainingError(
            f"early stopping keeps {kept} partitions back, and of {len(partitions)}, {partitions[0]} to "
            f"{partitions[-1]}, none is left to train on",
            where=where,
            remedy=f"train on {kept + 1} partitions or more, lower evaluation.validation_partitions, or set "
            "early_stopping: 0",
        )
    halves = [target[recent], target[~recent]]
    # A network or a forest of one value learns nothing, however the kept-back rows vary.
    taught = halves if problem != "regression" else halves[1:]
    vain = len(partitions) < 2 or any((half == half[0]).all() for half in taught)
    absent = [] if vain else _absent(halves[1], problem, classes)
    if vain or absent:
        last, those = (f"last {kept}", "those alone have") if several else ("last", "that one alone has")
        before = "them" if several else "it"
        why = f": before {before}, no row is of {', '.join(map(repr, absent))}" if absent else ""
        raise TrainingError(
            f"early stopping keeps the {last} of the partitions {', '.join(partitions)} back, and what is left of them "
            f"or {those} nothing to learn from{why}",
            where=where,
            remedy="train on more partitions, or set early_stopping: 0",
        )


def check_partitions(partitions: Sequence[str], needed: int, *, holdout: str, where: str) -> None:
    """Refuse a window with fewer partitions before the holdout than the use case demands.

    Raises:
        TrainingError: too few.
    """
    if len(partitions) < needed:
        raise TrainingError(
            f"{len(partitions)} partitions with rows before the holdout {holdout}, needed are {needed}",
            where=where,
            remedy="train on a later holdout, or lower min_training_partitions",
        )


def check_computed(rows: pa.RecordBatch, features: FeatureSpec, functions: OnDemandFunctions, *, where: str) -> None:
    """Refuse features that other functions computed than those that will be sealed with the model.

    Raises:
        TrainingError: a feature computed on demand comes out otherwise than it stands in the training set.
    """
    if not features.on_demand:
        return
    inputs = {column.name: rows.column(column.name) for column in features.inputs}
    computed = functions.add(inputs, rows.num_rows)
    for name in features.computed:
        if not same_values(computed[name], rows.column(name)):
            raise TrainingError(
                f"on-demand feature {name!r} is not what its function gives now",
                where=where,
                remedy="build the training set again; the function, or what it computes with, changed since",
            )


def check_fit(fit: Any, *, where: str) -> None:
    """Refuse what a trainer gives back where it is no `Fit` of bytes and plain facts.

    Raises:
        TrainingError: it is something else.
    """
    try:
        canonical(dict(fit.facts))
        plain = isinstance(fit.content, bytes) and all(isinstance(value, int | float) for value in fit.metrics.values())
    except (AttributeError, TypeError, ValueError):
        plain = False
    if not plain:
        raise TrainingError(
            "what the trainer's `fit` gives back is no Fit: bytes, facts as JSON has them, and numbers as metrics",
            where=where,
            remedy="correct the trainer; millrace.training.contract.TrainerContract tries it",
        )


def check_predictions(golden: GoldenRows, problem: str, *, classes: int, where: str) -> None:
    """Refuse a model whose predictions of the golden rows are not one number a row, or no probabilities.

    Raises:
        TrainingError: another shape, NaN or infinity, or a probability outside of 0 to 1.
    """
    found = np.asarray(golden.predictions, np.float64)
    rows = len(next(iter(golden.columns.values())))
    expected = (rows, classes) if problem == "multiclass" else (rows,)
    if found.shape != expected:
        why = f"of shape {found.shape}, expected is {expected}"
    elif faulty := int((~np.isfinite(found)).sum()):
        why = f"no numbers, {faulty} of {found.size}"
    elif problem != "regression" and ((found < -_NEAR) | (found > 1 + _NEAR)).any():
        why = "no probabilities between 0 and 1"
    else:
        return
    raise TrainingError(
        f"the model's predictions of the golden rows are {why}",
        where=where,
        remedy="choose another trainer or estimator for these rows, or correct the trainer",
    )


def _absent(target: NDArray[Any], problem: str, classes: Sequence[str]) -> list[str]:
    if problem != "multiclass":
        return []
    counts = np.bincount(target.astype(np.int64), minlength=len(classes))
    return [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]
