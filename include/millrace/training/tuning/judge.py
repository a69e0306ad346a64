"""What a trial is worth: its parameters fitted on every fold, and the use case's metric on the rows predicted there."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from millrace.errors import TrainingError
from millrace.package.predictor import load_model
from millrace.training.base import Trainer, TrainingData, Watch
from millrace.training.check import check_fit
from millrace.training.data.rows import TrainingRows
from millrace.training.job import TrainingJob
from millrace.training.params import TrainerParams
from millrace.training.registry import build_trainer
from millrace.training.run import Checkpoint, Curves, StopFitError, go_on
from millrace.training.tuning.fold import Fold, FoldData, encode_fold
from millrace.training.tuning.search_space import changes, merged

RUNGS = 10
"""How often a fit on one fold tells the pruner how it stands."""
_WATCHED = ("watch_", "recent_")

Report = Callable[[int, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSetup:
    """What a judge is made of, wherever it judges.

    Attributes:
        job: the candidate, with the parameters of the spec.
        rows: those before the holdout.
        folds: how they are split.
        folder: for rows and large temporary files.
        seed: of every fit.
        prunes: whether trials that fall behind are given up, so that losses are watched.
    """

    job: TrainingJob
    rows: TrainingRows
    folds: list[Fold]
    folder: Path
    seed: int
    prunes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The outcome of a trial.

    Attributes:
        value: the use case's metric, the mean over the folds.
        curves: `<partition>/<metric>` → (step, value), as the trainer reported them on each fold.
    """

    value: float
    curves: Curves


class Judging(Protocol):
    """Whatever says what parameters are worth: a `Judge` here, or one in another process."""

    def __call__(
        self,
        params: Mapping[str, Any],
        *,
        report: Report,
        threads: int | None = None,
        stop: Callable[[], bool] = go_on,
    ) -> Judged:
        """As `Judge.__call__`."""
        ...


class Score(Protocol):
    """The use case's metric on the rows predicted of a fold."""

    def __call__(
        self, fold: int, target: NDArray[np.float32], prediction: NDArray[np.float64], *, classes: int
    ) -> float:
        """The figure.

        Args:
            fold: its number.
            target: (n,) labels.
            prediction: (n,) or (n, classes), as the model gives it.
            classes: how many there are; 0 for a regression.
        """
        ...


