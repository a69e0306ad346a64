"""A cut-down story in the real Airflow, with no route out: four months, two use cases, one person asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from millrace.demo.service_check import check_service
from millrace.demo.story import Plan, Story
from millrace.demo.summary import summarize
from millrace.demo.watch import RunWatcher
from millrace.errors import ServiceError
from millrace.governance.approval import DIRTY_TREE
from millrace.governance.ledger import Ledger
from millrace.governance.release import Releases
from millrace.governance.waiver import record_waiver
from millrace.lake import Table
from millrace.local.prepare import read_password
from millrace.registry.mlflow_alias import delete_alias, get_aliases
from millrace.spec import load_domain, load_use_case
from tests.system.conftest import Running
from tests.system.people import wait_for_request

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
SOURCES = {"flights": 336_776}
_NEVER_SKIPPED = {
    *("ingest_partition", "validate_partition", "build_features", "materialize_view", "announce_features"),
    *("build_training_set", "train_candidate", "evaluate_candidates", "check_gates"),
    *("score_partition", "join_labels", "measure_performance", "decide_retraining"),
}
"""Tasks that read or write something in every run."""


@pytest.fixture(scope="module")
def plan(running: Running) -> Plan:
    use_case = load_use_case(running.settings.dags, "flight_delay")
    domain = load_domain(running.settings.dags, "flights")
    return Plan(domain=domain, use_case=use_case, first="2013-01", release="2013-03", last="2013-04")


@pytest.fixture(scope="module")
def watcher(running: Running) -> Iterator[RunWatcher]:
    with running.client() as client:
        yield RunWatcher(client, str(running.layout.airflow / "logs"))


@pytest.fixture(scope="module")
def summary(running: Running, plan: Plan, watcher: RunWatcher) -> dict[str, Any]:
    """The story, told once."""
    return tell(running, plan, watcher)


def tell(running: Running, plan: Plan, watcher: RunWatcher) -> dict[str, Any]:
    story = Story(plan, watcher)
    story.run()
    serving = check_service(plan.use_case, plan.domain, plan.last, settings=running.settings)
    return summarize(story, serving, dict(story.wall_s), total_s=0.0, settings=running.settings)


def state_of(running: Running) -> dict[str, Any]:
    """Versions of every table, releases and head of the ledger: what a second telling must not move."""
    lake = Path(running.settings.lake)
    names = sorted(str(path.parent.relative_to(lake)) for path in lake.rglob("_delta_log"))
    return {
        "tables": {name: Table(str(lake), name).version() for name in names},
        "releases": [release.to_dict() for release in Releases(running.settings).list("flight_delay")],
        "head": Ledger(running.settings).head(),
    }


def test_no_route_leads_out_of_the_machine() -> None:
    routes = Path("/proc/net/route").read_text(encoding="utf-8").splitlines()[1:]
    if routes:
        pytest.skip("no network namespace can be made here, so the story ran with the machine's network")
    assert routes == []


def test_no_row_is_lost_between_source_clean_and_quarantine(summary: dict[str, Any], plan: Plan) -> None:
    rows = summary["rows"]
    assert rows["source"] == 27_004 + 24_951 + 28_834 + 28_330
    assert rows["clean"] + rows["quarantined"] == rows["source"]


def test_the_first_release_serves_the_month_after_its_holdout(summary: dict[str, Any]) -> None:
    first = summary["releases"][0]
    assert (first["version"], first["trained_through"], first["released_for"]) == (1, "2013-02", "2013-04")
    assert 0.65 < first["auc"] < 0.85


def test_the_month_is_scored_whole_and_what_has_no_label_is_counted(summary: dict[str, Any]) -> None:
    (month,) = summary["months"]
    assert month["rows"] == 28_330
    assert 700 < month["unlabelled"] < 900
    assert 0.6 < month["auc_live"] == month["auc_first_release"]
    assert month["reasons"]


def test_the_service_answers_as_the_batch_does_by_vector_and_by_key(summary: dict[str, Any]) -> None:
    serving = summary["serving"]
    assert serving["requests"] == 1000
    assert serving["max_abs_diff_vs_batch"] <= 1e-6
    assert serving["max_abs_diff_by_key"] <= 1e-6


def test_every_decision_stands_in_a_whole_ledger(running: Running, summary: dict[str, Any]) -> None:
    assert summary["ledger"]["verified"]
    kinds = {entry.kind for entry in Ledger(running.settings).entries("flight_delay")}
    assert {"policy_fixed", "gates_evaluated", "registered", "approved", "released", "retrain_decided"} <= kinds


def test_no_task_failed_and_lineage_names_tables(running: Running, summary: dict[str, Any]) -> None:
    assert summary["airflow"]["failed"] == 0
    events = [orjson.loads(line) for line in running.layout.lineage.read_bytes().splitlines()]
    outputs = [item for event in events for item in event.get("outputs", [])]
    written = {item["name"] for item in outputs}
    assert {"flights/clean/flights", "flights/features/carrier_delays", "flight_delay/predictions"} <= written
    tables = [item for item in outputs if item["namespace"].endswith("/lake")]
    assert all({"version", "schema"} <= set(item["facets"]) for item in tables)
    silent = {
        event["job"]["name"].rpartition(".")[2]
        for event in events
        if event["eventType"] == "COMPLETE"
        and "." in event["job"]["name"]
        and not (event["inputs"] or event["outputs"])
    }
    assert not silent & _NEVER_SKIPPED


def test_pages_are_served_to_who_is_logged_in_and_to_nobody_else(running: Running, summary: dict[str, Any]) -> None:
    import httpx

    address = running.installation.addresses["airflow"]
    evidence = Releases(running.settings).list("flight_delay")[0].evidence
    assert httpx.get(f"{address}/millrace/evidence/{evidence}.html", trust_env=False).status_code == 401
    with running.client("viewer") as client:
        client.health()
        page = client._send("GET", f"/millrace/evidence/{evidence}.html")
        runbook = client._send("GET", "/millrace/docs/on_call")
        escape = client._send("GET", "/millrace/reports/..%2f..%2fenv.json", allow=(404,))
    assert "text/html" in page.headers["content-type"]
    assert "sandbox" in page.headers["content-security-policy"]
    assert '<h1 id="on-call">' in runbook.text
    assert '<h2 id="the-model-in-service-is-bad">' in runbook.text
    assert escape.status_code == 404


def test_telling_the_story_again_changes_nothing(
    running: Running, plan: Plan, watcher: RunWatcher, summary: dict[str, Any]
) -> None:
    before = state_of(running)
    again = tell(running, plan, RunWatcher(watcher.client, watcher.logs))
    assert state_of(running) == before
    assert again["rows"] == summary["rows"]
    assert again["releases"] == summary["releases"]
    assert again["months"] == summary["months"]


def test_the_second_use_case_needs_no_python_of_its_own(
    running: Running, watcher: RunWatcher, summary: dict[str, Any]
) -> None:
    watcher.remember("flight_duration_train")
    run = watcher.trigger("flight_duration_train", "2013-02")
    release = watcher.result(run, "release_model")
    assert (release["use_case"], release["version"], release["candidate"]) == ("flight_duration", 1, "lightgbm")
    assert watcher.result(run, "verify_deployment")["max_abs_diff"] <= 1e-6


def test_a_rejection_fails_the_run_and_releases_nothing(running: Running, summary: dict[str, Any]) -> None:
    with running.client() as admin, running.client("operator") as operator:
        run = admin.trigger("duration_reviewed_train", partition_key="2013-02")
        waiting = wait_for_request(admin, run)
        operator.answer(run["dag_id"], run["dag_run_id"], waiting, ["Reject"], params={"comment": "not in March"})
        ended = admin.wait_run(run["dag_id"], run["dag_run_id"], patience_s=120)
    assert ended["state"] == "failed"
    assert Releases(running.settings).list("duration_reviewed") == []
    rejected = [entry for entry in Ledger(running.settings).entries("duration_reviewed") if entry.kind == "rejected"]
    assert [(entry.actor, entry.payload["comment"]) for entry in rejected] == [("operator", "not in March")]


def test_an_owners_answer_opens_a_new_request_and_somebody_elses_releases(
    running: Running, summary: dict[str, Any]
) -> None:
    use_case = load_use_case(running.settings.dags, "duration_reviewed")
    with running.client() as admin, running.client("operator") as operator:
        run = admin.trigger("duration_reviewed_train", partition_key="2013-02")
        waiting = wait_for_request(admin, run)
        package = admin.xcom(run["dag_id"], run["dag_run_id"], "evaluate_candidates")["challenger"]["digest"]
        reason = "a test runs on any tree"
        record_waiver(
            use_case, DIRTY_TREE, package, reason, holdout="2013-02", actor="admin", settings=running.settings
        )
        (shown,) = admin.pending_answers(run["dag_id"], run["dag_run_id"])
        admin.answer(run["dag_id"], run["dag_run_id"], waiting, ["Approve"], params={"comment": "mine"})
        waiting = wait_for_request(admin, run, after=1)
        operator.answer(run["dag_id"], run["dag_run_id"], waiting, ["Approve"], params={"comment": "read the card"})
        ended = admin.wait_run(run["dag_id"], run["dag_run_id"], patience_s=180)
    assert ended["state"] == "success"
    for said in ("**RMSE**", "95 % interval", "policy medium: pass", "[Model card](", "May not approve: admin"):
        assert said in shown["body"]
    answers = {"approved", "approval_refused"}
    told = [entry for entry in Ledger(running.settings).entries("duration_reviewed") if entry.kind in answers]
    assert [(entry.kind, entry.actor) for entry in told] == [("approval_refused", "admin"), ("approved", "operator")]
    assert len(Releases(running.settings).list("duration_reviewed")) == 1


def test_rollback_by_a_person_puts_the_earlier_release_back_and_proves_it(
    running: Running, watcher: RunWatcher, plan: Plan, summary: dict[str, Any]
) -> None:
    releases = Releases(running.settings)
    if len(releases.list("flight_delay")) < 2:
        pytest.skip("the challenger of April was refused, so there is nothing to go back to")
    before = releases.in_force(plan.use_case)
    assert before is not None
    for version, reason in ((1, "trying the way back"), (before.version, "and forward again")):
        run = watcher.client.trigger("flight_delay_rollback", conf={"version": version, "reason": reason})
        ended = watcher.client.wait_run("flight_delay_rollback", run["dag_run_id"], patience_s=120)
        assert ended["state"] == "success"
        served = watcher.result(ended, "verify_deployment")
        assert (served["release"], served["max_abs_diff"] <= 1e-6) == (version, True)
    last = Ledger(running.settings).entries("flight_delay")[-2:]
    assert [(entry.kind, entry.actor) for entry in last] == [("rolled_back", "admin"), ("deployed", "admin")]


def test_an_alias_moved_by_hand_is_put_back_within_one_run_of_the_monitoring(
    running: Running, watcher: RunWatcher, summary: dict[str, Any]
) -> None:
    if (release := Releases(running.settings).in_force("flight_duration")) is None:
        pytest.skip("the second use case has no release")
    delete_alias("flight_duration", "champion", settings=running.settings)
    run = watcher.client.trigger("flight_duration_monitor", partition_key="2013-03")
    watcher.client.wait_run("flight_duration_monitor", run["dag_run_id"], patience_s=180)
    report = watcher.client.xcom("flight_duration_monitor", run["dag_run_id"], "reconcile_registry")
    assert get_aliases("flight_duration", settings=running.settings)["champion"] == release.registry_version
    (correction,) = report["corrections"]
    assert (correction["alias"], correction["found"]) == ("champion", "nothing")
    entry = Ledger(running.settings).entries("flight_duration", kinds=("alias_corrected",))[-1]
    assert (entry.seq, entry.actor) == (correction["entry"], "system")


def test_a_rollback_by_the_command_line_needs_a_login_and_bears_its_name(
    running: Running, tmp_path: Path, summary: dict[str, Any]
) -> None:
    environ = {**running.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    in_force = Releases(running.settings).in_force("flight_delay")
    assert in_force is not None
    words = ["rollback", "flight_delay", "--to", str(in_force.version), "--because", "trying it", "--json"]

    def run(*command: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "millrace.cli.main", *command]
        return subprocess.run(argv, env=environ, input=answer, capture_output=True, text=True, timeout=60, check=False)

    refused = run(*words)
    assert (refused.returncode, "There is no token of yours" in refused.stderr) == (1, True)
    login = run("login", "--user", "operator", answer=f"{read_password(running.layout, 'operator')}\n")
    assert (login.returncode, "as operator" in login.stdout) == (0, True), login.stderr
    for version, reason in ((1, "trying it"), (in_force.version, "and back")):
        done = run("rollback", "flight_delay", "--to", str(version), "--because", reason, "--json")
        told = orjson.loads(done.stdout.splitlines()[-1])
        assert (told["release"], told["pending"], told["max_abs_diff"] <= 1e-6) == (version, [], True)
    moved = Ledger(running.settings).entries("flight_delay", kinds=("rolled_back",))
    assert {entry.actor for entry in moved if entry.payload["reason"] in {"trying it", "and back"}} <= {"operator"}


def test_a_failing_stage_is_named_with_its_log(running: Running, watcher: RunWatcher) -> None:
    with pytest.raises(ServiceError) as caught:
        RunWatcher(watcher.client, watcher.logs).trigger("flights_data", "2014-06")
    assert "ingest_partition" in str(caught.value)
    assert "attempt=" in caught.value.where


def test_check_and_ledger_commands_answer_for_the_running_installation(running: Running) -> None:
    for command in (["check", "--json"], ["ledger", "verify", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "millrace.cli.main", *command],
            env=running.environ,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert orjson.loads(done.stdout.splitlines()[-1])
