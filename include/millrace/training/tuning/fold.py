"""Folds in the order of time: each trains on the partitions before a gap and is judged on the one after it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from millrace.artifact import iso
from millrace.errors import TrainingError
from millrace.spec.candidate import TuningSpec
from millrace.training.base import Trainer, TrainingData
from millrace.training.data.encoding import encode_more, encode_rows
from millrace.training.data.rows import TrainingRows
from millrace.training.job import TrainingJob

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One step in time.

    Attributes:
        trained: partitions that are trained on.
        validated: the later partition that is predicted.
    """

    trained: tuple[str, ...]
    validated: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldData:
    """The rows of a fold, encoded by what its own training rows taught.

    Attributes:
        fold: which one.
        train: the rows trained on.
        matrix: the rows predicted, as the model sees them.
        target: their labels.
    """

    fold: Fold
    train: TrainingData
    matrix: NDArray[np.float32]
    target: NDArray[np.float32]


def time_folds(partitions: Sequence[str], tuning: TuningSpec, *, needed: int = 1, where: str) -> list[Fold]:
    """The folds of a search, the earliest first; fewer than asked for where the partitions do not give more.

    Args:
        partitions: those before the holdout, in order.
        tuning: how many folds, and the gap.
        needed: partitions that a fold must have to train on.
        where: place in the spec, for messages.

    Raises:
        TrainingError: there are too few for a single one.
    """
    first = needed + tuning.gap
    validated = range(max(len(partitions) - tuning.folds, first), len(partitions))
    if not validated:
        raise TrainingError(
            f"{len(partitions)} partitions give no fold: it takes {needed} to train on, a gap of {tuning.gap} and one "
            "to predict",
            where=f"{where}.tuning",
            remedy="tune once there are more partitions, or lower tuning.gap",
        )
    if len(validated) < tuning.folds:
        log.warning("%s: %d folds instead of %d, for want of partitions", where, len(validated), tuning.folds)
    return [Fold(trained=tuple(partitions[: i - tuning.gap]), validated=partitions[i]) for i in validated]


def encode_fold(job: TrainingJob, rows: TrainingRows, fold: Fold, trainer: Trainer, *, folder: Path) -> FoldData:
    """Encode a fold; of its training rows those whose label was known when the predicted partition began.

    Args:
        job: whose rows.
        rows: those of the training set before the holdout.
        fold: which partitions.
        trainer: with the parameters of the spec.
        folder: for large temporary files; a folder of this fold alone.

    Raises:
        TrainingError: the rows of the fold cannot be trained on or judged.
    """
    known = iso(job.domain.partition(fold.validated).start)
    train = encode_rows(job, rows.only(list(fold.trained), known_until=known), trainer, folder=folder)
    matrix, target, _ = encode_more(job, rows.only([fold.validated]), train.encoder, folder=folder)
    present = len(np.unique(target))
    metric = job.use_case.evaluation.metric
    wanted = train.classes if metric == "auc" else 1
    if present < wanted:
        raise TrainingError(
            f"{present} of {train.classes} classes in the rows of partition {fold.validated}, so there is no {metric}",
            where=f"{job.where}.tuning",
            remedy="lower tuning.folds so that it is not predicted"
            + (", or rank by evaluation.metric: log_loss" if train.problem == "multiclass" else ""),
        )
    return FoldData(fold=fold, train=train, matrix=matrix, target=target)
