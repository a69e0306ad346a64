"""Tuning in an environment of its own: the same study as in this process, whatever happens to the worker."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.errors import TrainingError
from millrace.training import StopFitError, TrainingJob
from millrace.training.data.rows import as_rows
from millrace.training.isolation.environment import own_environment
from millrace.training.tuning.isolated_judge import IsolatedJudge, judge_isolated
from millrace.training.tuning.tune import LATE, Tuned, plan_search, tune

MONTHS = ["2020-01", "2020-02", "2020-03"]
SPACE: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 0.02, "high": 0.5, "log": True},
    "max_depth": {"type": "int", "low": 2, "high": 8},
}


def make(params: Any = None, problem: str = "binary", **tuning: Any) -> TrainingJob:
    given = {"rounds": 12, "threads": 1} if params is None else params
    spec = {"space": SPACE, "trials": 8, "folds": 2, "pruner": "median", **tuning}
    use_case = make_use_case(problem, mine={"trainer": "xgboost", "params": given, "tuning": spec})
    return make_job(use_case, "mine", holdout="2020-04")


def rows_of(job: TrainingJob) -> pa.Table:
    return training_rows(job.use_case, MONTHS, 150)


def search(job: TrainingJob, folder: Path, *, stop: Callable[[], bool] = lambda: False, here: bool = False) -> Tuned:
    folder.mkdir(exist_ok=True)
    judging = None if here else partial(judge_isolated, environment=own_environment())
    url = f"sqlite:///{folder}/state.db"
    return tune(job, rows_of(job), storage=url, folder=folder, seed=7, stop=stop, judging=judging)


def outline(tuned: Tuned) -> list[Any]:
    return [(item.params, item.value, item.state, item.curves) for item in tuned.trials]


def workers(folder: Path) -> list[int]:
    """Ids of the workers that were started with a folder below this one."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            told = place.read_bytes()
        except OSError:
            continue
        if b"judge_worker" in told and os.fsencode(folder) in told:
            found.append(int(place.parent.name))
    return found


def test_a_search_there_is_trial_for_trial_the_search_here(tmp_path: Path) -> None:
    rates = {"learning_rate": {"type": "categorical", "choices": [0.3, 0.25, 0.35, 0.28, 0.001, 0.002]}}
    job = make(space=rates, trials=10, sampler="random")
    here, there = search(job, tmp_path / "here", here=True), search(job, tmp_path / "there")
    assert outline(here) == outline(there)
    assert (here.params, here.value, here.untuned, here.study) == (
        there.params,
        there.value,
        there.untuned,
        there.study,
    )
    assert {item.state for item in there.trials} == {"complete", "pruned"}
    assert not list((tmp_path / "there").glob("worker"))
    assert not workers(tmp_path)


def test_a_lock_makes_a_study_of_its_own_whose_name_no_comment_changes() -> None:
    job = make(trials=1)
    locks = ("", "numpy==1.0\n", "# for us\nnumpy==1.0\n", "numpy==1.1\n")
    rows = as_rows(rows_of(job))
    names = [plan_search(dataclasses.replace(job, lock=lock), rows, storage="", seed=7)[0].study for lock in locks]
    assert names[1] == names[2]
    assert len(set(names)) == 3


@pytest.mark.full
def test_trials_at_once_share_one_worker(tmp_path: Path) -> None:
    seen: list[int] = []

    def stop() -> bool:
        seen.append(len(workers(tmp_path)))
        return False

    found = search(make({"rounds": 12, "threads": 2}, trials=6, parallel=2, pruner="none"), tmp_path, stop=stop)
    assert [item.state for item in found.trials] == ["complete"] * 6
    assert max(seen) == 1


@pytest.mark.full
def test_a_search_that_was_stopped_ends_its_worker_and_goes_on_where_it_was(tmp_path: Path) -> None:
    job = make(trials=5, pruner="none")
    expected = search(job, tmp_path / "whole", here=True)
    asked = itertools.count()
    with pytest.raises(StopFitError):
        search(job, tmp_path / "killed", stop=lambda: next(asked) > 9)
    assert not workers(tmp_path)
    assert outline(search(job, tmp_path / "killed")) == outline(expected)


@pytest.mark.full
def test_a_trial_that_brings_the_worker_down_is_one_failed_trial(tmp_path: Path) -> None:
    job = make({"rounds": 5, "threads": 1}, trials=4, pruner="none")
    whole = search(job, tmp_path / "whole", here=True)
    asked = itertools.count()

    def stop() -> bool:
        if next(asked) == 1:  # asked before the first trial, then during it
            os.kill(workers(tmp_path)[0], signal.SIGKILL)
        return False

    found = search(job, tmp_path / "run", stop=stop)
    assert "killed by SIGKILL" in found.trials[0].error
    assert [item.state for item in found.trials] == ["failed", "complete", "complete", "complete"]
    assert found.trials[1].params == whole.trials[1].params


@pytest.mark.full
def test_what_a_fold_or_every_trial_fails_with_there_is_raised_here(tmp_path: Path) -> None:
    job = make(trials=5)
    rows = rows_of(job)
    one_class = rows.set_column(rows.column_names.index("label"), "label", pa.array([1.0] * len(rows)))
    judging = partial(judge_isolated, environment=own_environment())
    with pytest.raises(TrainingError, match="class"):
        tune(job, one_class, storage=f"sqlite:///{tmp_path}/a.db", folder=tmp_path, seed=7, judging=judging)
    broken = make({"rounds": 5, "threads": 1}, space={"max_bin": {"type": "categorical", "choices": [1]}}, trials=4)
    with pytest.raises(Exception, match=r"max_bins?"):
        search(broken, tmp_path / "b")
    assert not workers(tmp_path)


@pytest.mark.full
def test_minutes_that_are_over_end_a_trial_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make({"rounds": 40, "threads": 1}, trials=4, pruner="none")
    over = threading.Event()
    clock = "millrace.training.tuning.optuna_search.monotonic"
    monkeypatch.setattr(clock, lambda: float("inf") if over.is_set() else 0.0)
    judged = IsolatedJudge.__call__

    def late(judge: IsolatedJudge, params: Any, **options: Any) -> Any:
        if params:
            over.set()
        return judged(judge, params, **options)

    monkeypatch.setattr(IsolatedJudge, "__call__", late)
    found = search(job, tmp_path)
    assert [item.error for item in found.trials] == ["", LATE]


def test_a_time_limit_raised_here_ends_the_trials_that_run_at_once(tmp_path: Path) -> None:
    stopped: list[bool] = []
    begun = itertools.count()

    def judge(params: Any, *, report: Any, threads: Any = None, stop: Callable[[], bool]) -> Any:
        if next(begun) == 0:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        polls = itertools.count()
        while not stop():
            if next(polls) > 300:
                raise TrainingError("nobody ended the trial")
            time.sleep(0.1)
        stopped.append(True)
        raise StopFitError("ended")

    def limit(*_: Any) -> None:
        raise TimeoutError("the task took too long")

    before = signal.signal(signal.SIGUSR1, limit)
    job = make({"rounds": 5, "threads": 2}, trials=4, parallel=2, pruner="none")
    try:
        with pytest.raises(TimeoutError):
            tune(
                job,
                rows_of(job),
                storage=f"sqlite:///{tmp_path}/state.db",
                folder=tmp_path,
                seed=7,
                judging=lambda *_, **__: nullcontext(judge),
            )
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert stopped
