"""Candidates in one mapped task for each class of resources, and what a stop does to a training task."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from millrace.spec.candidate import CandidateSpec
from millrace.training.run import Checkpoint, FolderRun, StopFitError

LONGEST = timedelta(hours=4)


def classes(**candidates: dict[str, Any]) -> list[Any]:
    from millrace_airflow.groups.resource import resource_classes

    specs = {name: CandidateSpec.model_validate({"trainer": "xgboost", **spec}) for name, spec in candidates.items()}
    return resource_classes(specs, longest=LONGEST)


def test_candidates_of_one_class_are_one_mapped_task() -> None:
    (only,) = classes(a={}, b={"resources": {"cpu": 4, "memory": "8GB", "gpu": 1}}, c={})
    assert (only.task_id, only.candidates) == ("train_candidate", ("a", "b", "c"))
    assert only.arguments == {"execution_timeout": LONGEST}


def test_each_queue_and_pool_is_a_task_of_its_own_with_a_name_that_says_so() -> None:
    found = classes(
        a={},
        b={"resources": {"queue": "gpu-nodes"}},
        c={"resources": {"pool": "heavy", "pool_slots": 2}},
        d={"resources": {"queue": "gpu-nodes"}},
    )
    assert [(item.task_id, item.candidates) for item in found] == [
        ("train_candidate", ("a",)),
        ("train_candidate_gpu_nodes", ("b", "d")),
        ("train_candidate_heavy_pool_slots2", ("c",)),
    ]
    assert found[1].arguments == {"queue": "gpu-nodes", "execution_timeout": LONGEST}
    assert found[2].arguments == {"pool": "heavy", "pool_slots": 2, "execution_timeout": LONGEST}


def test_two_classes_whose_names_would_be_equal_stay_two_tasks() -> None:
    found = classes(a={"resources": {"queue": "big.x"}}, b={"resources": {"queue": "big-x"}})
    assert [item.task_id for item in found] == ["train_candidate_big_x", "train_candidate_big_x_2"]


def test_the_minutes_of_a_tuning_lengthen_the_time_its_task_may_take() -> None:
    space = {"max_depth": {"type": "int", "low": 2, "high": 8}}
    (only,) = classes(a={}, b={"tuning": {"space": space, "minutes": 600}})
    assert only.arguments["execution_timeout"] == LONGEST + timedelta(hours=10)


def test_pods_ask_for_what_the_spec_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor,KubernetesExecutor")
    plain, big = classes(a={}, b={"resources": {"cpu": 4, "memory": "8GB", "gpu": 1}})
    assert "executor_config" not in plain.arguments
    asked = big.arguments["executor_config"]["pod_override"].spec.containers[0]
    assert asked.name == "base"
    assert asked.resources.requests == {"cpu": "4", "memory": str(16 * 10**9)}
    assert asked.resources.limits == {"nvidia.com/gpu": "1"}


def test_classes_of_resources_meet_again_in_the_evaluation(dags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import DAG

    from millrace.settings import settings
    from millrace_airflow.groups import UseCaseDags

    path = dags / "use_cases" / "flight_delay.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("trainer: torch\n", "trainer: torch\n    resources: {queue: gpu}\n"), encoding="utf-8")
    monkeypatch.setenv("MILLRACE_DAGS", str(dags))
    settings.cache_clear()
    try:
        use_case = UseCaseDags("flight_delay")
        with DAG("probe", schedule=None) as dag:
            training_set = use_case.build_training_set()
            use_case.evaluate_candidates(training_set, use_case.train_candidates(training_set))
    finally:
        settings.cache_clear()
    evaluation = dag.get_task("evaluate_candidates")
    trained = {"train_candidate", "train_candidate_gpu"}
    assert trained < evaluation.upstream_task_ids
    assert evaluation.trigger_rule == "all_done"
    assert {dag.get_task(name).partial_kwargs.get("queue") for name in trained} == {"default", "gpu"}


def test_a_task_that_is_killed_stops_its_fit_and_leaves_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millrace_airflow.operators.training import TrainModelOperator

    task = TrainModelOperator(
        task_id="train_candidate",
        use_case="flight_delay",
        partition="2013-03",
        candidate="xgboost",
        training_set={"table": "t", "version": 0},
    )
    run = FolderRun(folder=tmp_path)

    def train(*_: Any, stop: Any, run_key: str, **__: Any) -> None:
        assert run_key == "flight_delay_train/manual__1"
        run.stop = stop
        for step in range(10):
            run.report(step, {"loss": 1.0})
            if step == 4:
                run.save(Checkpoint(done=5, content=b""))
                task.on_kill()

    monkeypatch.setattr("millrace.step.candidate.train_candidate", train)
    pushed: list[Any] = []
    context = {
        "dag_run": SimpleNamespace(dag_id="flight_delay_train", run_id="manual__1"),
        "ti": SimpleNamespace(xcom_push=lambda **values: pushed.append(values)),
    }
    with pytest.raises(StopFitError):
        task.execute(context)
    assert FolderRun(folder=tmp_path).restore() == Checkpoint(done=5, content=b"")
    assert pushed == []
