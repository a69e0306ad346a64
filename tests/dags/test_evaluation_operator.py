"""Evaluation after a failed build of the training set names that, not tasks that never ran."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from millrace.errors import EvaluationError

CONTEXT = {"run_id": "manual__1", "ti": SimpleNamespace(xcom_push=lambda **_: None)}


def refused(partition: str) -> EvaluationError:
    from millrace_airflow.operators.evaluation import EvaluateCandidatesOperator

    operator = EvaluateCandidatesOperator(
        task_id="evaluate_candidates",
        use_case="flight_delay",
        partition=partition,
        training_set=None,
        candidates=[[None]],
        failures=[[None]],
    )
    with pytest.raises(EvaluationError) as caught:
        operator.execute(CONTEXT)
    return caught.value


def test_the_task_that_failed_first_is_named() -> None:
    error = refused("2013-03")
    assert error.what == "build_training_set gave no training set, so no candidate was trained"
    assert error.where == "use case 'flight_delay', partition 2013-03"
    assert "log of build_training_set" in error.remedy


def test_a_run_without_a_partition_is_told_as_that() -> None:
    error = refused("")
    assert "the run carries no partition" in error.what
    assert error.where == "use case 'flight_delay', run manual__1"
    assert "trigger the DAG anew with a partition key" in error.remedy
