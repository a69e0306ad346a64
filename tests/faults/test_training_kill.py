"""Training, killed five times at random moments: it resumes, and ends in the package of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.training.boosting.boosted import SAMPLED

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
KILLS = 5
WORKER = """
import json, signal, sys, time
from pathlib import Path
from millrace.training import train_package
from millrace.training.run import FolderRun
from millrace.training.sample import make_job, make_use_case, training_rows

root, trainer, params, last = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])


class Telling(FolderRun):
    def restore(self):
        found = super().restore()
        print("from", found.done if found else 0, flush=True)
        return found

    def report(self, step, metrics):
        super().report(step, metrics)
        print("step", step, flush=True)
        time.sleep(0.03)
        while step >= last:
            signal.pause()


use_case = make_use_case("multiclass", {"one": {"trainer": trainer, "params": params}})
rows = training_rows(use_case, ["2020-01", "2020-02", "2020-03"], 1000)
run = Telling(folder=root / "run")
trained = train_package(make_job(use_case, "one", holdout="2020-04"), rows, store=root / "packages", run=run)
print(json.dumps({"digest": trained.package.digest, "curves": run.curves}), flush=True)
"""
PARAMS: dict[str, dict[str, Any]] = {
    "xgboost": {"rounds": 40, "checkpoint_every": 4, "early_stopping": 30, **SAMPLED["xgboost"]},
    "lightgbm": {"rounds": 40, "checkpoint_every": 4, "early_stopping": 30, **SAMPLED["lightgbm"]},
    "torch": {"epochs": 12, "checkpoint_every": 1, "early_stopping": 10, "batch_size": 256, "dropout": 0.1},
}


def start(root: Path, trainer: str, *, last: int = 10**6) -> subprocess.Popen[str]:
    """Begin or go on; at the last step it waits for its end."""
    command = [sys.executable, "-c", WORKER, str(root), trainer, json.dumps(PARAMS[trainer]), str(last)]
    quiet = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=quiet)


def finish(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """The step it went on from, and its last words."""
    try:
        out, _ = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 0, out
    lines = out.splitlines()
    return int(lines[0].split()[1]), json.loads(lines[-1])


def kill_in(process: subprocess.Popen[str], step: int, delay: float) -> None:
    """Kill it some moments after it told a step, or the first one after it."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("step") and int(line.split()[1]) >= step:
                break
        else:
            pytest.fail(f"it ended before step {step}")
        time.sleep(delay)
    finally:
        process.send_signal(signal.SIGKILL)
        ended = process.wait()
    assert ended == -signal.SIGKILL


@pytest.mark.parametrize("trainer", sorted(PARAMS))
def test_killed_five_times_training_ends_in_the_same_package(trainer: str, tmp_path: Path) -> None:
    begun, whole = finish(start(tmp_path / "whole", trainer))
    assert begun == 0
    chance = random.Random(f"{trainer} 5")
    last = max(step for step, _ in whole["curves"]["recent_loss"])
    for step in sorted(chance.sample(range(last - 3), KILLS)):
        kill_in(start(tmp_path / "killed", trainer, last=step + 2), step, chance.uniform(0, 0.06))
    begun, again = finish(start(tmp_path / "killed", trainer))
    assert begun > 0
    assert again == whole
