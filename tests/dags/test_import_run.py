"""The import DAG: its chain and form, and a run of it by Airflow itself."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.dags.sold import lay_out, make_airflow, run_dag
from tests.unit.package.onnx_models import linear
from tests.unit.step.foreign import signature
from tests.unit.training.synthetic import make_use_case

from millrace.settings import Settings
from millrace.spec import load_policy
from millrace_airflow.groups.text import beside_import

IMPORT = """
with sold.import_dag():
    evaluation = sold.evaluate_candidates(given, [sold.import_model(given), *sold.train_beside(given)])
    sold.check_gates(evaluation)
"""
CANDIDATES = {"baseline": {"trainer": "baseline"}, "other": {"trainer": "xgboost"}}


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


@pytest.mark.integration
@pytest.mark.full
@pytest.mark.timeout(900)
def test_airflow_imports_a_model_and_judges_it_beside_the_baseline(
    settings: Settings, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lay_out(settings, CANDIDATES, IMPORT)
    environ = make_airflow(tmp_path_factory.mktemp("airflow"))
    weights = [[0.0] * 6, [1.5, -0.2, 0.0, -0.1, -1.0, 0.0]]
    (tmp_path / "sold.onnx").write_bytes(linear(weights, [0.0, 1.5]))
    conf = {"source": str(tmp_path / "sold.onnx"), "holdout": "2020-03"}
    told = {**conf, "signature": signature(trained_through="2020-02")}
    ended = run_dag(settings, environ, "sold_import", told)
    print(ended.log[-3000:])
    assert {task["task"]: task["state"] for task in ended.tasks} == dict.fromkeys(
        ["import_model", "train_candidate", "evaluate_candidates", "check_gates"], "success"
    )
    model, evaluation = (ended.xcom("return_value", task) for task in ("import_model", "evaluate_candidates"))
    assert (model["trainer"], model["trained_through"]) == ("imported", "2020-02")
    assert evaluation["challenger"] == model
    assert evaluation["metrics"]["imported"]["value"] > 0.8
    assert ended.xcom("verdict") == []
    assert "No examples prove" in ended.xcom("verdict", "import_model")
    written = tmp_path / "signature.json"
    written.write_text(json.dumps(signature(inputs=[])), encoding="utf-8")
    refused = run_dag(settings, environ, "sold_import", {**conf, "signature": str(written)})
    states = {task["task"]: task["state"] for task in refused.tasks}
    assert (states["import_model"], states["evaluate_candidates"]) == ("failed", "upstream_failed")
    assert "the model file names none" in refused.log
