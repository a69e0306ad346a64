"""A study of Optuna in SQL: made or found, taken up after a kill, and read."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import socket
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from millrace.errors import StateUnavailableError
from millrace.spec.candidate import Choice, IntRange, SearchSpace
from millrace.training.tuning.search_space import Item, label_of, labels, value_of
from millrace.training.tuning.tune import LATE, Search, TrialRecord

HEARTBEAT_S, GRACE_S = 10, 60
UNTUNED, ERROR, CURVES, OWNER = "untuned", "error", "curves", "owner"
_ATTEMPTS = 5
_WHERE, _REMEDY = "the state database", "see that it runs and can be written to, then try again: done trials stand"
_ENDED: dict[TrialState, Literal["complete", "pruned", "failed"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def open_study(search: Search) -> optuna.Study:
    """The study of a search, made where it is not there.

    Raises:
        StateUnavailableError: the storage does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=open_storage(search.storage),
        study_name=search.study,
        direction=search.direction,
        sampler=make_sampler(search, 0),
        pruner=make_pruner(search),
        load_if_exists=True,
    )
    if not study.get_trials(deepcopy=False):
        with quiet():
            study.set_metric_names([search.metric])
    return study


def renew(study: optuna.Study, search: Search) -> optuna.Study:
    """A study all of whose proposals failed is begun anew: a full disk of then must not decide for ever."""
    trials = study.get_trials(deepcopy=False)
    lively = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    failed = any(trial.user_attrs.get(ERROR, LATE) != LATE for trial in trials)
    if not failed or any(trial.state in lively and UNTUNED not in trial.user_attrs for trial in trials):
        return study
    optuna.delete_study(study_name=search.study, storage=open_storage(search.storage))
    return open_study(search)


def enqueue_start(study: optuna.Study, search: Search) -> None:
    """Let the spec's own parameters be the first trial, where they are not one yet."""
    if not any(UNTUNED in trial.user_attrs for trial in study.get_trials(deepcopy=False)):
        start = {name: label_of(value) for name, value in search.start.items()}
        study.enqueue_trial(start, user_attrs={UNTUNED: True})


def copy_study(study: optuna.Study, search: Search) -> optuna.storages.InMemoryStorage:
    """The trials of a study that ended, in memory, with that of the spec's own parameters waiting if it is not one."""
    memory = optuna.storages.InMemoryStorage()
    copy = optuna.create_study(storage=memory, study_name=search.study, direction=search.direction)
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and (trial.state != TrialState.FAIL or ERROR in trial.user_attrs):
            copy.add_trial(trial)
    enqueue_start(copy, search)
    return memory


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Studies under a URL, one storage a process; a trial whose process is gone is taken up after a minute.

    Raises:
        StateUnavailableError: the storage does not answer.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _storage(url, os.getpid())
        except SQLAlchemyError as error:  # two tasks may make the tables at the same time
            if attempt + 1 == _ATTEMPTS:
                raise StateUnavailableError(f"studies cannot be kept: {error}", where=_WHERE, remedy=_REMEDY) from error
            time.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")


@functools.lru_cache(maxsize=2)
def _storage(url: str, process: int) -> optuna.storages.RDBStorage:
    local = url.startswith("sqlite")
    with quiet():
        storage = optuna.storages.RDBStorage(
            url,
            engine_kwargs={"connect_args": {"timeout": 60}} if local else None,
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=retry(),
        )
    if local:
        event.listen(storage.engine, "connect", _write_ahead)
        storage.engine.dispose()
    return storage


