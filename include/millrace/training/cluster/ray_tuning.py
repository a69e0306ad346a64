"""The trials of a study spread over a Ray cluster by Ray Tune; the study stays where all others are."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
import orjson
import ray
from optuna.trial import FrozenTrial, TrialState
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper

from millrace.engine import Engine, require_ray
from millrace.errors import EngineError
from millrace.training.run import StopFitError
from millrace.training.tuning import optuna_study as studies
from millrace.training.tuning.judge import Judge
from millrace.training.tuning.optuna_search import propose, thinned
from millrace.training.tuning.tune import LATE, Search

log = logging.getLogger(__name__)
_TRIES_MORE, _FAILURES, _BEAT_S = 2, 3, 10.0
_VALUE, _STEP, _CURVES, _FAULT = "value", "step", "curves", "fault"
_JUDGES: dict[str, Judge] = {}
"""The judge of a study, once in each process of Ray's: its folds are in the library's form only once."""


@dataclass(slots=True, kw_only=True)
class RaySpread:
    """Runs trials on Ray: each in a process with the cores of the use case's `compute`.

    Attributes:
        engine: the engine of the use case.
    """

    engine: Engine

    def __call__(self, search: Search, judge: Judge, *, stop: Callable[[], bool]) -> None:
        """Run what the budget leaves; afterwards the study holds the trials.

        A trial whose process died is tried again twice; trials that stop or a kill broke off wait in the study.

        Raises:
            SettingsError: the engine is not Ray.
            EngineError: the cluster was joined as a client, which cannot run Tune.
            StopFitError: `stop` was true.
        """
        engine = require_ray(self.engine, where="compute.engine")
        engine.start()
        if ray.util.client.ray.is_connected():
            raise EngineError(
                "trials cannot be spread over a cluster that was joined as a client",
                where=engine.address,
                remedy="write the head's own address, <host>:6379, in the connection's extra `address`",
            )
        study = studies.open_study(search)
        ledger = _Ledger(search, study)
        folder = tempfile.mkdtemp(prefix="millrace-tune-")
        cores = engine.cores
        try:
            self._tuner(search, judge, ledger, stop, folder=folder, cores=cores).fit()
        finally:
            stopped = stop()
            ledger.close(again=stopped)
            shutil.rmtree(folder, ignore_errors=True)
        if stopped:
            raise StopFitError("the search was asked to end")

    @staticmethod
    def _tuner(
        search: Search, judge: Judge, ledger: _Ledger, stop: Callable[[], bool], *, folder: str, cores: int
    ) -> tune.Tuner:
        attempt = tune.with_parameters(run_trial, judge=judge, study=search.study, threads=cores)
        return tune.Tuner(
            tune.with_resources(attempt, {"cpu": cores}),
            tune_config=tune.TuneConfig(
                search_alg=_StudySearch(ledger),
                scheduler=_StudyPruner(ledger),
                num_samples=-1,
                max_concurrent_trials=search.parallel,
                reuse_actors=True,
                trial_dirname_creator=_name_of,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=folder,
                stop=_End(ledger, stop),
                failure_config=tune.FailureConfig(max_failures=_TRIES_MORE),
                verbose=0,
            ),
        )


def run_trial(config: Mapping[str, Any], *, judge: Judge, study: str, threads: int) -> None:
    """One trial in a process of Ray's: the judge's verdict, or why there is none."""
    held = _JUDGES.setdefault(study, judge)

    def report(step: int, loss: float) -> None:
        tune.report({_VALUE: loss, _STEP: step})

    try:
        judged = held(orjson.loads(config["params"]), report=report, threads=threads)
    except Exception as error:
        log.exception("a trial failed")
        tune.report({_VALUE: 0.0, _FAULT: str(error).partition("\n")[0][:500] or type(error).__name__})
        return
    curves = {name: thinned(points) for name, points in judged.curves.items()}
    tune.report({_VALUE: judged.value, _CURVES: orjson.dumps(curves).decode()})


@dataclass(slots=True)
class _Ledger:
    """What Tune's parts know together of the trials of a study."""

    search: Search
    study: optuna.Study
    until: float = field(init=False)
    running: dict[str, optuna.Trial] = field(init=False, default_factory=dict)
    pruned: set[str] = field(init=False, default_factory=set)
    _beat_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.until = time.monotonic() + self.search.seconds

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # Tune writes down how to begin anew; the study is where that is written here

    def ask(self, trial_id: str) -> dict[str, Any] | None:
        """Parameters of another trial; None where the budget leaves none."""
        trials = self._trials()
        if studies.taken(trials) >= self.search.trials or self.late(trials):
            return None
        self.study.sampler = studies.make_sampler(self.search, studies.taken(trials))
        trial = self.study.ask()
        trial.set_user_attr(studies.OWNER, studies.owner())
        self.running[trial_id] = trial
        return propose(trial, self.search)

    def hear(self, trial_id: str, told: Mapping[str, Any]) -> bool:
        """A trial's loss so far; True where the pruner gives it up."""
        trial = self.running.get(trial_id)
        if trial is None or _STEP not in told:
            return False
        trial.report(self.search.sign * told[_VALUE], told[_STEP])
        if trial.should_prune():
            self.pruned.add(trial_id)
        return trial_id in self.pruned

    def tell(self, trial_id: str, told: Mapping[str, Any] | None) -> None:
        """How a trial ended."""
        trial = self.running.pop(trial_id, None)
        if trial is None:
            return
        if trial_id in self.pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif told is not None and _CURVES in told:
            trial.set_user_attr(studies.CURVES, orjson.loads(told[_CURVES]))
            self.study.tell(trial, told[_VALUE])
            log.info("trial %d: %s %.5f with %s", trial.number, self.search.metric, told[_VALUE], trial.params)
        elif told is None or _FAULT in told:
            trial.set_user_attr(studies.ERROR, told[_FAULT] if told else "its process on the cluster was lost")
            self.study.tell(trial, state=TrialState.FAIL)
        else:  # all were ended while it was running
            self.running[trial_id] = trial

    def late(self, trials: list[FrozenTrial]) -> bool:
        """Whether the minutes are over; a study without any result goes on to its first one."""
        return time.monotonic() >= self.until and any(trial.state == TrialState.COMPLETE for trial in trials)

    def ends(self) -> bool:
        """Whether no trial shall go on; tells the study meanwhile that those running are alive."""
        if time.monotonic() - self._beat_at < _BEAT_S / 5:
            return False
        self._beat_at, trials = time.monotonic(), self._trials()
        self._beat()
        states = [trial.state for trial in trials]
        hopeless = TrialState.COMPLETE not in states and states.count(TrialState.FAIL) >= _FAILURES
        return hopeless or self.late(trials)

    def close(self, *, again: bool) -> None:
        """Put the trials that were broken off back, or count them as those that the minutes ended."""
        for trial in self.running.values():
            if not again:
                trial.set_user_attr(studies.ERROR, LATE)
            self.study.tell(trial, state=TrialState.FAIL)
            if again:
                with studies.quiet():
                    studies.retry()(self.study, self._trials()[trial.number])
        self.running.clear()

    def _beat(self) -> None:
        storage = studies.open_storage(self.search.storage)
        study = storage.get_study_id_from_name(self.search.study)
        for trial in self.running.values():
            storage.record_heartbeat(storage.get_trial_id_from_study_id_trial_number(study, trial.number))

    def _trials(self) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self.study.get_trials(deepcopy=False)
        return found


