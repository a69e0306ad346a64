"""A boosted fit in segments: begun anew from the bytes so far at each, whether or not it was killed in between.

A booster that goes on in memory and one that was read back differ, where rows or columns are sampled by much. So an
undisturbed fit, too, writes its bytes every `checkpoint_every` rounds, reads them again and takes the segment's seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import orjson

from millrace.artifact import canonical
from millrace.errors import TrainingError
from millrace.training.base import Fit
from millrace.training.params import LightGBMParams, XGBoostParams
from millrace.training.run import Checkpoint, FitRun

TOLD_EVERY = 10
"""Rounds between two reports of the loss on the training rows, which costs a look at each of them."""


class After(Protocol):
    """What a library's loop calls after each round."""

    def __call__(self, rounds: int, losses: Mapping[str, float], train_loss: Callable[[], float]) -> bool:
        """Take note of a round; True where it was the last one.

        Args:
            rounds: rounds that the model has now.
            losses: `recent` and `watch`, where these rows are looked at.
            train_loss: computes the loss on the training rows.

        Raises:
            StopFitError: the run wants the fit to end.
        """
        ...


class Boost(Protocol):
    """One segment, by a library."""

    def __call__(self, model: bytes, *, rounds: int, seed: int, after: After) -> bytes:
        """The model after more rounds; `model` is empty where it begins."""
        ...


@dataclass(slots=True)
class Progress:
    """What is behind a fit between two segments.

    Attributes:
        done: rounds.
        rounds: rounds that the model has; fewer where the library found nothing to split in one.
        train_loss: loss on the training rows when it was last computed.
        best: least loss on the recent rows.
        best_done: rounds it came after.
        best_rounds: rounds that the model had then.
    """

    done: int = 0
    rounds: int = 0
    train_loss: float = math.inf
    best: float = math.inf
    best_done: int = 0
    best_rounds: int = 0

    def exhausted(self, patience: int) -> bool:
        """Whether the recent rows gained nothing for as many rounds."""
        return 0 < patience <= self.done - self.best_done


@dataclass(slots=True)
class _Segment:
    """Notes the rounds of one segment, up to round `end`."""

    progress: Progress
    patience: int
    end: int
    run: FitRun

    def __call__(self, rounds: int, losses: Mapping[str, float], train_loss: Callable[[], float]) -> bool:
        progress = self.progress
        progress.done, progress.rounds = progress.done + 1, rounds
        told = {f"{name}_loss": _checked(loss, name, progress.done) for name, loss in losses.items()}
        if self.patience and losses["recent"] < progress.best:
            progress.best, progress.best_done, progress.best_rounds = losses["recent"], progress.done, rounds
        last = progress.exhausted(self.patience) or progress.done == self.end
        if last or progress.done % TOLD_EVERY == 0:
            progress.train_loss = told["train_loss"] = _checked(train_loss(), "training", progress.done)
        self.run.report(progress.done - 1, told)
        return last


def boost_in_segments(
    boost: Boost,
    cut: Callable[[bytes, int], bytes],
    params: XGBoostParams | LightGBMParams,
    *,
    seed: int,
    run: FitRun,
) -> Fit:
    """All rounds that are left, as many as asked for or until the recent rows gain no more.

    Args:
        boost: one segment.
        cut: the model's first rounds.
        params: how many rounds, how long a segment, how much patience.
        seed: of the first segment; the others have seeds made of it.
        run: keeps a checkpoint after each segment.

    Raises:
        TrainingError: a loss is no number any more.
        StopFitError: the run wants the fit to end.
    """
    patience, every = params.early_stopping, params.checkpoint_every
    progress, model = _restored(run)
    while progress.done < params.rounds and not progress.exhausted(patience):
        start = progress.done
        end = min(params.rounds, start + every) if every else params.rounds
        segment = _Segment(progress, patience, end, run)
        model = boost(model, rounds=end - start, seed=segment_seed(seed, start), after=segment)
        if every:
            run.save(Checkpoint(done=progress.done, content=_packed(progress, model)))
    metrics = {"train_loss": progress.train_loss}
    if not patience:
        return Fit(content=model, facts={"rounds": progress.rounds}, metrics=metrics)
    return Fit(
        content=cut(model, progress.best_rounds),
        facts={"rounds": progress.best_rounds},
        metrics={**metrics, "recent_loss": progress.best},
    )


def segment_seed(seed: int, start: int) -> int:
    """Seed of the segment that begins after `start` rounds; that of the first is the seed of the fit."""
    if not start:
        return seed
    return int(np.random.SeedSequence([seed % 2**63, start]).generate_state(1)[0] >> 1)


def _packed(progress: Progress, model: bytes) -> bytes:
    return canonical(asdict(progress)) + b"\n" + model


def _restored(run: FitRun) -> tuple[Progress, bytes]:
    checkpoint = run.restore()
    if checkpoint is None:
        return Progress(), b""
    head, _, model = checkpoint.content.partition(b"\n")
    plain: dict[str, Any] = {name: math.inf if value is None else value for name, value in orjson.loads(head).items()}
    return Progress(**plain), model


def _checked(loss: float, rows: str, done: int) -> float:
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss on the {rows} rows is {loss} after {done} rounds",
            where="training",
            remedy="lower learning_rate, or bring labels into a range that float32 can square",
        )
    return float(loss)
