"""What one step of a DAG file takes from another is told where the file is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk import DAG

from millrace.errors import SpecError
from millrace_airflow.groups import DomainDags, UseCaseDags


@pytest.fixture
def delay() -> Iterator[UseCaseDags]:
    """A use case, within a DAG."""
    with DAG("probe", schedule=None):
        yield UseCaseDags("flight_delay")


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a step left out": (lambda it: it.check_gates(it.build_training_set()), "evaluate_candidates"),
    "an XComArg": (lambda it: it.train_candidates(it.build_training_set().output), "build_training_set()"),
    "nothing": (lambda it: it.import_model(None), "build_training_set()"),
    "no list": (lambda it: it.evaluate_candidates(it.build_training_set(), None), "train_candidates"),
    "an empty list": (lambda it: it.evaluate_candidates(it.build_training_set(), []), "train_candidates"),
    "a candidate that is none": (
        lambda it: it.evaluate_candidates((rows := it.build_training_set()), [rows]),
        "train_candidates",
    ),
    "a deployment of no release": (lambda it: it.deploy_release(it.join_labels()), "release_model"),
    "drift for performance": (
        lambda it: it.decide_retraining((drift := it.measure_drift()), drift),
        "measure_performance()",
    ),
    "a text beside": (
        lambda it: it.decide_retraining(it.measure_drift(), it.measure_performance(), "skew"),
        "measure_skew()",
    ),
    "another use case's": (
        lambda it: it.train_candidates(UseCaseDags("flight_duration").build_training_set()),
        "build_training_set() of 'flight_delay'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_step_refuses_what_is_not_the_task_it_needs(delay: UseCaseDags, name: str) -> None:
    call, needed = WRONG[name]
    with pytest.raises(SpecError) as caught:
        call(delay)
    assert needed in caught.value.remedy
    assert "flight_delay" in caught.value.where


def test_each_step_to_the_release_needs_all_before_it(delay: UseCaseDags) -> None:
    rows = delay.build_training_set()
    evaluation = delay.evaluate_candidates(rows, delay.train_candidates(rows))
    verdict = delay.check_gates(evaluation)
    with pytest.raises(SpecError, match="'check_gates'"):
        delay.register_model(verdict, verdict)  # type: ignore[arg-type]
    registered = delay.register_model(evaluation, verdict)
    with pytest.raises(SpecError, match="'evaluate_candidates'"):
        delay.approve_release(evaluation, verdict, evaluation)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="'register_model'"):
        delay.release_model(evaluation, verdict, registered, registered)  # type: ignore[arg-type]


def test_a_domain_refuses_what_is_not_the_task_it_needs() -> None:
    flights = DomainDags("flights")
    with DAG("probe", schedule=None):
        other = flights.announce_features()
        for call, needed in (
            (flights.list_stale_partitions, "replay_quarantine()"),
            (flights.recompute, "list_stale_partitions"),
            (flights.request_partitions, "find_arrivals()"),
        ):
            with pytest.raises(SpecError) as caught:
                call(other)  # type: ignore[operator]
            assert needed in caught.value.remedy


def test_a_name_that_is_mistyped_is_told_without_what_led_to_it() -> None:
    with pytest.raises(SpecError, match="did you mean 'flights'") as caught:
        DomainDags("flightz")
    assert caught.value.__suppress_context__


def test_a_run_without_a_partition_is_told_a_key_of_its_own_domain() -> None:
    from millrace_airflow.operators.ingestion import IngestPartitionOperator

    task = IngestPartitionOperator(task_id="x", domain="flights", source="flights", partition="")
    with pytest.raises(SpecError) as caught:
        task.partition_key()
    assert caught.value.remedy.endswith("such as 2013-01")
