"""Searching for a candidate's parameters: a study that goes on where it was left, judged on later partitions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import orjson
import pyarrow as pa

from millrace.artifact import digest_of
from millrace.errors import SpecError, TrainingError
from millrace.spec.candidate import SearchSpace, TuningSpec
from millrace.training.data.rows import TrainingRows, as_rows
from millrace.training.isolation.lock import canonical_lock
from millrace.training.isolation.source import code_digest
from millrace.training.job import TrainingJob
from millrace.training.registry import build_trainer
from millrace.training.run import Curves, go_on
from millrace.training.tuning.fold import Fold, time_folds
from millrace.training.tuning.judge import Judge, JudgeSetup, Judging, prepare_judge
from millrace.training.tuning.search_space import changes, check_space, start_values

log = logging.getLogger(__name__)
_FORMAT = 1
LATE = "the minutes of the search are over"
"""Why a trial was broken off that is no fault of what it tried."""
_TELLING = 3
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a study is made of, and what is left to do in it.

    Attributes:
        study: its name, the same for equal inputs whatever the budget.
        storage: SQLAlchemy URL that studies live under.
        direction: whether more of the metric is better.
        metric: the use case's metric.
        space: what is searched.
        start: the trainer's own values where the space holds them: the first trial.
        tuning: budget, sampler and pruner.
        seed: of the proposals.
        threads: cores of all trials together.
        steps: how many steps a whole trial tells the pruner.
        spent_s: seconds that earlier tasks put into the study.
    """

    study: str
    storage: str
    direction: Direction
    metric: str
    space: SearchSpace
    start: Mapping[str, Any]
    tuning: TuningSpec
    seed: int
    threads: int
    steps: int
    spent_s: float = 0.0

    @property
    def trials(self) -> int:
        """Trials that the study may have at most."""
        return self.tuning.trials

    @property
    def parallel(self) -> int:
        """Trials at once."""
        return self.tuning.parallel

    @property
    def sign(self) -> int:
        """1 where less of the metric is better: what turns a loss into a figure of the study's direction."""
        return 1 if self.direction == "minimize" else -1

    @property
    def seconds(self) -> float:
        """Seconds that are left; not below 0."""
        return max(self.tuning.minutes * 60 - self.spent_s, 0.0)

    @property
    def threads_each(self) -> int:
        """Cores of one trial."""
        return max(self.threads // self.parallel, 1)


class OpenJudge(Protocol):
    """Makes what judges trials, for as long as a search lasts."""

    def __call__(self, setup: JudgeSetup) -> AbstractContextManager[Judging]:
        """As `prepare_judge`."""
        ...


class Spread(Protocol):
    """Runs the trials of a study somewhere else than in this process."""

    def __call__(self, search: Search, judge: Judge, *, stop: Callable[[], bool]) -> None:
        """Run what the budget leaves; afterwards the study holds the trials.

        Raises:
            StopFitError: `stop` was true.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial as people read it.

    Attributes:
        number: its place in the study.
        params: what was tried, by the names of the space; empty for the trainer's own values outside of it.
        value: the metric, the mean over the folds; None where it did not come to an end.
        state: how it ended.
        seconds: how long it took.
        curves: what its fits reported, `<partition>/<metric>`.
        untuned: whether it is the trial of the spec's own parameters.
        error: why it failed.
    """

    number: int
    params: Mapping[str, Any]
    value: float | None
    state: Literal["complete", "pruned", "failed"]
    seconds: float
    curves: Curves = field(default_factory=dict)
    untuned: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What a search found.

    Attributes:
        params: of the best trial, for `TrainingJob.params`; empty where the spec's own were not beaten.
        value: its metric, the mean over the folds.
        metric: name of the metric.
        untuned: the metric of the spec's own parameters; None where that trial did not come to an end.
        trials: all of them, in order.
        importance: share of each parameter in what makes good trials good; empty where too few tell.
        study: name of the study.
        folds: partitions trained on and predicted.
    """

    params: dict[str, Any]
    value: float
    metric: str
    untuned: float | None
    trials: list[TrialRecord]
    importance: dict[str, float]
    study: str
    folds: list[Fold]

    @property
    def best(self) -> TrialRecord:
        """The trial whose parameters these are: the first of that value."""
        return next(trial for trial in self.trials if trial.value == self.value)


def tune(
    job: TrainingJob,
    rows: pa.Table | TrainingRows,
    *,
    storage: str,
    folder: Path,
    seed: int,
    stop: Callable[[], bool] = go_on,
    spread: Spread | None = None,
    judging: OpenJudge | None = None,
) -> Tuned:
    """Search for the parameters of a candidate until its budget of trials or minutes is spent.

    The study's name hangs on all that its values hang on, but not on the budget: a task that was killed, or a larger
    budget, goes on where the study was left. With one trial at a time and a budget of trials, equal inputs give equal
    trials, also after a kill.

    Args:
        job: the candidate; its `params` hold for what is not searched.
        rows: rows before the holdout in time order.
        storage: SQLAlchemy URL that studies live under.
        folder: for large temporary files.
        seed: of the proposals and of every fit.
        stop: True ends the search; the trial that was running is tried again next time.
        spread: where the trials run, if not here.
        judging: makes what judges them, if not this process; trials are then proposed here.

    Raises:
        SpecError: the candidate has no tuning, or its space is not one of the trainer.
        TrainingError: there are too few partitions, no trial came to an end, or every proposed one failed.
        StateUnavailableError: the storage does not answer.
        StopFitError: `stop` was true.
    """
    from millrace.training.tuning import optuna_search, optuna_study

    started, rows = time.perf_counter(), as_rows(rows)
    search, folds = plan_search(job, rows, storage=storage, seed=seed)
    with optuna_study.reachable():
        study = optuna_study.renew(optuna_study.open_study(search), search)
        search = optuna_study.resume(study, search)
        if optuna_study.is_open(study, search):
            prunes = search.tuning.pruner != "none"
            setup = JudgeSetup(job=job, rows=rows, folds=folds, folder=folder, seed=seed, prunes=prunes)
            if judging is not None:
                with judging(setup) as there:
                    optuna_search.search_here(search, there, stop=stop)
            else:
                if spread is not None:
                    optuna_study.enqueue_start(study, search)
                (spread or optuna_search.search_here)(search, prepare_judge(setup), stop=stop)
        trials = optuna_study.read_trials(study, search.space)
        importance = optuna_study.weigh(study, search.space)
    best = _best(trials, search)
    _check_proposals(trials, where=job.where)
    log.info(
        "%s: best of %d trials is %s %.5f, in %.1f s",
        job.where, len(trials), search.metric, best.value, time.perf_counter() - started,
    )  # fmt: skip
    return Tuned(
        params={} if best.untuned else changes(job.spec.params, best.params),
        value=float(best.value or 0.0),
        metric=search.metric,
        untuned=next((item.value for item in trials if item.untuned and item.value is not None), None),
        trials=trials,
        importance=importance,
        study=search.study,
        folds=folds,
    )


def plan_search(job: TrainingJob, rows: TrainingRows, *, storage: str, seed: int) -> tuple[Search, list[Fold]]:
    """The search of a job on rows, as if nothing were done, and its folds.

    Raises:
        SpecError: the candidate has no tuning, or its space is not one of the trainer.
        TrainingError: there are too few partitions.
    """
    tuning = job.spec.tuning
    if tuning is None:
        raise SpecError("the candidate has no `tuning`", where=job.where, remedy="say what to search, or train it")
    check_space(job.spec, where=job.where)
    trainer = build_trainer(job.spec.trainer, job.values, where=job.where)
    evaluation = job.use_case.evaluation
    metric, predicted = evaluation.metric, evaluation.validated
    stops = getattr(trainer.params, "early_stopping", 0) or "early_stopping" in tuning.space
    needed = predicted + 1 if stops else 1
    folds = time_folds(rows.partitions, tuning, needed=needed, predicted=predicted, where=job.where)
    library = f"{trainer.library.name} {trainer.library.version}"
    if job.lock:
        library = digest_of(canonical_lock(job.lock))
    search = Search(
        study=f"{job.use_case.name}.{job.candidate}.{_inputs(job, rows, folds, library, seed)[:16]}",
        storage=storage,
        direction="maximize" if metric == "auc" else "minimize",
        metric=metric,
        space=tuning.space,
        start=start_values(tuning.space, trainer.params),
        tuning=tuning,
        seed=seed,
        threads=trainer.params.threads,
        steps=len(folds) * 10,
    )
    return search, folds


def _inputs(job: TrainingJob, rows: TrainingRows, folds: list[Fold], library: str, seed: int) -> str:
    """Digest of all that the values of trials hang on."""
    use_case, spec = orjson.loads(job.to_bytes())["use_case"], job.spec.model_dump(mode="json")
    searched = {name: spec[name] for name in ("trainer", "class_weight", "monotone")}
    return digest_of(
        {
            "format": _FORMAT,
            "problem": {name: use_case[name] for name in ("problem", "classes", "label", "features")},
            "metric": job.use_case.evaluation.metric,
            "candidate": {**searched, "params": job.values, "space": spec["tuning"]["space"]},
            "functions": dict(job.functions),
            "folds": [fold.described() for fold in folds],
            "rows": rows.digest,
            "library": library,
            "code": code_digest(job.spec.trainer),
            "seed": seed,
        }
    )


def _best(trials: list[TrialRecord], search: Search) -> TrialRecord:
    complete = [item for item in trials if item.value is not None]
    if not complete:
        failed = [item.error for item in trials if item.error]
        raise TrainingError(
            f"none of {len(trials)} trials came to an end" + (f"; the last one: {failed[-1]}" if failed else ""),
            where=search.study,
            remedy="correct tuning.space, or give tuning.minutes more",
        )
    return min(complete, key=lambda item: (search.sign * float(item.value or 0.0), item.number))


def _check_proposals(trials: list[TrialRecord], *, where: str) -> None:
    """A search in which all but the spec's own parameters failed found nothing, and says so."""
    proposed = [item for item in trials if not item.untuned]
    failed = [item for item in proposed if item.state == "failed" and item.error != LATE]
    if not failed or any(item.state != "failed" for item in proposed):
        return
    what = f"all {len(failed)} proposed trials failed; the first one, {dict(failed[0].params)}: {failed[0].error}"
    if len(failed) >= _TELLING:
        raise TrainingError(what, where=f"{where}.tuning.space", remedy="correct tuning.space; see the task's log")
    log.warning("%s: %s; the spec's own parameters are taken", where, what)
