"""A judge in an environment of its own: folds are encoded and fitted there, study, pruner and metric stay here."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from millrace.training.isolation.environment import Environment
from millrace.training.isolation.worker_process import Place, error_of, own_code, prepare_place
from millrace.training.job import TrainingJob
from millrace.training.run import StopFitError, go_on
from millrace.training.tuning.judge import Judged, JudgeSetup, Report
from millrace.training.tuning.judge_process import GONE, JudgeProcess, Told, take
from millrace.training.tuning.judge_worker import SEARCH

log = logging.getLogger(__name__)


@contextmanager
def judge_isolated(
    setup: JudgeSetup, *, environment: Environment, stop: Callable[[], bool] = go_on
) -> Iterator[IsolatedJudge]:
    """A judge whose fits run in another environment, with the code that runs here; the process ends with the search.

    Args:
        setup: what it is made of.
        environment: what `build_environment` gave.
        stop: asked while folds are encoded; True ends that at once.

    Raises:
        SpecError, FeatureError, TrainingError: as `prepare_judge`; also where the process ends by itself.
        StopFitError: `stop` said so.
    """
    folder = setup.folder
    place = Place(python=environment.python, code=own_code(), folder=folder / "worker", store=folder)
    prepare_place(setup.job.to_bytes(), setup.rows, place)
    folds = [dataclasses.asdict(fold) for fold in setup.folds]
    (place.folder / SEARCH).write_bytes(
        json.dumps({"folds": folds, "seed": setup.seed, "prunes": setup.prunes}).encode()
    )
    judge = IsolatedJudge(setup.job, place, stop)
    try:
        judge.start()
        yield judge
    finally:
        judge.close()
        shutil.rmtree(place.folder, ignore_errors=True)


class IsolatedJudge:
    """Judges in a process that is started again where a trial brought it down; that trial then counts as failed."""

    def __init__(self, job: TrainingJob, place: Place, stop: Callable[[], bool]) -> None:
        self._job, self._place, self._stop = job, place, stop
        self._starting = threading.Lock()
        self._process: JudgeProcess | None = None

    def __call__(
        self,
        params: Mapping[str, Any],
        *,
        report: Report,
        threads: int | None = None,
        stop: Callable[[], bool] = go_on,
    ) -> Judged:
        """As `Judge.__call__`.

        Raises:
            MillraceError: what the trial failed with there.
            StopFitError: `stop` was true, or it or `report` gave the trial up.
        """
        return _Conversation(self._job, self._place.folder, report, stop).hold(self.start(), params, threads)

    def start(self) -> JudgeProcess:
        """The process, ready to judge; a new one where there is none that lives.

        Raises:
            MillraceError: the folds cannot be encoded there.
            StopFitError: the search was asked to end.
        """
        with self._starting:
            if self._process is None or self._process.gone:
                self.close()
                self._process = JudgeProcess(self._place)
                self._process.await_ready(self._stop)
            return self._process

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.close()


class _Conversation:
    """What is said about one trial until it ends."""

    def __init__(self, job: TrainingJob, folder: Path, report: Report, stop: Callable[[], bool]) -> None:
        self._job, self._folder, self._report, self._stop = job, folder, report, stop
        self._over: StopFitError | None = None

    def hold(self, process: JudgeProcess, params: Mapping[str, Any], threads: int | None) -> Judged:
        """Ask for a trial, and answer what is asked about it."""
        number, inbox = process.open()
        try:
            process.say({"trial": number, "params": dict(params), "threads": threads})
            while True:
                self._heed(process, number)
                told = take(inbox)
                if told is None:
                    continue
                if "loss" in told or "prediction" in told:
                    process.say({"answer": number, **self._answer(told)})
                    continue
                return self._outcome(process, told)
        except BaseException:
            process.say({"end": number})
            raise
        finally:
            process.forget(number)

    def _heed(self, process: JudgeProcess, number: int) -> None:
        """End everything where `stop` says so; end this trial alone where it raises."""
        try:
            if self._stop():
                raise _AllEndError("the search was asked to end")
        except _AllEndError:
            raise
        except StopFitError as error:
            if self._over is None:
                self._over = error
                process.say({"end": number})

    def _answer(self, told: Told) -> dict[str, Any]:
        value = None
        try:
            if self._over is None and "loss" in told:
                self._report(told["step"], told["loss"])
            elif self._over is None:
                value = self._value(told)
        except StopFitError as error:
            self._over = error
        return {"end": self._over is not None, "value": value}

    def _value(self, told: Told) -> float:
        from millrace.training.estimator.sklearn_score import score_predictions

        paths = [self._folder / told[part] for part in ("target", "prediction")]
        target, prediction = (np.load(path, allow_pickle=False) for path in paths)
        for path in paths:
            path.unlink()
        metric = self._job.use_case.evaluation.metric
        return score_predictions(metric, target, prediction, classes=told["classes"])

    def _outcome(self, process: JudgeProcess, told: Told) -> Judged:
        if self._over is not None:
            raise self._over
        if told is GONE:
            raise process.why()
        if "failed" in told:
            raise error_of(told["failed"])
        if "judged" not in told:
            raise StopFitError("the trial was ended")
        curves = {name: [(step, value) for step, value in points] for name, points in told["curves"].items()}
        return Judged(value=told["judged"], curves=curves)


class _AllEndError(StopFitError):
    """The whole search ends."""
