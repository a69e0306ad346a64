"""Alerts reach a service of Apprise, or the log; and the task that has something to tell goes on."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update
from tests.unit.deployment.conftest import sealed
from tests.unit.step.champion import Champions, champions

from millrace import settings as settings_module
from millrace.errors import ReleaseRefusedError
from millrace.governance.ledger import Ledger
from millrace.governance.state import RELEASE, writing
from millrace.registry.mlflow_alias import get_aliases, set_alias

__all__ = ["champions", "sealed"]
Received = list[dict[str, Any]]
UNATTENDED = {"train", "score", "monitor", "data", "arrivals"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """What a service got that the connection names."""
    received: Received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connect(monkeypatch, f"json://127.0.0.1:{server.server_port}")
    yield received
    server.shutdown()
    server.server_close()


def connect(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    given = {"conn_type": "apprise", "extra": {"config": {"path": address}}}
    monkeypatch.setenv("AIRFLOW_CONN_MILLRACE_ALERTS", json.dumps(given))


def test_an_alert_says_what_happened_and_where_the_runbook_is(receiver: Received) -> None:
    from millrace_airflow.notifiers.alert import send_alert

    assert send_alert("flight_delay: look", "alias moved", anchor="uc_monitor")
    (alert,) = receiver
    assert (alert["title"], alert["type"]) == ("flight_delay: look", "warning")
    assert alert["message"].startswith("alias moved\n\nRunbook: ")
    assert alert["message"].endswith("/millrace/docs/on_call#uc_monitor")


def test_as_a_callback_it_names_the_task_and_its_error(receiver: Received) -> None:
    from airflow.sdk import DAG

    from millrace_airflow.notifiers.alert import AlertNotifier

    context = {
        "dag": DAG("flight_delay_train"),
        "ti": SimpleNamespace(task_id="check_gates"),
        "partition_key": "2013-03",
        "exception": ValueError("no rows"),
    }
    AlertNotifier()(context)
    (alert,) = receiver
    assert alert["title"] == "Millrace: flight_delay_train failed"
    assert "flight_delay_train, task check_gates, partition 2013-03: no rows" in alert["message"]


def test_a_secret_in_an_error_does_not_leave(receiver: Received) -> None:
    from airflow.sdk.log import mask_secret

    from millrace_airflow.notifiers.alert import send_alert

    mask_secret("correct-horse-battery")
    address = json.loads(os.environ["AIRFLOW_CONN_MILLRACE_ALERTS"])["extra"]["config"]["path"]
    assert send_alert("look", f"postgresql://mill:correct-horse-battery@db refused, told to {address}")
    (alert,) = receiver
    assert alert["message"].startswith("postgresql://mill:***@db refused, told to ***\n")


def failed_run(dag_id: str, partition: str) -> Any:
    """What the scheduler asks the DAG processor for when a run has failed."""
    from airflow.callbacks.callback_requests import DagCallbackRequest, DagRunContext

    about = {"dag_id": dag_id, "run_id": f"asset__{partition}"}
    run = {
        **about,
        "logical_date": None,
        "data_interval_start": None,
        "data_interval_end": None,
        "run_after": NOW,
        "start_date": NOW,
        "end_date": NOW,
        "clear_number": 0,
        "run_type": "asset_triggered",
        "state": "failed",
        "consumed_asset_events": [],
        "partition_key": partition,
    }
    failed = {**about, "id": uuid4(), "task_id": "build_training_set", "try_number": 1, "dag_version_id": uuid4()}
    context = DagRunContext.model_validate({"dag_run": run, "last_ti": failed})
    where = {"filepath": f"{dag_id}.py", "bundle_name": "dags", "bundle_version": None, "msg": "task_failure"}
    return DagCallbackRequest(**about, **where, context_from_server=context)


def test_each_failed_run_of_a_dag_that_nobody_watches_is_told_once(dag_bag: Any, receiver: Received) -> None:
    import structlog
    from airflow.dag_processing.processor import _execute_dag_callbacks

    for partition in ("2013-03", "2013-04"):
        _execute_dag_callbacks(dag_bag, failed_run("flight_delay_train", partition), structlog.get_logger())
    assert [alert["title"] for alert in receiver] == ["Millrace: flight_delay_train failed"] * 2
    for alert, partition in zip(receiver, ("2013-03", "2013-04"), strict=True):
        assert f"flight_delay_train, task build_training_set, partition {partition}: its log has" in alert["message"]
        assert f"/dags/flight_delay_train/runs/asset__{partition}" in alert["message"]
        assert alert["message"].endswith("/millrace/docs/on_call#uc_train")
    told = {name for name, dag in dag_bag.dags.items() if dag.on_failure_callback}
    assert told == {name for name in dag_bag.dags if name.rpartition("_")[2] in UNATTENDED}


def test_stale_features_are_told(receiver: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    from millrace.features.freshness import FreshnessReport
    from millrace_airflow.operators.monitoring import MeasureFreshnessOperator

    found = FreshnessReport(use_case="flight_delay", partition="2013-03").unreachable("the online store is away")
    monkeypatch.setattr("millrace.step.freshness.watch_freshness", lambda *_, **__: found)
    watch = MeasureFreshnessOperator(task_id="measure_freshness", use_case="flight_delay", partition="2013-03")
    assert watch.execute({}) == found.to_dict()
    (alert,) = receiver
    assert alert["title"] == "flight_delay: features in the online store are unreachable"
    assert "2013-03: Freshness is not known: the online store is away." in alert["message"]


def test_a_fault_on_the_way_to_the_connection_stays_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.sdk import BaseHook

    from millrace_airflow.notifiers.alert import send_alert

    def refuse(*_: Any) -> Any:
        raise RuntimeError("the API server has gone")

    monkeypatch.setattr(BaseHook, "get_connection", refuse)
    assert not send_alert("flight_delay: look", "alias moved")
    assert "alias moved" in caplog.text


@pytest.mark.parametrize(
    ("address", "said"), [(None, "has no connection"), ("json://127.0.0.1:9", "not delivered"), ("", "is wrong")]
)
def test_an_alert_that_nobody_gets_is_a_warning_in_the_log(
    address: str | None, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from millrace_airflow.notifiers.alert import send_alert

    if address:
        connect(monkeypatch, address)
    elif address == "":
        monkeypatch.setenv("AIRFLOW_CONN_MILLRACE_ALERTS", json.dumps({"conn_type": "apprise"}))
    assert not send_alert("flight_delay: look", "alias moved")
    assert "alias moved" in caplog.text
    assert said in caplog.text


# --- the reconciler tells


@pytest.fixture
def installed(champions: Champions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Champions]:
    for name in ("root", "var", "dags", "packages", "serving_url"):
        monkeypatch.setenv(f"MILLRACE_{name.upper()}", str(getattr(champions.settings, name)))
    settings_module.settings.cache_clear()
    yield champions
    settings_module.settings.cache_clear()


def run_operator() -> tuple[dict[str, Any], str]:
    from millrace_airflow.operators.monitoring import ReconcileRegistryOperator

    told: list[str] = []
    context = {
        "dag_run": SimpleNamespace(dag_id="flight_delay_monitor", run_id="manual__1"),
        "ti": SimpleNamespace(xcom_push=lambda *, key, value: told.append(value)),
    }
    operator = ReconcileRegistryOperator(task_id="reconcile_registry", use_case="flight_delay")
    return operator.execute(context), told[-1]


def test_an_alias_moved_by_hand_is_told_recorded_and_put_back(installed: Champions, receiver: Received) -> None:
    set_alias("flight_delay", "champion", 1, settings=installed.settings)
    report, verdict = run_operator()
    assert get_aliases("flight_delay", settings=installed.settings)["champion"] == 2
    (alert,) = receiver
    assert "MLflow's alias 'champion' named version 1, the ledger says version 2" in alert["message"]
    assert report["alarms"][0] in verdict
    entry = Ledger(installed.settings).entries(kinds=("alias_corrected",))[-1]
    assert entry.key.startswith("flight_delay_monitor/manual__1/champion")
    assert len(json.dumps(report)) < 4096


def test_a_ledger_that_proves_nothing_is_told_and_fails_this_task(installed: Champions, receiver: Received) -> None:
    with writing(installed.settings) as connection:
        connection.execute(update(RELEASE).where(RELEASE.c.version == 2).values(threshold=0.9))
    with pytest.raises(ReleaseRefusedError):
        run_operator()
    assert "nothing proves what is in force" in receiver[0]["title"]


def test_the_runbook_has_the_headings_that_alerts_link_to() -> None:
    from millrace_airflow.pages import _document

    page = _document(Path(__file__).resolve().parents[2] / "docs", "on_call").body.decode()
    dags = [*(f"uc_{kind}" for kind in ("train", "score", "monitor")), "domain_data", "domain_arrivals"]
    for anchor in (*dags, "uc_rollback", "the-ledger-is-broken"):
        assert f'id="{anchor}"' in page