class _StudySearch(Searcher):
    """Proposes what the study asks for. Ray's own search for Optuna would know neither its pruner nor its owner."""

    def __init__(self, ledger: _Ledger) -> None:
        super().__init__(metric=_VALUE, mode="min" if ledger.search.sign == 1 else "max")
        self._ledger = ledger

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Parameters of another trial."""
        params = self._ledger.ask(trial_id)
        return Searcher.FINISHED if params is None else {"params": orjson.dumps(params).decode()}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """The pruner has heard it."""

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study."""
        self._ledger.tell(trial_id, None if error else result or {})

    def save(self, checkpoint_path: str) -> None:
        """The study is all there is to keep."""

    def restore(self, checkpoint_path: str) -> None:
        """The study is all there is to keep."""


class _StudyPruner(FIFOScheduler):
    """Gives up the trials that the study's pruner gives up."""

    def __init__(self, ledger: _Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Stop or go on."""
        return FIFOScheduler.STOP if self._ledger.hear(trial.trial_id, result) else FIFOScheduler.CONTINUE


class _End(tune.Stopper):
    """Ends all trials when the task shall end, the minutes are over, or nothing works."""

    def __init__(self, ledger: _Ledger, stop: Callable[[], bool]) -> None:
        self._ledger, self._stop = ledger, stop

    def __reduce__(self) -> tuple[type[tune.Stopper], tuple[()]]:
        return NoopStopper, ()

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """No trial ends by its own figures."""
        return False

    def stop_all(self) -> bool:
        """Whether all shall end."""
        return self._stop() or self._ledger.ends()


def _name_of(trial: Any) -> str:
    return str(trial.trial_id)
