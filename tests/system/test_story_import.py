"""A model from elsewhere in the real Airflow: by the command line in, past a person, out to the online service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
import yaml

from millrace.demo.watch import RunWatcher
from millrace.governance.approval import DIRTY_TREE
from millrace.governance.ledger import Ledger
from millrace.governance.release import Releases
from millrace.governance.waiver import record_waiver
from millrace.lake import Table
from millrace.local.airflow_client import AirflowClient
from millrace.spec import UseCaseSpec, load_use_case
from tests.system.conftest import Running
from tests.system.people import log_in, millrace, wait_for_request
from tests.unit.package.onnx_models import linear

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
USE_CASE, HOLDOUT = "duration_bought", "2013-02"
SLOPE, LEVEL = 0.117, 18.0


@pytest.fixture(scope="module")
def admin(running: Running) -> Iterator[AirflowClient]:
    with running.client() as client:
        yield client


@pytest.fixture(scope="module")
def spec(running: Running) -> UseCaseSpec:
    return load_use_case(running.settings.dags, USE_CASE)


@pytest.fixture(scope="module")
def months(running: Running, admin: AirflowClient) -> None:
    """The months it is proven and measured on; the story has mostly brought them already."""
    there = Table(running.settings.lake, "flights/clean/flights")
    watcher = RunWatcher(admin, str(running.layout.airflow / "logs"))
    for month in ("2013-01", HOLDOUT):
        if not there.exists() or month not in there.partitions():
            watcher.trigger("flights_data", month)


@pytest.fixture(scope="module")
def asked(
    running: Running, admin: AirflowClient, spec: UseCaseSpec, months: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The run that `millrace import` started in the operator's name, as it waits for a person."""
    home = tmp_path_factory.mktemp("rail lab")
    (home / "durations.onnx").write_bytes(linear([[SLOPE]], [LEVEL], classes=None, columns=["distance"]))
    declared = {
        "name": "rail_lab",
        "source": "rail lab, build 12",
        "problem": "regression",
        "trained_through": "2013-01",
        "inputs": [{"type": "number", "name": "distance", "missing": 1000.0}],
        "ignores": [name for name in spec.features.columns if name != "distance"],
    }
    (home / "signature.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
    words = ["--signature", str(home / "signature.yaml"), "--holdout", HOLDOUT, "--json"]
    done = millrace(log_in(running, "operator", home), "import", USE_CASE, str(home / "durations.onnx"), *words)
    assert done.returncode == 0, done.stderr
    told = orjson.loads(done.stdout.splitlines()[-1])
    assert told["by"] == "operator"
    run = admin.run(f"{USE_CASE}_import", told["run"])
    wait_for_request(admin, run)
    return run


def test_a_model_from_elsewhere_is_asked_for_with_its_origin(admin: AirflowClient, asked: dict[str, Any]) -> None:
    (shown,) = admin.pending_answers(asked["dag_id"], asked["dag_run_id"])
    for said in ("comes from **rail lab, build 12", "May not approve: admin (owner of the use case); operator"):
        assert said in shown["body"]


def test_a_request_that_was_cleared_while_it_waited_is_asked_again_and_counts_once(
    running: Running, admin: AirflowClient, spec: UseCaseSpec, asked: dict[str, Any]
) -> None:
    dag_id, run_id = asked["dag_id"], asked["dag_run_id"]
    package = admin.xcom(dag_id, run_id, "evaluate_candidates")["challenger"]["digest"]
    words = "a test runs on any tree"
    record_waiver(spec, DIRTY_TREE, package, words, holdout=HOLDOUT, actor="admin", settings=running.settings)
    clear(admin, asked, "request_approval_1")
    waiting = wait_for_request(admin, asked, after=1)
    with running.client("reviewer") as reviewer:
        reviewer.answer(dag_id, run_id, waiting, ["Approve"], params={"comment": "read the card"})
    assert admin.wait_run(dag_id, run_id, patience_s=180)["state"] == "success"
    clear(admin, asked, "request_approval_1")
    assert admin.wait_run(dag_id, run_id, patience_s=120)["state"] == "success"
    told = Ledger(running.settings).entries(USE_CASE, kinds=("approval_requested", "approved"))
    assert [(entry.kind, entry.actor) for entry in told] == [
        ("approval_requested", "operator"),
        ("approval_requested", "operator"),
        ("approved", "reviewer"),
    ]


def test_the_released_model_answers_as_its_formula_does(
    running: Running, spec: UseCaseSpec, asked: dict[str, Any]
) -> None:
    (release,) = Releases(running.settings).list(USE_CASE)
    assert (release.candidate, release.trained_through) == ("rail_lab", "2013-01")
    row = {**dict.fromkeys(spec.features.columns), "distance": 400.0}
    address = f"{running.installation.addresses['serving']}/invocations/{USE_CASE}"
    answer = httpx.post(address, json={"dataframe_records": [row]}, trust_env=False)
    assert answer.json()["predictions"] == pytest.approx([SLOPE * 400 + LEVEL], abs=1e-4)


def clear(client: AirflowClient, run: dict[str, Any], task: str) -> None:
    """Clear one task of a run, as a person does in the grid."""
    body = {"dry_run": False, "dag_run_id": run["dag_run_id"], "task_ids": [task], "only_failed": False}
    client.post(f"/api/v2/dags/{run['dag_id']}/clearTaskInstances", {**body, "reset_dag_runs": True})
