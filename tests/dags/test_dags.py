"""The DAG files: what a person sees in the grid, and what parsing them may cost."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("train", "score", "monitor", "rollback")
EXPECTED = {
    "flights_data",
    "flights_replay",
    *(f"{uc}_{kind}" for uc in ("flight_delay", "flight_duration") for kind in KINDS),
}
HEAVY = (
    *("pandas", "numpy", "mlflow", "feast", "great_expectations", "evidently", "torch"),
    *("xgboost", "lightgbm", "sklearn", "duckdb", "pyarrow", "deltalake"),
)


def test_every_dag_file_imports_and_gives_its_dags(dag_bag: Any) -> None:
    assert dag_bag.import_errors == {}
    assert set(dag_bag.dags) >= EXPECTED


@pytest.mark.parametrize("dag_id", sorted(EXPECTED))
def test_every_dag_tells_who_owns_it_and_what_to_press(dag_bag: Any, dag_id: str) -> None:
    dag = dag_bag.dags[dag_id]
    assert dag.doc_md
    assert len(dag.doc_md) > 200
    assert dag.description
    assert "millrace" in dag.tags
    assert {task.owner for task in dag.tasks} == {"admin"}


@pytest.mark.parametrize("dag_id", sorted(EXPECTED))
def test_every_task_retries_by_class_of_error(dag_bag: Any, dag_id: str) -> None:
    for task in dag_bag.dags[dag_id].tasks:
        assert task.retries == 2, task.task_id
        assert task.retry_policy is not None, task.task_id


@pytest.mark.parametrize("dag_id", sorted(EXPECTED))
def test_every_task_links_to_its_runbook(dag_bag: Any, dag_id: str) -> None:
    for task in dag_bag.dags[dag_id].tasks:
        assert "Runbook" in {link.name for link in task.operator_extra_links}, task.task_id


def test_an_error_of_the_input_fails_at_once_and_an_absent_service_is_retried() -> None:
    from millrace.errors import ContractError, RegistryUnavailableError
    from millrace_airflow.retry import RETRY_POLICY

    wrong = RETRY_POLICY.evaluate(ContractError("a"), 1, 3)
    absent = RETRY_POLICY.evaluate(RegistryUnavailableError("b"), 1, 3)
    unknown = RETRY_POLICY.evaluate(KeyError("c"), 1, 3)
    assert (wrong.action.value, absent.action.value, unknown.action.value) == ("fail", "retry", "default")


def test_dag_files_are_short_and_read_as_the_chain() -> None:
    for path in (ROOT / "dags").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 80, path


def test_training_chain_stands_in_the_order_of_the_life_cycle(dag_bag: Any) -> None:
    dag = dag_bag.dags["flight_delay_train"]
    order = [
        "build_training_set",
        "train_candidate",
        "evaluate_candidates",
        "check_gates",
        "register_model",
        "approve_release",
        "release_model",
        "deploy_release",
        "verify_deployment",
    ]
    assert sorted(dag.task_dict) == sorted([*order, "request_evaluation"])
    for before, after in pairwise(order):
        assert after in dag.get_task(before).get_flat_relative_ids(upstream=False), (before, after)
    again = dag.get_task("request_evaluation")
    assert (again.upstream_task_ids, again.trigger_rule) == ({"release_model"}, "one_failed")


@pytest.mark.parametrize("use_case", ["flight_delay", "flight_duration"])
def test_what_names_the_champion_is_looked_at_whatever_else_of_the_monitoring_fails(
    dag_bag: Any, use_case: str
) -> None:
    task = dag_bag.dags[f"{use_case}_monitor"].get_task("reconcile_registry")
    assert task.upstream_task_ids == task.downstream_task_ids == set()


def test_people_start_runs_with_a_form(dag_bag: Any) -> None:
    assert set(dag_bag.dags["flight_delay_rollback"].params) == {"version", "reason"}
    assert set(dag_bag.dags["flight_delay_train"].params) == {"holdout"}


def test_one_run_at_a_time_where_state_is_changed(dag_bag: Any) -> None:
    for kind in ("train", "monitor", "rollback"):
        assert dag_bag.dags[f"flight_delay_{kind}"].max_active_runs == 1
    for kind in ("data", "replay"):
        assert dag_bag.dags[f"flights_{kind}"].max_active_runs == 1


def test_parsing_loads_no_heavy_library() -> None:
    code = (
        "import sys, json, runpy\nfrom pathlib import Path\n"
        f"[runpy.run_path(str(p)) for p in sorted(Path({str(ROOT / 'dags')!r}).glob('*.py'))]\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=280)
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("tier", ["medium", "high"])
def test_a_stricter_tier_asks_as_many_people_as_its_policy_says(
    tier: str, dags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import DAG

    from millrace.settings import settings
    from millrace_airflow.groups import UseCaseDags
    from millrace_airflow.operators.approval import RequestApprovalOperator

    path = dags / "use_cases" / "flight_delay.yaml"
    text = path.read_text(encoding="utf-8").replace("tier: low", f"tier: {tier}")
    path.write_text(text.replace("  bootstrap: 200\n", "  bootstrap: 200\n  sensitive: [carrier]\n"), encoding="utf-8")
    monkeypatch.setenv("MILLRACE_DAGS", str(dags))
    settings.cache_clear()
    try:
        use_case = UseCaseDags("flight_delay")
        with DAG("probe", schedule=None) as dag:
            training_set = use_case.build_training_set()
            evaluation = use_case.evaluate_candidates(training_set, use_case.train_candidates(training_set))
            verdict = use_case.check_gates(evaluation)
            registered = use_case.register_model(evaluation, verdict)
            use_case.approve_release(evaluation, verdict, registered)
    finally:
        settings.cache_clear()
    requests = [task for task in dag.tasks if isinstance(task, RequestApprovalOperator)]
    assert len(requests) == {"medium": 1, "high": 2}[tier]
    assert all(task.fail_on_reject and task.response_timeout for task in requests)


def test_a_spec_with_an_unknown_key_is_an_import_error_that_names_it(
    dags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millrace.errors import SpecError
    from millrace.settings import settings
    from millrace_airflow.groups import UseCaseDags

    path = dags / "use_cases" / "flight_delay.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "thresold: 0.4\n", encoding="utf-8")
    monkeypatch.setenv("MILLRACE_DAGS", str(dags))
    settings.cache_clear()
    try:
        with pytest.raises(SpecError) as caught:
            UseCaseDags("flight_delay")
    finally:
        settings.cache_clear()
    assert "thresold" in str(caught.value)
    assert "did you mean 'threshold'" in str(caught.value)
    assert str(path) in str(caught.value)
