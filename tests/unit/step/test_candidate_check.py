from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.settings import Settings
from millrace.step.check import check_use_case


def faults_of(settings: Settings, dags: Path, candidate: dict[str, Any]) -> list[str]:
    path = dags / "use_cases" / "flight_delay.yaml"
    values = yaml.safe_load(path.read_text())
    values["candidates"]["mine"] = candidate
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return check_use_case("flight_delay", settings=settings)


@pytest.mark.parametrize(
    ("candidate", "says"),
    [
        ({"trainer": "absent_models.trainer:Theirs"}, "install the package 'absent_models'"),
        ({"trainer": "torch", "monotone": {"distance": "increasing"}}, "has no monotone features"),
        ({"trainer": "xgboost", "monotone": {"carrier": "increasing"}}, "only numbers rise and fall"),
        ({"trainer": "xgboost", "class_weight": {"late": 2.0}}, "late"),
        ({"trainer": "xgboost", "class_weight": {"1": 1e300}}, "class '1' weighs 1e+300"),
        ({"trainer": "lightgbm", "resources": {"gpu": 1}}, "graphics card"),
        ({"trainer": "sklearn", "params": {"estimator": "linear_model.Ridge"}}, "cannot learn a binary problem"),
        (
            {"trainer": "sklearn", "params": {"estimator": "linear_model.LogisticRegression", "settings": {"c": 1}}},
            "has no parameter 'c'",
        ),
    ],
)
def test_what_a_candidate_asks_in_vain_is_found_before_it_trains(
    settings: Settings, dags: Path, candidate: dict[str, Any], says: str
) -> None:
    (fault,) = faults_of(settings, dags, candidate)
    assert says in fault
    assert "candidates.mine" in fault


def test_a_candidate_of_scikit_learn_is_right(settings: Settings, dags: Path) -> None:
    params = {"estimator": "ensemble.HistGradientBoostingClassifier", "settings": {"max_iter": 50}}
    candidate = {"trainer": "sklearn", "params": params, "class_weight": "balanced"}
    assert faults_of(settings, dags, candidate) == []
