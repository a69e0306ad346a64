from __future__ import annotations

from typing import Any, cast

import pytest

from millrace.demo import watch
from millrace.demo.watch import RunWatcher
from millrace.errors import ServiceError
from millrace.local.airflow_client import AirflowClient


class _Airflow:
    """One DAG whose backfill and run end after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def runs(self, dag_id: str, *, states: tuple[str, ...]) -> list[dict[str, Any]]:
        assert states == ("queued", "running")
        self.looks -= 1
        return [{"dag_run_id": "backfill__1", "partition_key": "2013-02"}] if self.looks > 1 else []

    def open_backfills(self, dag_id: str) -> list[dict[str, Any]]:
        return [{"id": 7}] if self.looks > 0 else []


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PAUSE_S", 0.0)


def settle(airflow: _Airflow, **options: Any) -> list[str]:
    told: list[str] = []
    RunWatcher(cast("AirflowClient", airflow), "logs").settle("flights_data", tell=told.append, **options)
    return told


def test_what_an_interrupted_story_left_under_way_is_waited_for() -> None:
    airflow = _Airflow(looks=4)
    assert settle(airflow) == ["waiting for flights_data 2013-02"]
    assert airflow.looks == 0


def test_nothing_under_way_is_not_waited_for() -> None:
    assert settle(_Airflow(looks=0)) == []


def test_what_never_ends_is_named_with_a_remedy() -> None:
    with pytest.raises(ServiceError, match=r"flights_data 2013-02, backfill 7 of flights_data") as caught:
        settle(_Airflow(looks=10**9), patience_s=0.0)
    assert "unpause the DAG" in caught.value.remedy


def test_a_step_is_told_once_all_of_it_ended() -> None:
    def task(name: str, state: str, end: str, index: int = -1) -> dict[str, Any]:
        return {"task_id": name, "state": state, "end_date": end, "map_index": index}

    tasks = [
        task("build_features", "success", "2013-01-01T00:00:09Z"),
        task("ingest_partition", "success", "2013-01-01T00:00:02Z", 0),
        task("ingest_partition", "success", "2013-01-01T00:00:03Z", 1),
        task("validate_partition", "success", "2013-01-01T00:00:05Z", 0),
        task("validate_partition", "running", "", 1),
        task("replay", "skipped", "2013-01-01T00:00:01Z"),
        task("announce", "failed", "2013-01-01T00:00:10Z"),
    ]
    assert list(watch.ended_steps(tasks).values()) == ["ingest_partition (2)", "build_features", "announce FAILED"]