def _write_ahead(connection: Any, record: Any) -> None:
    """A study may lose its last trials with the machine's power, never its order: no wait for the disk a write."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


@contextlib.contextmanager
def reachable() -> Iterator[None]:
    """What the storage refuses in the middle of a search, in words.

    Raises:
        StateUnavailableError: it does not answer; what was told stands.
    """
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StateUnavailableError(f"the study broke off: {error}", where=_WHERE, remedy=_REMEDY) from error


def resume(study: optuna.Study, search: Search) -> Search:
    """Put trials back whose process on this machine is gone; the search with the seconds that were spent on it."""
    with quiet():
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_orphan(trial.user_attrs.get(OWNER, "")):
            study.tell(trial.number, state=TrialState.FAIL)
            with quiet():
                retry()(study, trial)
    spent = sum(_seconds(trial) for trial in study.get_trials(deepcopy=False, states=tuple(_ENDED)))
    return dataclasses.replace(search, spent_s=spent / search.parallel)


def is_open(study: optuna.Study, search: Search) -> bool:
    """Whether the budget leaves a trial; a study without any result has one in any case."""
    trials = study.get_trials(deepcopy=False)
    timely = search.seconds > 0 or not any(trial.state == TrialState.COMPLETE for trial in trials)
    return timely and taken(trials) < search.trials


def taken(trials: list[FrozenTrial]) -> int:
    """Trials that count: not those that wait, nor those that were broken off and wait again under another number."""
    return sum(
        trial.state != TrialState.WAITING and (trial.state != TrialState.FAIL or ERROR in trial.user_attrs)
        for trial in trials
    )


def make_sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """The sampler for one trial: seeded by its place, so that it does not matter which process asks."""
    seed = (search.seed * 1_000_003 + number) % 2**32
    if search.tuning.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with quiet():
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=search.parallel > 1)


def make_pruner(search: Search) -> optuna.pruners.BasePruner:
    """The pruner of a search; every trial is let through the first tenth of its first fold."""
    if search.tuning.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=search.steps)
    if search.tuning.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
    return optuna.pruners.NopPruner()


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space as Optuna's distributions."""
    return {name: _distribution(item) for name, item in space.items()}


def _distribution(item: Item) -> BaseDistribution:
    if isinstance(item, Choice):
        return CategoricalDistribution(labels(item))
    if isinstance(item, IntRange):
        return IntDistribution(item.low, item.high, log=item.log, step=item.step)
    return FloatDistribution(item.low, item.high, log=item.log, step=item.step)


def found_values(space: SearchSpace, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the spec from a trial's parameters."""
    return {name: value_of(space[name], value) for name, value in kept.items()}


def read_trials(study: optuna.Study, space: SearchSpace) -> list[TrialRecord]:
    """All trials that ended, without those that were broken off and tried again."""
    return [
        TrialRecord(
            number=trial.number,
            params=found_values(space, trial.params),
            value=trial.value if trial.state == TrialState.COMPLETE else None,
            state=_ENDED[trial.state],
            seconds=_seconds(trial),
            curves={
                name: [(int(step), float(value)) for step, value in points]
                for name, points in trial.user_attrs.get(CURVES, {}).items()
            },
            untuned=bool(trial.user_attrs.get(UNTUNED)),
            error=trial.user_attrs.get(ERROR, ""),
        )
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or ERROR in trial.user_attrs
    ]


def comparable(study: optuna.Study, names: Iterable[str]) -> optuna.Study:
    """A copy in memory with the trials that tell of every parameter."""
    copy, wanted = optuna.create_study(directions=study.directions, study_name=study.study_name), set(names)
    for trial in study.get_trials(deepcopy=False):
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and set(trial.params) == wanted:
            copy.add_trial(trial)
    return copy


def weigh(study: optuna.Study, space: SearchSpace) -> dict[str, float]:
    """Importance of each parameter by PED-ANOVA (Watanabe, Bansal, Hutter 2023); empty where too few trials tell."""
    known = comparable(study, space)
    if len({trial.value for trial in known.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}) < 2:
        return {}
    with quiet():
        found = optuna.importance.get_param_importances(
            known, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    return {name: float(share) for name, share in found.items()}


def retry() -> optuna.storages.RetryHeartbeatStaleTrialCallback:
    """What puts a trial that was broken off into the queue again."""
    with quiet():
        return optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=3)


def owner() -> str:
    """This process, among all machines."""
    return f"{socket.gethostname()}/{os.getpid()}/{_born(os.getpid())}"


def is_orphan(name: str) -> bool:
    """Whether a process ran on this machine and is gone."""
    host, _, rest = name.partition("/")
    pid, _, born = rest.partition("/")
    return host == socket.gethostname() and pid.isdigit() and _born(int(pid)) != born


def _born(pid: int) -> str:
    """When a process began, in ticks since the start of the machine; "" where there is none of that number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def quiet() -> warnings.catch_warnings[None]:
    """Leaves Optuna's words on what is experimental unsaid."""
    return warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning)


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration else 0.0
