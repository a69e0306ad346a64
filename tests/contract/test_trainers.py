"""The shipped suite over every trainer of ours, with estimators of each kind behind the one of scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.unit.training.synthetic import QUICK, make_job, make_use_case, training_rows

from millrace.errors import TrainingError
from millrace.training import list_trainers, train_package
from millrace.training.contract import HOLDOUT, PARTITIONS, TrainerContract

_BOOSTED = "ensemble.HistGradientBoosting"


class TestXGBoost(TrainerContract):
    trainer = "xgboost"
    params: ClassVar[dict[str, Any]] = QUICK["xgboost"]


class TestLightGBM(TrainerContract):
    trainer = "lightgbm"
    params: ClassVar[dict[str, Any]] = QUICK["lightgbm"]


class TestTorch(TrainerContract):
    trainer = "torch"
    params: ClassVar[dict[str, Any]] = {**QUICK["torch"], "dropout": 0.1}
    tolerance = 1e-9


class TestBaseline(TrainerContract):
    trainer = "baseline"
    gain = None


class TestLogisticRegression(TrainerContract):
    trainer = "sklearn"
    problems = ("binary",)
    params: ClassVar[dict[str, Any]] = {"estimator": "linear_model.LogisticRegression", "settings": {"C": 0.5}}
    tolerance = 1e-9


class TestRidge(TrainerContract):
    trainer = "sklearn"
    params: ClassVar[dict[str, Any]] = {"estimator": "linear_model.Ridge"}
    tolerance = 1e-9


class TestHistGradientBoostingClassifier(TrainerContract):
    trainer = "sklearn"
    problems = ("multiclass",)
    params: ClassVar[dict[str, Any]] = {"estimator": f"{_BOOSTED}Classifier", "settings": {"max_iter": 12}}


class TestHistGradientBoostingRegressor(TrainerContract):
    trainer = "sklearn"
    params: ClassVar[dict[str, Any]] = {"estimator": f"{_BOOSTED}Regressor", "settings": {"max_iter": 12}}


def test_every_trainer_is_under_the_suite() -> None:
    covered = {found.trainer for found in TrainerContract.__subclasses__() if found.__module__ == __name__}
    assert covered == set(list_trainers())


@pytest.mark.parametrize("problem", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "torch"])
def test_early_stopping_ends_before_the_rounds_do_and_asks_for_two_partitions(
    tmp_path: Path, name: str, problem: str
) -> None:
    rounds = "epochs" if name == "torch" else "rounds"
    params = {**QUICK[name], rounds: 60, "learning_rate": 0.03 if name == "torch" else 0.5, "early_stopping": 3}
    use_case = make_use_case(problem, mine={"trainer": name, "params": params})
    job = make_job(use_case, "mine", holdout=HOLDOUT)
    package = train_package(job, training_rows(use_case, PARTITIONS), store=tmp_path).package
    assert 0 < package.manifest.facts[rounds] < 60
    alone = make_job(use_case.model_copy(update={"min_training_partitions": 1}), "mine", holdout=HOLDOUT)
    with pytest.raises(TrainingError, match="early stopping"):
        train_package(alone, training_rows(use_case, ["2020-01"]), store=tmp_path)
