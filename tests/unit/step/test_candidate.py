"""One candidate from rows to a run in MLflow: what is shown, and what a stop, a kill or an absent server leaves."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.training.synthetic import QUICK, make_domain, make_job, make_use_case, write_training_set

from millrace.artifact import DatasetRef, ModelRef
from millrace.errors import RegistryUnavailableError
from millrace.governance.git_tree import GitTree
from millrace.governance.recipe import find_recipes
from millrace.registry.mlflow_client import connect
from millrace.settings import Settings
from millrace.spec import UseCaseSpec
from millrace.step import candidate as step
from millrace.step import recipe as recipe_step
from millrace.step.candidate import report_failure, train_candidate
from millrace.training.boosting import segment as boosting
from millrace.training.outcome import write_trials
from millrace.training.run import StopFitError

pytestmark = pytest.mark.integration
MONTHS = ["2020-01", "2020-02", "2020-03"]
BOOSTED = {"trainer": "lightgbm", "params": {**QUICK["lightgbm"], "rounds": 40, "checkpoint_every": 10}}
TUNED = {
    "trainer": "lightgbm",
    "params": {"rounds": 8, "num_leaves": 7},
    "tuning": {
        "space": {"learning_rate": {"type": "float", "low": 0.05, "high": 0.5, "log": True}},
        "trials": 3,
        "minutes": 5,
        "folds": 1,
        "pruner": "none",
    },
}


@pytest.fixture
def shop(settings: Settings) -> tuple[UseCaseSpec, DatasetRef, Settings]:
    lay_mlflow(settings)
    use_case = make_use_case(boosted=BOOSTED, tuned=TUNED, baseline={"trainer": "baseline"})
    return use_case, write_training_set(use_case, settings.lake, MONTHS, 200), settings


def train(shop: tuple[UseCaseSpec, DatasetRef, Settings], candidate: str, **asked: Any) -> ModelRef:
    use_case, ref, settings = shop
    return train_candidate(use_case, make_domain(), candidate, ref, **{"settings": settings, **asked})


def files_of(run: Any) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


def left(settings: Settings) -> list[str]:
    root = settings.var / "training"
    return sorted(path.name for path in root.iterdir()) if root.is_dir() else []


def test_a_candidates_run_shows_what_it_learned_from_and_how(shop: tuple[UseCaseSpec, DatasetRef, Settings]) -> None:
    model = train(shop, "boosted", run_key="shop_train/manual__1")
    client = connect(shop[2])
    run = client.get_run(model.run_id)
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert (run.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert parent.data.tags["millrace.training_run"] == "shop_train/manual__1"
    assert run.data.params["num_leaves"] == "15"
    given = run.inputs.dataset_inputs[0].dataset
    assert given.name == shop[1].table
    assert json.loads(given.profile)["partitions"] == MONTHS[:2]
    assert json.loads(given.source)["delta_table_version"] == shop[1].version
    assert len(client.get_metric_history(model.run_id, "train_loss")) >= 4
    assert any(name.startswith("system/cpu") for name in run.data.metrics)
    recipe = json.loads((files_of(run) / "recipe.json").read_bytes())
    assert (recipe["package"], recipe["training_set"]["version"]) == (model.digest, shop[1].version)
    assert "lightgbm==" in (files_of(run) / "requirements.txt").read_text(encoding="utf-8")
    assert left(shop[2]) == []


def test_what_was_asked_beside_the_trainers_parameters_is_among_the_params(settings: Settings) -> None:
    lay_mlflow(settings)
    asked = {"class_weight": {"0": 1.0, "1": 3.0}, "monotone": {"age": "increasing"}}
    use_case = make_use_case(plain=BOOSTED, asked={**BOOSTED, **asked})
    label = use_case.label.model_copy(update={"weight": "age + 1"})
    weighed = use_case.model_copy(update={"label": label})
    ref = write_training_set(weighed, settings.lake, MONTHS, 200)
    client = connect(settings)
    plain, special = (
        client.get_run(train((weighed, ref, settings), name).run_id).data.params for name in ("plain", "asked")
    )
    assert (plain["workers"], plain["label.weight"]) == ("1", "age + 1")
    assert not {"class_weight", "monotone", "environment.lock"} & set(plain)
    assert json.loads(special["class_weight"]) == {"0": 1.0, "1": 3.0}
    assert json.loads(special["monotone"]) == {"age": "increasing"}


def test_the_digest_of_a_lock_is_among_the_params() -> None:
    from millrace.step.candidate import _asked

    use_case = make_use_case(own={"trainer": "xgboost", "environment": {"lock": "own.txt"}})
    job = dataclasses.replace(make_job(use_case, "own", holdout="2020-03"), lock="xgboost==2.1.4\n")
    assert _asked(job) == {"workers": 1, "environment.lock": sha256(b"xgboost==2.1.4\n").hexdigest()}


def test_a_trial_that_failed_tells_why_in_the_table(tmp_path: Path) -> None:
    trial = {"number": 1, "state": "failed", "value": None, "seconds": 0.5, "params": {"x": 2}, "error": "it is odd"}
    write_trials([trial], tmp_path / "trials.csv")
    (row,) = csv.DictReader((tmp_path / "trials.csv").read_text(encoding="utf-8").splitlines())
    assert (row["x"], row["error"]) == ("2", "it is odd")


def test_trials_of_a_tuning_are_a_table_plots_and_a_curve(shop: tuple[UseCaseSpec, DatasetRef, Settings]) -> None:
    model = train(shop, "tuned")
    client = connect(shop[2])
    run = client.get_run(model.run_id)
    with (files_of(run) / "tuning" / "trials.csv").open(encoding="utf-8") as file:
        trials = list(csv.DictReader(file))
    assert [trial["number"] for trial in trials] == ["0", "1", "2"]
    assert {trial["state"] for trial in trials} == {"complete"}
    best = max(trials, key=lambda trial: float(trial["value"]))
    assert float(run.data.params["learning_rate"]) == pytest.approx(float(best["learning_rate"]), rel=1e-12)
    assert run.data.metrics["tuned_auc"] == pytest.approx(float(best["value"]))
    assert run.data.metrics["untuned_auc"] <= run.data.metrics["tuned_auc"]
    assert len(client.get_metric_history(model.run_id, "trial_auc")) == 3
    assert {path.suffix for path in (files_of(run) / "tuning").iterdir()} > {".csv"}
    found = json.loads((files_of(run) / "recipe.json").read_bytes())["tuning"]
    assert [str(point["value"]) for point in found["history"]] == [trial["value"] for trial in trials]
    assert (found["value"], found["untuned"]) == (run.data.metrics["tuned_auc"], run.data.metrics["untuned_auc"])
    assert train(shop, "tuned") == model


def test_a_server_that_is_away_costs_no_second_training(
    shop: tuple[UseCaseSpec, DatasetRef, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = dataclasses.replace(shop[2], mlflow_url="http://127.0.0.1:9")
    with pytest.raises(RegistryUnavailableError):
        train(shop, "boosted", settings=away)
    assert len(left(shop[2])) == 1
    sealed = [path.name for path in shop[2].packages.iterdir()]

    def trained_again(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("millrace.step.candidate.train_package", trained_again)
    model = train(shop, "boosted")
    assert [model.digest] == sealed
    assert len(connect(shop[2]).get_metric_history(model.run_id, "train_loss")) >= 4
    assert left(shop[2]) == []


def test_a_fit_that_was_stopped_goes_on_to_the_same_package(shop: tuple[UseCaseSpec, DatasetRef, Settings]) -> None:
    asked: list[int] = []

    def after_some_rounds() -> bool:
        asked.append(1)
        return bool(list((shop[2].var / "training").glob("*/fit-*/00000020.checkpoint")))

    with pytest.raises(StopFitError):
        train(shop, "boosted", stop=after_some_rounds)
    assert asked
    stopped = train(shop, "boosted")
    assert len(connect(shop[2]).get_metric_history(stopped.run_id, "train_loss")) >= 4
    assert train(shop, "boosted").digest == stopped.digest
    assert stopped == train(shop, "boosted")


def test_a_failure_that_cannot_be_shown_in_mlflow_hides_nothing(
    shop: tuple[UseCaseSpec, DatasetRef, Settings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = dataclasses.replace(shop[2], mlflow_url="http://127.0.0.1:9")
    report_failure(shop[0], "boosted", "2020-03", "one class only", settings=away)
    assert "the failure of boosted is not in MLflow" in caplog.text


def test_a_package_that_was_damaged_before_it_was_logged_is_trained_again(
    shop: tuple[UseCaseSpec, DatasetRef, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = dataclasses.replace(shop[2], mlflow_url="http://127.0.0.1:9")
    with pytest.raises(RegistryUnavailableError):
        train((shop[0], shop[1], away), "boosted")
    [package] = list(shop[2].packages.iterdir())
    (package / "model.txt").write_bytes(b"")
    assert train(shop, "boosted").digest == package.name


def test_what_other_code_left_is_not_gone_on_from(
    shop: tuple[UseCaseSpec, DatasetRef, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = itertools.count()
    with pytest.raises(StopFitError):
        train(shop, "boosted", stop=lambda: next(asked) > 25)
    of_a_seed = boosting.segment_seed
    monkeypatch.setattr(boosting, "segment_seed", lambda seed, start: of_a_seed(seed, start) + 1)
    monkeypatch.setattr(step, "code_digest", lambda _: "other code")
    assert train(shop, "boosted").digest == train(shop, "boosted").digest


def test_two_tasks_of_one_training_wait_for_each_other(
    shop: tuple[UseCaseSpec, DatasetRef, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, at_once, most = step._fit, [], []

    def watched(*args: Any) -> Any:
        at_once.append(1)
        most.append(len(at_once))
        try:
            return fit(*args)
        finally:
            at_once.pop()

    monkeypatch.setattr(step, "_fit", watched)
    with ThreadPoolExecutor(3) as pool:
        models = list(pool.map(lambda _: train(shop, "boosted"), range(3)))
    assert len(set(models)) == 1
    assert max(most) == 1
    assert left(shop[2]) == []


def test_a_tree_that_moves_on_while_it_trains_is_dirty(
    shop: tuple[UseCaseSpec, DatasetRef, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = iter([GitTree(state="clean", commit="a" * 40), GitTree(state="clean", commit="b" * 40)])
    monkeypatch.setattr(recipe_step, "git_tree", lambda _: next(trees))
    model = train(shop, "boosted")
    [recipe] = find_recipes(model.digest, shop[2])
    assert (recipe.commit, recipe.tree) == ("a" * 40, "dirty")
    assert recipe.changed == ["commit bbbbbbbbbbbb came while it trained"]
