from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from millrace.errors import SpecError
from millrace.spec import load_use_case
from millrace.training import check_params, list_trainers


@pytest.mark.parametrize(
    ("trainer", "params", "says", "remedy"),
    [
        ("xgboost", {"max_depht": 6}, "unknown key 'max_depht'", "did you mean 'max_depth'?"),
        ("lightgbm", {"num_leafs": 31}, "unknown key 'num_leafs'", "did you mean 'num_leaves'?"),
        ("torch", {"epoch": 3}, "unknown key 'epoch'", "did you mean 'epochs'?"),
        ("baseline", {"rounds": 3}, "unknown key 'rounds'", "known are: threads"),
        ("xgboost", {"rounds": 0}, "rounds", "correct 'rounds'"),
        ("lightgbm", {"learning_rate": 3}, "learning_rate", "correct 'learning_rate'"),
        ("torch", {"hidden": [64, 0]}, "hidden.1", "correct 'hidden.1'"),
        ("xgboost", {"threads": "many"}, "threads", "correct 'threads'"),
    ],
)
def test_a_wrong_parameter_is_named_with_the_nearest_right_one(
    trainer: str, params: dict[str, Any], says: str, remedy: str
) -> None:
    with pytest.raises(SpecError) as raised:
        check_params(trainer, params, where="use_cases/x.yaml: candidates.mine")
    assert says in raised.value.what
    assert remedy in raised.value.remedy
    assert raised.value.where == "use_cases/x.yaml: candidates.mine.params"


def test_an_unknown_trainer_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(SpecError, match="no trainer 'xgbost'") as raised:
        check_params("xgbost", {}, where="here")
    assert raised.value.remedy == "did you mean 'xgboost'?"


def test_threads_are_two_unless_said_otherwise() -> None:
    assert {check_params(name, {}, where="here").threads for name in list_trainers()} == {2}


@pytest.mark.parametrize("name", ["flight_delay", "flight_duration"])
def test_candidates_of_the_use_cases_that_ship_have_known_parameters(dags: Any, name: str) -> None:
    for candidate in load_use_case(dags, name).candidates.values():
        check_params(candidate.trainer, candidate.params, where=name)


def test_parameters_are_checked_without_importing_a_library() -> None:
    script = (
        "import sys; from millrace.training import check_params, list_trainers\n"
        "[check_params(name, {}, where='') for name in list_trainers()]\n"
        "print(sorted({'xgboost', 'lightgbm', 'torch', 'pandas', 'sklearn', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
