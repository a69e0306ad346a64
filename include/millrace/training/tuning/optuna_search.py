"""Running the trials of a study in this process, one after the other or several sharing its cores."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import optuna
from optuna.trial import TrialState

from millrace.spec.candidate import Choice, IntRange
from millrace.training.run import StopFitError
from millrace.training.tuning import optuna_study as studies
from millrace.training.tuning.judge import Judging
from millrace.training.tuning.search_space import Item, labels
from millrace.training.tuning.tune import LATE, Search

log = logging.getLogger(__name__)
_FAILURES = 3
_POINTS = 50


class _PrunedError(StopFitError):
    """The pruner gave the trial up."""


class _LateError(StopFitError):
    """The minutes of the search are over."""


class _FailedError(Exception):
    """The trial failed; it is on record."""


def search_here(search: Search, judge: Judging, *, stop: Callable[[], bool]) -> None:
    """Run what the budget leaves; a fault in three trials, before any came to an end, is raised.

    Proposals come from a copy of the study in memory, and each trial is kept once it ended: one that was broken off
    left no trace, and is proposed again as it was.

    Raises:
        StopFitError: `stop` was true.
    """
    runner = _Runner(search, judge, stop)
    if search.parallel == 1:
        runner.work()
        return
    with ThreadPoolExecutor(search.parallel) as pool:
        try:
            for done in [pool.submit(runner.work) for _ in range(search.parallel)]:
                done.result()
        except BaseException:  # such as a time limit, raised here by a signal
            runner.end()
            raise


class _Runner:
    """The state that parallel trials share."""

    def __init__(self, search: Search, judge: Judging, stop: Callable[[], bool]) -> None:
        self.search, self.judge, self.asked = search, judge, stop
        self.until = monotonic() + search.seconds
        self.asking, self.keeping = threading.Lock(), threading.Lock()
        self.ended = threading.Event()
        self.working, self.left = 0, threading.Condition()
        self.kept = studies.open_study(search)
        self.memory = studies.copy_study(self.kept, search)

    def work(self) -> None:
        """Trial after trial until the budget is spent."""
        with self.left:
            self.working += 1
        try:
            study = optuna.load_study(
                study_name=self.search.study, storage=self.memory, pruner=studies.make_pruner(self.search)
            )
            while self._one(study):
                pass
        except BaseException:
            self.ended.set()
            raise
        finally:
            with self.left:
                self.working -= 1
                self.left.notify_all()

    def end(self) -> None:
        """End the trials and wait for them: a pool forgets a thread whose start was interrupted."""
        self.ended.set()
        with self.left:
            self.left.wait_for(lambda: self.working == 0)

    def _one(self, study: optuna.Study) -> bool:
        """One trial; False where the budget leaves none."""
        if self.asked() or self.ended.is_set():
            raise StopFitError("the search was asked to end")
        self.asking.acquire()
        trial = _Trial(self)
        try:
            trials = study.get_trials(deepcopy=False)
            if studies.taken(trials) >= self.search.trials or (self._late() and _any_complete(trials)):
                return False
            study.sampler = studies.make_sampler(self.search, studies.taken(trials))
            study.optimize(trial, n_trials=1)
        except _FailedError as error:
            trials = study.get_trials(deepcopy=False)
            if not _any_complete(trials) and studies.taken(trials) >= _FAILURES and error.__cause__ is not None:
                self._keep(study, trial)
                raise error.__cause__ from None
        finally:
            trial.let_others_ask()
        self._keep(study, trial)
        return True

    def _keep(self, study: optuna.Study, trial: _Trial) -> None:
        with self.keeping:
            self.kept.add_trial(study.get_trials(deepcopy=False)[trial.number])

    def _late(self) -> bool:
        return monotonic() >= self.until

    def ends(self) -> bool:
        """Whether a running trial shall end."""
        return self.asked() or self.ended.is_set()


class _Trial:
    """The objective of one trial; others may ask for theirs once it knows its parameters."""

    def __init__(self, runner: _Runner) -> None:
        self.runner, self._asking, self.number = runner, True, -1

    def let_others_ask(self) -> None:
        """Once."""
        if self._asking:
            self._asking = False
            self.runner.asking.release()

    def __call__(self, trial: optuna.Trial) -> float:
        search = self.runner.search
        self.number = trial.number
        params = propose(trial, search)
        late = _any_complete(trial.study.get_trials(deepcopy=False))
        self.let_others_ask()

        def report(step: int, loss: float) -> None:
            trial.report(search.sign * loss, step)
            if trial.should_prune():
                raise _PrunedError("the trial fell behind")

        def stop() -> bool:
            if late and monotonic() >= self.runner.until:
                raise _LateError(LATE)
            return self.runner.ends()

        try:
            judged = self.runner.judge(params, report=report, threads=search.threads_each, stop=stop)
        except _PrunedError as error:
            raise optuna.TrialPruned(str(error)) from error
        except _LateError as error:
            trial.set_user_attr(studies.ERROR, str(error))
            raise _FailedError from error
        except StopFitError:
            raise
        except Exception as error:
            trial.set_user_attr(studies.ERROR, str(error).partition("\n")[0][:500] or type(error).__name__)
            raise _FailedError from error
        trial.set_user_attr(studies.CURVES, {name: thinned(points) for name, points in judged.curves.items()})
        log.info("trial %d: %s %.5f with %s", trial.number, search.metric, judged.value, params or "the spec's own")
        return judged.value


def propose(trial: optuna.Trial, search: Search) -> dict[str, Any]:
    """Values for the parameters of the space; for the first trial only where the spec's own lie in it."""
    given = dict(search.space)
    if trial.user_attrs.get(studies.UNTUNED):
        given = {name: item for name, item in given.items() if name in search.start}
    kept = {name: _suggest(trial, name, item) for name, item in given.items()}
    return {} if trial.user_attrs.get(studies.UNTUNED) else studies.found_values(search.space, kept)


def _suggest(trial: optuna.Trial, name: str, item: Item) -> Any:
    if isinstance(item, Choice):
        return trial.suggest_categorical(name, labels(item))
    if isinstance(item, IntRange):
        return trial.suggest_int(name, item.low, item.high, step=item.step, log=item.log)
    return trial.suggest_float(name, item.low, item.high, step=item.step, log=item.log)


def _any_complete(trials: list[optuna.trial.FrozenTrial]) -> bool:
    return any(trial.state == TrialState.COMPLETE for trial in trials)


def thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most about `_POINTS` of a curve, the last one among them."""
    stride = max(-(-len(points) // _POINTS), 1)
    return points[::-1][::stride][::-1]
