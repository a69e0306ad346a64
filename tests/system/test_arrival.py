"""A folder is watched in the real Airflow: files arrive, runs start by themselves, rows come back from quarantine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.lake import Table
from millrace.local.airflow_client import AirflowClient
from tests.drops import write_drops, write_readings
from tests.system.conftest import Running

pytestmark = [pytest.mark.system, pytest.mark.full, pytest.mark.timeout(600)]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def folder(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The watched folder, with two months in it; the domain is taken out of the installation afterwards."""
    folder = tmp_path_factory.mktemp("drop")
    write_drops(running.layout.dags, folder)
    with running.client() as client:
        names = [f"drops_{kind}" for kind in ("data", "replay", "arrivals")]
        _wait(lambda: all(client.knows(name) for name in names), 120)
    write_readings(folder / "2024-02.csv", bad=2)
    write_readings(folder / "2024-01.csv", bad=1)
    yield folder
    (running.layout.dags / "drops.py").unlink()


@pytest.fixture
def client(running: Running) -> Iterator[AirflowClient]:
    with running.client() as client:
        yield client


def _wait(holds: Callable[[], bool], patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.5)


def _done(client: AirflowClient, key: str, runs: int = 1) -> bool:
    found = [run for run in client.runs("drops_data", partition_key=key) if run["state"] in {"success", "failed"}]
    return len(found) >= runs


def _rows(running: Running, table: str, key: str) -> int:
    return int(Table(running.settings.lake, f"drops/{table}").read(partitions=[key]).num_rows)


def _replay(client: AirflowClient, **form: Any) -> tuple[Json, list[Json]]:
    run = client.trigger("drops_replay", conf={"source": "readings", **form})
    ended = client.wait_run("drops_replay", run["dag_run_id"], patience_s=180)
    return ended, client.tasks("drops_replay", run["dag_run_id"])


def test_files_start_a_run_for_each_of_their_partitions_the_earliest_first(
    running: Running, client: AirflowClient, folder: Path
) -> None:
    _wait(lambda: _done(client, "2024-01") and _done(client, "2024-02"), 240)
    runs = {run["partition_key"]: run for run in client.runs("drops_data")}
    assert set(runs) == {"2024-01", "2024-02"}
    assert {run["state"] for run in runs.values()} == {"success"}
    assert {run["run_type"] for run in runs.values()} == {"asset_triggered"}
    assert runs["2024-01"]["start_date"] < runs["2024-02"]["start_date"]
    assert (_rows(running, "clean/readings", "2024-01"), _rows(running, "clean/readings", "2024-02")) == (83, 82)
    verdict = client.xcom("drops_data", runs["2024-02"]["dag_run_id"], "readings.ingest_partition", key="verdict")
    assert verdict == "84 rows"


def test_a_file_that_changes_starts_its_partition_again_and_others_do_not_run(
    client: AirflowClient, folder: Path
) -> None:
    write_readings(folder / "2024-02.csv", days=29, bad=2)
    _wait(lambda: _done(client, "2024-02", runs=2), 120)
    assert len(client.runs("drops_data", partition_key="2024-01")) == 1


def test_triggered_by_hand_it_asks_for_nothing_that_is_there(client: AirflowClient, folder: Path) -> None:
    run = client.trigger("drops_arrivals")
    assert client.wait_run("drops_arrivals", run["dag_run_id"], patience_s=120)["state"] == "success"
    states = {task["task_id"]: task["state"] for task in client.tasks("drops_arrivals", run["dag_run_id"])}
    assert states == {"find_arrivals": "skipped", "request_partition": "skipped"}
    verdict = client.xcom("drops_arrivals", run["dag_run_id"], "find_arrivals", key="verdict")
    assert verdict == "nothing new; in the lake already: 2024-01, 2024-02"


def test_a_waiver_without_a_reason_is_refused(client: AirflowClient, folder: Path) -> None:
    run, tasks = _replay(client, action="waive")
    assert run["state"] == "failed"
    assert {task["task_id"]: task["try_number"] for task in tasks}["replay_quarantine"] == 1


def test_waived_rows_become_clean_and_each_stale_partition_is_computed_anew(
    running: Running, client: AirflowClient, folder: Path
) -> None:
    asset = client.get("/api/v2/assets", name_pattern="drops/features")["assets"][0]["id"]
    before = client.get("/api/v2/assets/events", asset_id=asset)["total_entries"]
    run, tasks = _replay(client, action="waive", reason="the sensor was right", partitions=["2024-02"])
    assert run["state"] == "success"
    assert _rows(running, "clean/readings", "2024-02") == 87
    assert _rows(running, "clean/readings", "2024-01") == 83
    recomputed = [task for task in tasks if task["task_id"].startswith("recompute.")]
    assert {task["state"] for task in recomputed} == {"success"}
    events = client.get("/api/v2/assets/events", asset_id=asset, order_by="-timestamp")["asset_events"]
    assert "2024-02" in {event["partition_key"] for event in events[: len(events) - before]}
