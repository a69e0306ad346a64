"""The embedded installation, started for real in a path with a space: up, work, crash, down, nothing left."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from millrace.errors import SettingsError
from millrace.local import process, stack
from millrace.local.airflow_client import AirflowClient, AirflowError
from millrace.local.layout import Layout
from millrace.local.prepare import Installation, load_installation, read_password
from millrace.local.record import read_record

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.system, pytest.mark.full, pytest.mark.timeout(400)]
_DAG = '''
"""A chain of empty tasks."""
from airflow.sdk import dag, task

@task
def note(number: int) -> dict:
    import sys
    wanted = ("great_expectations", "feast", "evidently", "mlflow")
    return {"number": number, "warm": [name for name in wanted if name in sys.modules]}

@dag(schedule=None)
def chain_of_four():
    last = None
    for number in range(4):
        this = note.override(task_id=f"note_{number}")(number)
        last >> this if last is not None else None
        last = this

chain_of_four()
'''


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    home = tmp_path_factory.mktemp("a house")
    (home / "dags").mkdir()
    (home / "dags" / "chain.py").write_text(_DAG)
    layout = Layout(root=ROOT, var=home / "var with space", dags=home / "dags")
    yield layout
    stack.clean(layout)


@pytest.fixture(scope="module")
def installation(layout: Layout) -> Installation:
    found, started = stack.up(layout, _environ(), dag_ids=("chain_of_four",))
    assert started
    with AirflowClient(found.addresses["airflow"], "admin", read_password(layout)) as client:
        client.post("/api/v2/variables", {"key": "kept", "value": "across a restart"})
    return found


@pytest.fixture
def client(layout: Layout, installation: Installation) -> Iterator[AirflowClient]:
    with AirflowClient(installation.addresses["airflow"], "admin", read_password(layout)) as client:
        yield client


def _run_chain(client: AirflowClient) -> str:
    run_id = str(client.trigger("chain_of_four")["dag_run_id"])
    run = client.wait_run("chain_of_four", run_id, patience_s=120)
    assert run["state"] == "success"
    return run_id


def test_a_run_goes_through_with_the_heavy_imports_paid_already(client: AirflowClient) -> None:
    run_id = _run_chain(client)
    assert {task["state"] for task in client.tasks("chain_of_four", run_id)} == {"success"}
    value = client.xcom("chain_of_four", run_id, "note_3")
    assert value == {"number": 3, "warm": ["great_expectations", "feast", "evidently", "mlflow"]}
    assert client.xcom("chain_of_four", run_id, "note_3", key="no_such") is None


def test_a_second_up_starts_nothing(layout: Layout, installation: Installation) -> None:
    before = read_record(layout)
    found, started = stack.up(layout, _environ())
    assert not started
    assert found == installation
    after = read_record(layout)
    assert before is not None
    assert after is not None
    assert after.identities() == before.identities()


def test_up_with_another_port_is_refused_while_it_runs(layout: Layout, installation: Installation) -> None:
    with pytest.raises(SettingsError, match="already"):
        stack.up(layout, {**_environ(), "MILLRACE_AIRFLOW_PORT": str(installation.ports["airflow"] + 1)})


def test_every_service_listens_on_loopback_only(layout: Layout, installation: Installation) -> None:
    record = read_record(layout)
    assert record is not None
    ours = {one.pid for one in process.members([record.supervisor, *record.identities()])}
    listening = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in ours]
    assert {c.laddr.port for c in listening} >= set(installation.ports.values())
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}


def test_a_viewer_may_not_start_a_run(layout: Layout, installation: Installation) -> None:
    with AirflowClient(installation.addresses["airflow"], "viewer", read_password(layout, "viewer")) as viewer:
        assert viewer.knows("chain_of_four")
        with pytest.raises(AirflowError, match="403"):
            viewer.trigger("chain_of_four")


def test_a_killed_scheduler_comes_back_and_leaves_no_idle_worker(layout: Layout, client: AirflowClient) -> None:
    record = read_record(layout)
    assert record is not None
    old = record.services["scheduler"].identity
    assert old is not None
    os.kill(old.pid, signal.SIGKILL)

    def restarted() -> bool:
        found = read_record(layout)
        return found is not None and found.services["scheduler"].restarts == 1

    assert process.wait_until(restarted, 120.0)
    _run_chain(client)
    assert process.wait_until(lambda: not process.members([old]), 120.0)


def test_down_leaves_nothing_and_a_taken_port_is_refused(layout: Layout, installation: Installation) -> None:
    record = read_record(layout)
    assert record is not None
    ours = process.members([record.supervisor, *record.identities()])
    assert len(ours) > 8
    assert stack.down(layout)
    assert not [one for one in ours if process.is_alive(one)]
    assert not [one for one in psutil.process_iter() if str(layout.var) in " ".join(_words(one))]
    assert not stack.down(layout)

    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(SettingsError, match="is taken"):
            stack.up(layout, {**_environ(), "MILLRACE_MLFLOW_PORT": str(server.getsockname()[1])})
    assert not stack.is_running(layout)


def test_of_two_at_once_one_starts_it_and_state_survived(layout: Layout, installation: Installation) -> None:
    stack.down(layout)
    started: list[bool] = []
    callers = [threading.Thread(target=lambda: started.append(stack.up(layout, _environ())[1])) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(started) == [False, True]
    with AirflowClient(load_installation(layout).addresses["airflow"], "admin", read_password(layout)) as client:
        assert client.get("/api/v2/variables/kept")["value"] == "across a restart"
    assert stack.down(layout)


def _words(one: psutil.Process) -> list[str]:
    try:
        return list(one.cmdline())
    except psutil.Error:
        return []
