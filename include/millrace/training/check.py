"""What training refuses to train on, with the remedy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.errors import TrainingError
from millrace.package import FeatureSpec, OnDemandFunctions
from millrace.package.golden import same_values

MIN_ROWS = 50


def check_rows(rows: pa.Table, *, where: str) -> None:
    """Refuse a training set that is empty or too small to learn anything of.

    Raises:
        TrainingError: fewer than `MIN_ROWS` rows.
    """
    if rows.num_rows < MIN_ROWS:
        found = "no rows" if not rows.num_rows else f"{rows.num_rows} rows, needed are {MIN_ROWS}"
        raise TrainingError(
            f"the training set has {found}",
            where=where,
            remedy="ingest earlier partitions, or check label.expression and label.known_at of the use case",
        )


def checked_target(rows: pa.Table, problem: str, *, where: str) -> NDArray[np.float32]:
    """The labels as float32.

    Raises:
        TrainingError: a label is null, not finite, or (binary) neither 0 nor 1; or all labels are the same.
    """
    target = rows.column("label").to_numpy().astype(np.float64)
    if faulty := int((~np.isfinite(target.astype(np.float32))).sum()):
        raise TrainingError(
            f"{faulty} of {len(target)} labels are NaN or infinite",
            where=where,
            remedy="let label.expression give null where there is no label; such rows are left out",
        )
    if problem == "binary" and (odd := target[(target != 0) & (target != 1)]).size:
        raise TrainingError(
            f"a label is {odd[0]:g}, binary labels are 0 and 1",
            where=where,
            remedy="correct label.expression, or say `problem: regression`",
        )
    if (target == target[0]).all():
        known = "one class only" if problem == "binary" else "a constant target"
        raise TrainingError(
            f"{known}: all {len(target)} labels are {target[0]:g}",
            where=where,
            remedy="train on more partitions, or correct label.expression",
        )
    return target.astype(np.float32)


def check_partitions(partitions: list[str], needed: int, *, holdout: str, where: str) -> None:
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


def check_computed(rows: pa.Table, features: FeatureSpec, functions: OnDemandFunctions, *, where: str) -> None:
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
