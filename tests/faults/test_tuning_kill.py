"""A search, killed in the middle of a trial: started again it goes on, and ends in the trials of one left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.training.tuning.tune import Tuned, tune

ROOT = Path(__file__).parents[2]
TRIALS = 7
WORKER = """
import logging, sys
from pathlib import Path
from tests.faults.test_tuning_kill import search

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
search(Path(sys.argv[1]))
"""


def search(folder: Path) -> Tuned:
    folder.mkdir(exist_ok=True)
    space = {
        "learning_rate": {"type": "float", "low": 0.02, "high": 0.5, "log": True},
        "max_depth": {"type": "int", "low": 2, "high": 8},
    }
    tuning = {"space": space, "trials": TRIALS, "folds": 2, "pruner": "none"}
    params = {"rounds": 40, "threads": 1}
    use_case = make_use_case(mine={"trainer": "xgboost", "params": params, "tuning": tuning})
    job = make_job(use_case, "mine", holdout="2020-04")
    rows = training_rows(use_case, ["2020-01", "2020-02", "2020-03"], 500)
    return tune(job, rows, storage=f"sqlite:///{folder}/state.db", folder=folder, seed=5)


def outline(tuned: Tuned) -> list[Any]:
    return [(item.params, item.value, item.state) for item in tuned.trials]


@pytest.mark.full
@pytest.mark.parametrize("done", [0, 2, 5])
def test_a_killed_search_ends_in_the_trials_of_one_left_alone(tmp_path: Path, done: int) -> None:
    expected = search(tmp_path / "whole")
    folder = tmp_path / "killed"
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(f"trial {done}:"):
                break
        process.send_signal(signal.SIGKILL)
    found = search(folder)
    assert outline(found) == outline(expected)
    assert found.params == expected.params
    assert found.study == expected.study
