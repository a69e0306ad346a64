from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.errors import SpecError, TrainingError
from millrace.training import FolderRun, StopFitError, train_package
from millrace.training.isolation.environment import Environment, own_environment
from millrace.training.isolation.isolated import train_isolated

PARTITIONS = ["2020-01", "2020-02"]
LONG = {"rounds": 100_000, "max_depth": 2, "early_stopping": 100_000, "checkpoint_every": 20}


def case(**params: object) -> tuple[object, object]:
    use_case = make_use_case("binary", boosted={"trainer": "xgboost", "params": params})
    return make_job(use_case, "boosted", holdout="2020-03"), training_rows(use_case, PARTITIONS)


def test_a_worker_seals_the_bytes_that_this_process_seals(tmp_path: Path) -> None:
    job, rows = case(rounds=20, early_stopping=5)
    run = FolderRun(folder=tmp_path / "a run")
    there = train_isolated(job, rows, environment=own_environment(), store=tmp_path / "packages", run=run)
    here_run = FolderRun(folder=tmp_path / "here")
    here = train_package(job, rows, store=tmp_path / "packages", run=here_run)
    assert there.package.digest == here.package.digest
    assert there.metrics["train_rows"] == 800
    assert run.curves == here_run.curves
    assert run.curves
    assert not (run.folder / "worker").exists()


def test_what_a_library_prints_where_the_worker_speaks_is_left_aside(tmp_path: Path) -> None:
    job, rows = case(rounds=3)
    python = tmp_path / "python"
    python.write_text(f"""#!/bin/sh
echo hello; echo '[1]'; printf '\\377\\n'; exec '{sys.executable}' "$@"
""")
    python.chmod(0o755)
    chatty = replace(own_environment(), python=python)
    run = FolderRun(folder=tmp_path / "run")
    trained = train_isolated(job, rows, environment=chatty, store=tmp_path / "packages", run=run)
    assert trained.package.digest == train_package(job, rows, store=tmp_path / "packages").package.digest


def test_errors_of_the_worker_are_ours(tmp_path: Path) -> None:
    job, rows = case(rounds=20)
    wrong = job.use_case.model_copy(
        update={"candidates": {"boosted": job.spec.model_copy(update={"params": {"rouns": 3}})}}
    )
    run = FolderRun(folder=tmp_path / "run")
    with pytest.raises(SpecError, match="rouns") as caught:
        train_isolated(
            replace(job, use_case=wrong), rows, environment=own_environment(), store=tmp_path / "packages", run=run
        )
    assert caught.value.remedy
    with pytest.raises(TrainingError, match="3 rows"):
        train_isolated(job, rows.slice(0, 3), environment=own_environment(), store=tmp_path / "packages", run=run)


def test_an_interpreter_without_the_libraries_is_told_with_its_last_words(tmp_path: Path) -> None:
    import venv

    venv.create(tmp_path / "bare", with_pip=False)
    job, rows = case(rounds=2)
    bare = Environment(python=tmp_path / "bare" / "bin" / "python", digest="bare")
    with pytest.raises(TrainingError, match="No module named"):
        train_isolated(job, rows, environment=bare, store=tmp_path / "packages", run=FolderRun(folder=tmp_path / "run"))


class Pruner:
    """A run that ends the fit at a round."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.steps = folder, 0

    def restore(self) -> None:
        return None

    def save(self, checkpoint: object) -> None:
        return None

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self.steps += 1
        if step >= 5:
            raise StopFitError("pruned")


def test_a_run_that_gives_up_and_a_task_that_is_stopped_end_the_worker(tmp_path: Path) -> None:
    job, rows = case(**LONG)
    run = Pruner(tmp_path / "run")
    with pytest.raises(StopFitError):
        train_isolated(job, rows, environment=own_environment(), store=tmp_path / "packages", run=run)
    assert run.steps < 100
    other = FolderRun(folder=tmp_path / "other")
    with pytest.raises(StopFitError):
        train_isolated(
            job,
            rows,
            environment=own_environment(),
            store=tmp_path / "packages",
            run=other,
            stop=lambda: bool(other.curves),
        )
    assert 0 < max(map(len, other.curves.values())) < LONG["rounds"] / 2
    assert not running(tmp_path)


def running(folder: Path) -> list[str]:
    """Processes that were started with a path in this folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            told = place.read_bytes()
        except OSError:
            continue
        if b"millrace.training.worker" in told and os.fsencode(folder) in told:
            found.append(place.parent.name)
    return found


def wait_for(look: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not look():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def train_long(folder: Path) -> None:
    job, rows = case(**LONG)
    train_isolated(
        job, rows, environment=own_environment(), store=folder / "packages", run=FolderRun(folder=folder / "run")
    )


@pytest.mark.full
def test_the_worker_dies_with_the_task_and_the_next_one_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    task = multiprocessing.get_context("spawn").Process(target=train_long, args=(tmp_path,))
    task.start()
    checkpoints = tmp_path / "run" / "worker"
    wait_for(lambda: bool(list(checkpoints.glob("*.checkpoint"))))
    assert running(tmp_path)
    os.kill(int(task.pid or 0), signal.SIGKILL)
    task.join()
    wait_for(lambda: not running(tmp_path))

    done = max(int(path.stem) for path in checkpoints.glob("*.checkpoint"))
    assert done >= 20
    job, rows = case(**LONG)
    run = Pruner(tmp_path / "run")
    seen: list[int] = []
    run.report = lambda step, metrics: seen.append(step)  # type: ignore[method-assign]
    with pytest.raises(StopFitError):
        train_isolated(
            job,
            rows,
            environment=own_environment(),
            store=tmp_path / "packages",
            run=run,
            stop=lambda: bool(seen) and max(seen) >= done + 5,
        )
    assert seen[0] == 0
    assert seen[: done + 5] == list(range(done + 5))
