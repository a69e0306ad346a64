"""The training DAG run by Airflow itself: candidates side by side, one of which cannot be trained."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.environments import OLD_XGBOOST, STORE, prepared
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.training.synthetic import QUICK, make_domain, make_use_case, write_training_set

from millrace.governance.recipe import find_recipes
from millrace.package import Package
from millrace.registry.mlflow_client import connect
from millrace.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(280)]
ROOT = Path(__file__).resolve().parents[2]
DAG_FILE = """
import json
from pathlib import Path
from types import SimpleNamespace

from millrace_airflow.groups import UseCaseDags

given = SimpleNamespace(output=json.loads(Path(__file__).with_name("training_set.json").read_text()))
sold = UseCaseDags("sold")
with sold.train_dag() as dag:
    sold.evaluate_candidates(given, sold.train_candidates(given))
"""
SCRIPT = """
import json, os, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1], bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
run = bag.dags["sold_train"].test(run_conf={"holdout": "2020-03"})
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
with create_session() as session:
    xcoms = [
        {"task": x.task_id, "index": x.map_index, "key": x.key, "value": XComModel.deserialize_value(x)}
        for x in session.query(XComModel).filter(XComModel.run_id == run.run_id)
    ]
    tasks = [
        {"task": t.task_id, "index": t.map_index, "state": str(t.state), "label": t.rendered_map_index}
        for t in run.get_task_instances(session=session)
    ]
print("RESULT " + json.dumps({"run": run.run_id, "state": str(run.state), "tasks": tasks, "xcoms": xcoms}, default=str))
"""


@dataclass(frozen=True)
class Ended:
    """What a run came to."""

    run: str
    state: str
    tasks: list[dict[str, Any]]
    xcoms: list[dict[str, Any]]
    log: str

    def states(self) -> dict[str, str]:
        """Candidate or task → state."""
        return {task["label"] or task["task"]: task["state"] for task in self.tasks}

    def xcom(self, key: str, task: str = "evaluate_candidates") -> Any:
        """The values of a key that a task left, the only one by itself."""
        found = [item["value"] for item in self.xcoms if (item["task"], item["key"]) == (task, key)]
        return found[0] if len(found) == 1 else found


def lay_out(settings: Settings, candidates: dict[str, Any]) -> None:
    """A use case in YAML with a DAG file and a training set."""
    lay_mlflow(settings)
    use_case = make_use_case("binary", **candidates)
    measured = use_case.evaluation.model_copy(update={"slices": use_case.features.categories[:1], "bootstrap": 50})
    use_case = use_case.model_copy(update={"evaluation": measured})
    for folder, spec in (("domains", make_domain()), ("use_cases", use_case)):
        text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)
        (settings.dags / folder / f"{spec.name}.yaml").write_text(text, encoding="utf-8")
    (settings.dags / "domains" / "x.sql").write_text("SELECT 1", encoding="utf-8")
    ref = write_training_set(use_case, settings.lake, ["2020-01", "2020-02", "2020-03"], 400)
    (settings.dags / "training_set.json").write_text(json.dumps(ref.to_dict()), encoding="utf-8")
    (settings.dags / "sold.py").write_text(DAG_FILE, encoding="utf-8")


@pytest.fixture(scope="module")
def airflow_environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an Airflow of its own, its database made."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MILLRACE_"))},
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    }
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([str(airflow), "db", "migrate"], env=environ, check=True, capture_output=True, timeout=120)
    return environ


def run_dag(settings: Settings, environ: dict[str, str]) -> Ended:
    """Run it once, in a process of its own."""
    environ = {
        **environ,
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.dags),
        "MILLRACE_ROOT": str(settings.root),
        "MILLRACE_VAR": str(settings.var),
        "MILLRACE_DAGS": str(settings.dags),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(settings.dags)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert told, done.stdout[-3000:] + done.stderr[-3000:]
    return Ended(**json.loads(told[-1].removeprefix("RESULT ")), log=done.stdout + done.stderr)


def test_a_candidate_that_fails_takes_no_other_with_it(settings: Settings, airflow_environ: dict[str, str]) -> None:
    lay_out(
        settings,
        {
            "boosted": {"trainer": "lightgbm", "params": QUICK["lightgbm"], "resources": {"pool": "default_pool"}},
            "wrong": {"trainer": "xgboost", "params": {"rounds": -1}},
            "baseline": {"trainer": "baseline"},
        },
    )
    ended = run_dag(settings, airflow_environ)
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
    lay_out(settings, {"wrong": {"trainer": "xgboost", "params": {"rounds": -1}}, "baseline": {"trainer": "baseline"}})
    ended = run_dag(settings, airflow_environ)
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
    lay_out(settings, {"old": {**boosted, "environment": own}, "new": boosted, "baseline": {"trainer": "baseline"}})
    ended = run_dag(settings, airflow_environ)
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