@dataclass(slots=True)
class TrialRun:
    """The run of one fit of a trial: nothing is kept, and the pruner hears of it `RUNGS` times.

    Attributes:
        folder: for large temporary files.
        stop: True ends the fit.
        rounds: rounds or epochs the fit will take; 0 where the trainer has no such number.
        tell: takes the rung (from 0) and the loss; it may raise `StopFitError`.
        curves: what was reported.
    """

    folder: Path
    stop: Callable[[], bool]
    rounds: int
    tell: Report
    curves: Curves = field(default_factory=dict)
    _rung: int = 0

    def restore(self) -> Checkpoint | None:
        """None."""
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Nothing is kept.

        Raises:
            StopFitError: the trial shall end now.
        """
        self._end()

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the figures, and pass the loss on at each rung.

        Raises:
            StopFitError: the trial shall end now, or is given up.
        """
        for name, value in metrics.items():
            self.curves.setdefault(name, []).append((int(step), float(value)))
        self._end()
        rung = min((int(step) + 1) * RUNGS // self.rounds if self.rounds else int(step) + 1, RUNGS)
        if rung > self._rung and (loss := watched(metrics)) is not None:
            self._rung = rung
            self.tell(rung - 1, loss)

    def _end(self) -> None:
        if self.stop():
            raise StopFitError("the search was asked to end")


class Judge:
    """Judges parameters on folds that are encoded once. It can be pickled; caches of libraries stay behind."""

    def __init__(self, job: TrainingJob, data: list[FoldData], *, folder: Path, seed: int, prunes: bool) -> None:
        self.job, self.data, self.folder, self.seed, self.prunes = job, data, folder, seed, prunes
        self._caches: list[dict[Any, Any]] = [{} for _ in data]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_caches": [{} for _ in self.data]}

    def __call__(
        self,
        params: Mapping[str, Any],
        *,
        report: Report,
        threads: int | None = None,
        stop: Callable[[], bool] = go_on,
        score: Score | None = None,
    ) -> Judged:
        """Fit and judge.

        Args:
            params: what is searched for, over the parameters of the spec.
            report: told `RUNGS` times a fold where the search prunes: a step that counts through all folds, and the
                mean of the losses of the folds so far, less being better. It may raise `StopFitError`.
            threads: cores of the trial; by default those of the candidate.
            stop: True ends the trial.
            score: reckons the metric; by default scikit-learn here.

        Raises:
            StopFitError: `stop` was true, or `report` gave the trial up.
        """
        trainer = self.trainer(params, threads=threads)
        values: list[float] = []
        losses: list[float] = []
        curves: Curves = {}
        for number, data in enumerate(self.data):
            tell = _step_of(number, losses, report) if self.prunes else _ignore
            run = TrialRun(
                folder=self.folder / f"{threading.get_ident()}", stop=stop, rounds=rounds_of(trainer.params), tell=tell
            )
            values.append(self._value(trainer, number, data, run, score or self._score))
            curves |= {f"{data.fold.validated}/{name}": points for name, points in run.curves.items()}
            last = watched({name: points[-1][1] for name, points in run.curves.items()})
            losses.append(0.0 if last is None else last)
        value = float(np.mean(values))
        if math.isnan(value):  # a study would take it for a trial that was broken off, and try it for ever
            raise TrainingError(
                "the metric of the trial is no number",
                where=f"{self.job.where}.tuning",
                remedy="look at what the trainer predicts for the folds",
            )
        return Judged(value=value, curves=curves)

    def trainer(self, params: Mapping[str, Any], *, threads: int | None = None) -> Trainer:
        """The trainer of a trial; it keeps no checkpoints, for the study is what a search goes on from."""
        job = self.job
        values = job.values | changes(job.spec.params, params) | {"checkpoint_every": 0}
        return build_trainer(
            job.spec.trainer, values if threads is None else {**values, "threads": threads}, where=job.where
        )

    def _score(self, fold: int, target: NDArray[np.float32], prediction: NDArray[np.float64], *, classes: int) -> float:
        from millrace.training.estimator.sklearn_score import score_predictions

        return score_predictions(self.job.use_case.evaluation.metric, target, prediction, classes=classes)

    def _value(self, trainer: Trainer, number: int, data: FoldData, run: TrialRun, score: Score) -> float:
        use_case, train = self.job.use_case, self._given(number, data)
        fit = trainer.fit(train, seed=self.seed, run=run)
        check_fit(fit, where=f"{self.job.where}.trainer: {self.job.spec.trainer}")
        model = load_model(
            trainer.model.format,
            fit.content,
            encoder=train.encoder,
            problem=train.problem,
            threads=trainer.params.threads,
            classes=len(use_case.classes),
            trainer=self.job.spec.trainer,
        )
        return score(number, data.target, model.score(data.matrix), classes=train.classes)

    def _given(self, number: int, data: FoldData) -> TrainingData:
        watch = Watch(matrix=data.matrix, target=data.target) if self.prunes else None
        return dataclasses.replace(data.train, cache=self._caches[number], watch=watch)


def prepare_judge(setup: JudgeSetup) -> Judge:
    """A judge with its folds encoded."""
    job, folder = setup.job, setup.folder
    trainer = build_trainer(job.spec.trainer, merged(job.values, {"checkpoint_every": 0}), where=job.where)
    data = [
        encode_fold(job, setup.rows, fold, trainer, folder=folder / f"fold-{fold.validated}") for fold in setup.folds
    ]
    return Judge(job, data, folder=folder, seed=setup.seed, prunes=setup.prunes)


def rounds_of(params: TrainerParams) -> int:
    """Rounds or epochs that a trainer's parameters ask for; 0 where they have no such number."""
    return int(getattr(params, "rounds", 0) or getattr(params, "epochs", 0))


def watched(metrics: Mapping[str, float]) -> float | None:
    """The loss that a search looks at: on the rows to be predicted, else on those that early stopping keeps back."""
    for prefix in _WATCHED:
        for name, value in metrics.items():
            if name.startswith(prefix):
                return float(value)
    return None


def _step_of(number: int, losses: list[float], report: Report) -> Report:
    def tell(rung: int, loss: float) -> None:
        report(number * RUNGS + rung, (sum(losses) + loss) / (len(losses) + 1))

    return tell


def _ignore(rung: int, loss: float) -> None:
    """A search that does not prune wants to hear nothing."""
