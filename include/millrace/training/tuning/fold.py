"""Folds in the order of time: each trains on the partitions before a gap and is judged on those after it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
        validated: the later partition that is predicted; of several the last.
        window: all that are predicted, in order, where they are several.
    """

    trained: tuple[str, ...]
    validated: str
    window: tuple[str, ...] = ()

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The fold that `dataclasses.asdict` was called on, by way of JSON."""
        window = tuple(plain.get("window", ()))
        return cls(trained=tuple(plain["trained"]), validated=plain["validated"], window=window)

    @property
    def predicted(self) -> tuple[str, ...]:
        """All partitions that are predicted, in order."""
        return self.window or (self.validated,)

    @property
    def span(self) -> str:
        """The partitions that are predicted, as people write them."""
        return f"partitions {self.window[0]} to {self.validated}" if self.window else f"partition {self.validated}"

    def described(self) -> list[list[str] | str]:
        """What it trains on and what it predicts, in plain lists; a lone partition is its key."""
        return [list(self.trained), list(self.window) or self.validated]


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


def time_folds(
    partitions: Sequence[str], tuning: TuningSpec, *, needed: int = 1, predicted: int = 1, where: str
) -> list[Fold]:
    """The folds of a search, the earliest first; fewer than asked for where the partitions do not give more.

    No partition is predicted by two of them.

    Args:
        partitions: those before the holdout, in order.
        tuning: how many folds, and the gap.
        needed: partitions that a fold must have to train on.
        predicted: partitions that a fold predicts.
        where: place in the spec, for messages.

    Raises:
        TrainingError: there are too few for a single one.
    """
    room = (len(partitions) - needed - tuning.gap) // predicted
    if room < 1:
        several = predicted > 1
        raise TrainingError(
            f"{len(partitions)} partitions give no fold: it takes {needed} to train on, a gap of {tuning.gap} and "
            f"{predicted if several else 'one'} to predict",
            where=f"{where}.tuning",
            remedy="tune once there are more partitions, or lower tuning.gap"
            + (" or evaluation.validation_partitions" if several else ""),
        )
    folds = min(room, tuning.folds)
    if folds < tuning.folds:
        log.warning("%s: %d folds instead of %d, for want of partitions", where, folds, tuning.folds)
    starts = [len(partitions) - predicted * number for number in range(folds, 0, -1)]
    return [_fold(partitions[: start - tuning.gap], partitions[start : start + predicted]) for start in starts]


def _fold(trained: Sequence[str], predicted: Sequence[str]) -> Fold:
    return Fold(trained=tuple(trained), validated=predicted[-1], window=tuple(predicted) if len(predicted) > 1 else ())


def encode_fold(job: TrainingJob, rows: TrainingRows, fold: Fold, trainer: Trainer, *, folder: Path) -> FoldData:
    """Encode a fold; of its training rows those whose label was known when the first predicted partition began.

    Args:
        job: whose rows.
        rows: those of the training set before the holdout.
        fold: which partitions.
        trainer: with the parameters of the spec.
        folder: for large temporary files; a folder of this fold alone.

    Raises:
        TrainingError: the rows of the fold cannot be trained on or judged.
    """
    known = iso(job.domain.partition(fold.predicted[0]).start)
    train = encode_rows(job, rows.only(list(fold.trained), known_until=known), trainer, folder=folder)
    matrix, target, _ = encode_more(job, rows.only(list(fold.predicted)), train.encoder, folder=folder)
    present = len(np.unique(target))
    metric = job.use_case.evaluation.metric
    wanted = train.classes if metric == "auc" else 1
    if present < wanted:
        raise TrainingError(
            f"{present} of {train.classes} classes in the rows of {fold.span}, so there is no {metric}",
            where=f"{job.where}.tuning",
            remedy=f"lower tuning.folds so that {'they are' if fold.window else 'it is'} not predicted"
            + (", or rank by evaluation.metric: log_loss" if train.problem == "multiclass" else ""),
        )
    return FoldData(fold=fold, train=train, matrix=matrix, target=target)
