"""The training DAG run by Airflow itself: candidates side by side, one of which cannot be trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.dags.sold import Ended, lay_out, make_airflow, run_dag
from tests.environments import OLD_XGBOOST, STORE, prepared
from tests.unit.training.synthetic import QUICK

from millrace.governance.recipe import find_recipes
from millrace.package import Package
from millrace.registry.mlflow_client import connect
from millrace.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]
TRAIN = """
with sold.train_dag() as dag:
    sold.evaluate_candidates(given, sold.train_candidates(given))
"""


@pytest.fixture(scope="module")
def airflow_environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an Airflow of its own, its database made."""
    return make_airflow(tmp_path_factory.mktemp("airflow"))


def run(settings: Settings, environ: dict[str, str]) -> Ended:
    return run_dag(settings, environ, "sold_train", {"holdout": "2020-03"})


def test_a_candidate_that_fails_takes_no_other_with_it(settings: Settings, airflow_environ: dict[str, str]) -> None:
    lay_out(
        settings,
        {
            "boosted": {"trainer": "lightgbm", "params": QUICK["lightgbm"], "resources": {"pool": "default_pool"}},
            "wrong": {"trainer": "xgboost", "params": {"rounds": -1}},
            "baseline": {"trainer": "baseline"},
        },
        TRAIN,
    )
    ended = run(settings, airflow_environ)
    print(ended.tasks, ended.log[-3000:])
    assert ended.states() == {
        "boosted": "success",
        "wrong": "failed",
        "baseline": "success",
        "evaluate_candidates": "success",
    }
    assert ended.state == "success"
    failure = ended.xcom("failure", "train_candidate")
    assert failure["candidate"] == "wrong"
    assert "rounds" in failure["reason"]
    assert ended.xcom("verdict").startswith("Not trained: wrong: ")
    evaluation = ended.xcom("return_value")
    assert evaluation["absent"] == ["wrong"]
    client = connect(settings)
    experiment = client.get_experiment_by_name("sold")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.tags["millrace.training_run"] for run in runs} == {f"sold_train/{ended.run}"}
    kinds = sorted((run.data.tags["millrace.kind"], run.info.status) for run in runs)
    assert kinds == [("candidate", "FINISHED")] * 2 + [("failure", "FAILED"), ("training", "FINISHED")]
    parent = next(run for run in runs if run.data.tags["millrace.kind"] == "training")
    assert parent.data.tags["millrace.challenger"] == "boosted"
    assert set(parent.data.metrics) == {"boosted.auc", "baseline.auc"}


def test_a_run_with_too_few_candidates_fails_and_says_why(settings: Settings, airflow_environ: dict[str, str]) -> None:
    lay_out(
        settings,
        {"wrong": {"trainer": "xgboost", "params": {"rounds": -1}}, "baseline": {"trainer": "baseline"}},
        TRAIN,
    )
    ended = run(settings, airflow_environ)
    assert ended.states() == {"wrong": "failed", "baseline": "success", "evaluate_candidates": "failed"}
    assert ended.state == "failed"
    assert "1 of 2 candidates were trained; policy 'low' asks for 2" in ended.log
    assert "Not trained: wrong:" in ended.xcom("verdict")


def test_one_run_trains_two_candidates_on_two_versions_of_one_library(
    settings: Settings, airflow_environ: dict[str, str]
) -> None:
    prepared(OLD_XGBOOST)
    (settings.var / "environments").symlink_to(STORE.absolute())
    (settings.dags / "environments").mkdir(exist_ok=True)
    shutil.copy(OLD_XGBOOST, settings.dags / "environments")
    boosted = {"trainer": "xgboost", "params": QUICK["xgboost"]}
    own = {"lock": f"environments/{OLD_XGBOOST.name}"}
    lay_out(
        settings, {"old": {**boosted, "environment": own}, "new": boosted, "baseline": {"trainer": "baseline"}}, TRAIN
    )
    ended = run(settings, airflow_environ)
    print(ended.tasks, ended.log[-3000:])
    assert set(ended.states().values()) == {"success"}
    evaluation = ended.xcom("return_value")
    assert evaluation["absent"] == []
    assert evaluation["challenger"]["candidate"] in {"old", "new"}

    runs = {ref["candidate"]: ref for ref in ended.xcom("return_value", "train_candidate")}
    packages = {
        name: Package.open(settings.packages / runs[name]["digest"], runs[name]["digest"]) for name in ("old", "new")
    }
    versions = {name: package.manifest.library.version for name, package in packages.items()}
    assert versions == {"old": "2.1.4", "new": "3.2.0"}
    assert packages["old"].content["requirements.lock"] == OLD_XGBOOST.read_bytes()
    assert "requirements.lock" not in packages["new"].content
    for name, package in packages.items():
        assert package.probe() <= 1e-6
        (recipe,) = find_recipes(package.digest, settings)
        assert (recipe.isolated, recipe.libraries["xgboost-cpu"]) == (name == "old", versions[name])

    client = connect(settings)
    experiment = client.get_experiment_by_name("sold")
    logged = client.search_runs([experiment.experiment_id])
    assert len({run.data.tags["millrace.training_run"] for run in logged}) == 1
    (parent,) = (run for run in logged if run.data.tags["millrace.kind"] == "training")
    assert set(parent.data.metrics) == {"old.auc", "new.auc", "baseline.auc"}
    for name, version in versions.items():
        pins = client.download_artifacts(runs[name]["run_id"], "requirements.txt")
        assert f"xgboost-cpu=={version}" in Path(pins).read_text(encoding="utf-8").splitlines()
