"""The judge's worker: whatever becomes of a trial or of the worker itself, nobody waits for it for ever."""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from millrace.errors import TrainingError
from millrace.training.isolation.worker_process import Place
from millrace.training.run import go_on
from millrace.training.tuning.judge import Judge, TrialRun
from millrace.training.tuning.judge_process import JudgeProcess
from millrace.training.tuning.judge_worker import Channel, Trial

_POLLS = 500
_STRAY = """
import os, pathlib, signal, time
child = os.fork()
if child == 0:
    time.sleep(1000)
    os._exit(0)
pathlib.Path("child").write_text(str(child))
os.kill(os.getpid(), signal.SIGKILL)
"""


class PanicError(BaseException):
    """As libraries written in Rust raise."""


class Words:
    """A channel whose words stay here, as they would be written."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def tell(self, document: Any) -> None:
        self.told.append(json.loads(json.dumps(document)))


def has_ended(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_a_child_that_outlives_the_worker_keeps_nobody_waiting_and_is_ended_with_it(tmp_path: Path) -> None:
    package = tmp_path / "code" / "millrace" / "training" / "tuning"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "judge_worker.py").write_text(_STRAY)
    process = JudgeProcess(Place(python=Path(sys.executable), code=tmp_path, folder=tmp_path, store=tmp_path))
    asked = itertools.count()
    with pytest.raises(TrainingError, match="killed by SIGKILL"):
        process.await_ready(lambda: next(asked) > _POLLS)
    child, polls = int((tmp_path / "child").read_text()), itertools.count()
    while not has_ended(child) and next(polls) < _POLLS:
        time.sleep(0.2)
    assert has_ended(child)


def test_whatever_ends_a_trial_is_told(tmp_path: Path) -> None:
    def judge(params: Any, **options: Any) -> Any:
        raise PanicError("index out of bounds")

    judge.job = type("Job", (), {"where": "there"})()  # type: ignore[attr-defined]
    words = Words()
    Trial(0, tmp_path, cast(Channel, words)).run(cast(Judge, judge), {"params": {}, "threads": None})
    assert words.told[0]["failed"]["what"] == "index out of bounds"


def test_what_a_trainer_counts_with_numpy_is_told(tmp_path: Path) -> None:
    words = Words()
    trial = Trial(0, tmp_path, cast(Channel, words))
    trial.answers.put({"end": False})
    run = TrialRun(folder=tmp_path, stop=go_on, rounds=4, tell=trial._report)
    run.report(cast(int, np.int64(2)), {"watch_loss": np.float32(0.5)})
    words.tell(run.curves)
    assert words.told == [{"trial": 0, "step": 6, "loss": 0.5}, {"watch_loss": [[2, 0.5]]}]
