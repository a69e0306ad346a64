"""The whole year through the command that people run, twice: what it promises, and that a second one moves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from millrace.governance.ledger import Ledger
from millrace.governance.release import Releases
from millrace.lake import Table
from millrace.settings import Settings
from tests.conftest import ROOT

pytestmark = [pytest.mark.system, pytest.mark.full, pytest.mark.timeout(1800)]
_NOT_OURS = ("MILLRACE_", "AIRFLOW", "MLFLOW_TRACKING")


def millrace(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "millrace.cli.main", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    var = Path(os.environ.get("MILLRACE_TEST_VAR") or tmp_path_factory.mktemp("year")) / "year"
    env = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
    env |= {"MILLRACE_ROOT": str(ROOT), "MILLRACE_VAR": str(var)}
    millrace(env, "clean")
    yield env
    assert millrace(env, "clean").returncode == 0


@pytest.fixture(scope="module")
def told(environ: dict[str, str]) -> list[dict[str, Any]]:
    """Summary and state after each of two tellings."""
    return [tell(environ), tell(environ)]


def tell(environ: dict[str, str]) -> dict[str, Any]:
    done = millrace(environ, "demo", "--json")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    settings = Settings.load(environ)
    lake = Path(settings.lake)
    names = sorted(str(path.parent.relative_to(lake)) for path in lake.rglob("_delta_log"))
    state = {
        "tables": {name: Table(str(lake), name).version() for name in names},
        "releases": [release.to_dict() for release in Releases(settings).list("flight_delay")],
        "head": Ledger(settings).head(),
    }
    return {"summary": orjson.loads(done.stdout.splitlines()[-1]), "state": state}


def test_every_flight_of_the_year_is_clean_or_quarantined(told: list[dict[str, Any]]) -> None:
    rows = told[0]["summary"]["rows"]
    assert rows["source"] == 336_776
    assert rows["clean"] + rows["quarantined"] == rows["source"]


def test_months_decide_for_and_against_and_gates_refuse_where_the_new_one_is_no_better(
    told: list[dict[str, Any]],
) -> None:
    summary = told[0]["summary"]
    decisions = [month["decision"] for month in summary["months"]]
    assert len(decisions) == 9
    assert {"keep", "retrained, released", "retrained, refused"} <= set(decisions)
    assert all(month["reasons"] for month in summary["months"])


def test_live_performance_is_reported_beside_the_first_release_kept(told: list[dict[str, Any]]) -> None:
    summary = told[0]["summary"]
    assert all(0.55 < month["auc_live"] < 0.9 for month in summary["months"])
    assert all(0.55 < month["auc_first_release"] < 0.9 for month in summary["months"])
    gain = summary["live_gain"]
    assert gain["low"] <= gain["auc"] <= gain["high"]


def test_service_and_batch_agree_and_nothing_failed(told: list[dict[str, Any]]) -> None:
    for item in told:
        summary = item["summary"]
        assert summary["serving"]["max_abs_diff_vs_batch"] <= 1e-6
        assert summary["serving"]["max_abs_diff_by_key"] <= 1e-6
        assert summary["ledger"]["verified"]
        assert summary["airflow"]["failed"] == 0


def test_a_second_demo_ends_with_the_same_tables_releases_and_ledger(told: list[dict[str, Any]]) -> None:
    first, second = told
    assert second["state"] == first["state"]
    for part in ("rows", "releases", "months", "live_gain"):
        assert second["summary"][part] == first["summary"][part], part
