"""The import DAG: its chain and form, and a run of it by Airflow itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.package.onnx_models import linear
from tests.unit.step.foreign import signature
from tests.unit.training.synthetic import make_domain, make_use_case, write_training_set

from millrace.settings import Settings
from millrace.spec import load_policy
from millrace_airflow.groups.text import beside_import

ROOT = Path(__file__).resolve().parents[2]
DAG_FILE = """
import json
from pathlib import Path
from types import SimpleNamespace

from millrace_airflow.groups import UseCaseDags

given = SimpleNamespace(output=json.loads(Path(__file__).with_name("training_set.json").read_text()))
sold = UseCaseDags("sold")
with sold.import_dag():
    evaluation = sold.evaluate_candidates(given, [sold.import_model(given), *sold.train_beside(given)])
    sold.check_gates(evaluation)
"""
SCRIPT = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1], bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
run = bag.dags["sold_import"].test(run_conf=json.loads(sys.argv[2]))
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
with create_session() as session:
    xcoms = {
        f"{x.task_id}/{x.key}": XComModel.deserialize_value(x)
        for x in session.query(XComModel).filter(XComModel.run_id == run.run_id)
    }
    tasks = {t.task_id: str(t.state) for t in run.get_task_instances(session=session)}
print("RESULT " + json.dumps({"tasks": tasks, "xcoms": xcoms}, default=str))
"""


def test_the_import_chain_is_that_of_training_with_a_model_from_elsewhere(dag_bag: Any) -> None:
    dag = dag_bag.dags["flight_delay_import"]
    order = ["build_training_set", "import_model", "evaluate_candidates", "check_gates", "register_model"]
    order += ["approve_release", "release_model", "deploy_release", "verify_deployment"]
    assert sorted(dag.task_dict) == sorted([*order, "train_candidate"])
    for before, after in pairwise(order):
        assert after in dag.get_task(before).get_flat_relative_ids(upstream=False), (before, after)
    evaluation = dag.get_task("evaluate_candidates")
    assert {"import_model", "train_candidate"} <= evaluation.upstream_task_ids
    assert evaluation.trigger_rule == "all_success"
    assert set(dag.params) == {"source", "signature", "holdout"}
    assert dag.schedule is None
    assert "baseline" in dag.doc_md


def test_as_many_candidates_train_beside_an_import_as_the_policy_asks_for(settings: Settings) -> None:
    use_case = make_use_case()
    for tier, count in (("low", 1), ("medium", 1), ("high", 2)):
        found = beside_import(use_case, load_policy(settings.dags, tier))
        assert (found[0], len(found)) == ("baseline", count)


def lay_out(settings: Settings) -> None:
    """A use case in YAML with a DAG file and a training set."""
    lay_mlflow(settings)
    use_case = make_use_case("binary", baseline={"trainer": "baseline"}, other={"trainer": "xgboost"})
    measured = use_case.evaluation.model_copy(update={"slices": ["kind"], "bootstrap": 50})
    use_case = use_case.model_copy(update={"evaluation": measured})
    for folder, spec in (("domains", make_domain()), ("use_cases", use_case)):
        text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)
        (settings.dags / folder / f"{spec.name}.yaml").write_text(text, encoding="utf-8")
    (settings.dags / "domains" / "x.sql").write_text("SELECT 1", encoding="utf-8")
    ref = write_training_set(use_case, settings.lake, ["2020-01", "2020-02", "2020-03"], 400)
    (settings.dags / "training_set.json").write_text(json.dumps(ref.to_dict()), encoding="utf-8")
    (settings.dags / "sold.py").write_text(DAG_FILE, encoding="utf-8")


def run_dag(settings: Settings, home: Path, conf: dict[str, Any]) -> dict[str, Any]:
    """Run it once, in a process of its own."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MILLRACE_"))},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.dags),
        "MILLRACE_ROOT": str(settings.root),
        "MILLRACE_VAR": str(settings.var),
        "MILLRACE_DAGS": str(settings.dags),
    }
    airflow = Path(sys.executable).with_name("airflow")
    if not (home / "airflow.db").exists():
        subprocess.run([str(airflow), "db", "migrate"], env=environ, check=True, capture_output=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(settings.dags), json.dumps(conf)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert told, done.stdout[-3000:] + done.stderr[-3000:]
    return {**json.loads(told[-1].removeprefix("RESULT ")), "log": done.stdout + done.stderr}


@pytest.mark.integration
@pytest.mark.full
@pytest.mark.timeout(280)
def test_airflow_imports_a_model_and_judges_it_beside_the_baseline(
    settings: Settings, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lay_out(settings)
    home = tmp_path_factory.mktemp("airflow")
    weights = [[0.0] * 6, [1.5, -0.2, 0.0, -0.1, -1.0, 0.0]]
    (tmp_path / "sold.onnx").write_bytes(linear(weights, [0.0, 1.5]))
    conf = {"source": str(tmp_path / "sold.onnx"), "holdout": "2020-03"}
    ended = run_dag(settings, home, {**conf, "signature": signature(trained_through="2020-02")})
    print(ended["log"][-3000:])
    assert ended["tasks"] == dict.fromkeys(
        ["import_model", "train_candidate", "evaluate_candidates", "check_gates"], "success"
    )
    model, evaluation = (ended["xcoms"][f"{task}/return_value"] for task in ("import_model", "evaluate_candidates"))
    assert (model["trainer"], model["trained_through"]) == ("imported", "2020-02")
    assert evaluation["challenger"] == model
    assert evaluation["metrics"]["imported"]["value"] > 0.8
    assert "evaluate_candidates/verdict" not in ended["xcoms"]
    assert "No examples prove" in ended["xcoms"]["import_model/verdict"]
    written = tmp_path / "signature.json"
    written.write_text(json.dumps(signature(inputs=[])), encoding="utf-8")
    refused = run_dag(settings, home, {**conf, "signature": str(written)})
    assert (refused["tasks"]["import_model"], refused["tasks"]["evaluate_candidates"]) == ("failed", "upstream_failed")
    assert "the model file names none" in refused["log"]
