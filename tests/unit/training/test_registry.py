from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from millrace.errors import SpecError
from millrace.spec import CandidateSpec, load_use_case
from millrace.training import check_params, list_trainers
from millrace.training.params import SklearnParams, given_params
from millrace.training.registry import check_candidate

_RIDGE = "linear_model.Ridge"
_LOGISTIC = {"estimator": "linear_model.LogisticRegression"}


@pytest.mark.parametrize(
    ("trainer", "params", "says", "remedy"),
    [
        ("xgboost", {"max_depht": 6}, "unknown key 'max_depht'", "did you mean 'max_depth'?"),
        ("lightgbm", {"num_leafs": 31}, "unknown key 'num_leafs'", "did you mean 'num_leaves'?"),
        ("torch", {"epoch": 3}, "unknown key 'epoch'", "did you mean 'epochs'?"),
        ("baseline", {"rounds": 3}, "unknown key 'rounds'", "known are: threads"),
        ("sklearn", {}, "key 'estimator' is missing", "add 'estimator'"),
        (
            "sklearn",
            {"estimator": "linear_model.Rigde"},
            "no estimator 'linear_model.Rigde'",
            "did you mean 'linear_model.R",
        ),
        ("sklearn", {"estimator": "os.system"}, "no estimator 'os.system' on the list", "name one of"),
        ("sklearn", {"estimator": _RIDGE, "settings": {"random_state": 3}}, "['random_state']", "correct"),
        ("sklearn", {"estimator": _RIDGE, "settings.n_jobs": 3}, "['n_jobs']", "correct"),
        ("sklearn", {"estimator": _RIDGE, "early_stopping": 3}, "no early stopping", "correct"),
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
    given: dict[str, dict[str, Any]] = {"sklearn": {"estimator": _RIDGE}}
    assert {check_params(name, given.get(name, {}), where="here").threads for name in list_trainers()} == {2}


@pytest.mark.parametrize("name", ["flight_delay", "flight_duration"])
def test_candidates_of_the_use_cases_that_ship_have_known_parameters(dags: Any, name: str) -> None:
    for candidate in load_use_case(dags, name).candidates.values():
        check_params(candidate.trainer, candidate.params, where=name)


def test_parameters_are_checked_without_importing_a_library() -> None:
    script = (
        "import sys; from millrace.training import check_params, list_trainers\n"
        "[check_params(name, {}, where='') for name in list_trainers() if name != 'sklearn']\n"
        "check_params('sklearn', {'estimator': 'linear_model.Ridge'}, where='')\n"
        "print(sorted({'xgboost', 'lightgbm', 'torch', 'pandas', 'sklearn', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("problem", "candidate", "weighted", "says", "at"),
    [
        ("binary", {"trainer": "torch", "monotone": {"age": "increasing"}}, False, "no monotone features", "monotone"),
        ("binary", {"trainer": "baseline", "workers": 2}, False, "several workers", "workers"),
        ("binary", {"trainer": "lightgbm", "resources": {"gpu": 1}}, False, "graphics card", "resources.gpu"),
        ("binary", {"trainer": "lightgbm", "params": {"device": "cuda"}}, False, "graphics card", "params.device"),
        (
            "binary",
            {"trainer": "sklearn", "params": {"estimator": "neighbors.KNeighborsClassifier"}},
            True,
            "label.weight",
            "trainer",
        ),
        (
            "binary",
            {
                "trainer": "sklearn",
                "params": {"estimator": "neighbors.KNeighborsClassifier"},
                "class_weight": "balanced",
            },
            False,
            "weights of classes",
            "class_weight",
        ),
        ("regression", {"trainer": "sklearn", "params": _LOGISTIC}, False, "cannot learn a regression", "trainer"),
        ("multiclass", {"trainer": "sklearn", "params": {"estimator": _RIDGE}}, False, "it learns: reg", "trainer"),
        (
            "binary",
            {"trainer": "sklearn", "params": {**_LOGISTIC, "settings": {"c": 1}}},
            False,
            "no parameter 'c'",
            "params.settings",
        ),
    ],
)
def test_what_a_trainer_has_not_is_refused_at_its_place(
    problem: str, candidate: dict[str, Any], weighted: bool, says: str, at: str
) -> None:
    spec = CandidateSpec.model_validate(candidate)
    with pytest.raises(SpecError) as raised:
        check_candidate(spec, problem, where="here", weighted=weighted)
    assert says in f"{raised.value.what} {raised.value.remedy}"
    assert raised.value.where == f"here.{at}"


def test_cores_and_device_come_from_the_resources_where_params_do_not_name_them() -> None:
    resources = {"cpu": 3, "gpu": 1}
    spec = CandidateSpec.model_validate({"trainer": "torch", "resources": resources})
    assert given_params(spec) == {"threads": 3, "device": "cuda"}
    named = {"threads": 1, "device": "cpu", "epochs": 2}
    spec = CandidateSpec.model_validate({"trainer": "torch", "resources": resources, "params": named})
    assert given_params(spec) == named


def test_a_setting_of_an_estimator_may_be_named_with_a_dot_as_a_search_space_does() -> None:
    values = {**_LOGISTIC, "settings": {"tol": 0.1}, "settings.C": 0.5}
    params = check_params("sklearn", values, where="here")
    assert isinstance(params, SklearnParams)
    assert params.settings == {"tol": 0.1, "C": 0.5}
