"""Validation and replay, killed at every point around their commits: running them again gives exactly the same."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.faults.points import KILLED
from tests.unit.shop import HEADER, ROWS

from millrace.governance.ledger import Ledger
from millrace.lake import Table
from millrace.settings import Settings
from millrace.validation.quarantine import read_quarantine

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
KEY = "2020-01"
BAD = (
    ROWS
    + "5,2020-01,,12,2020-01-05T10:00:00Z\n6,2020-01,,99,2020-01-05T11:00:00Z\nx,2020-01,a,1,2020-01-01T00:00:00Z\n"
)
WORKER = """
import json, os, sys, time
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.points import Points
from tests.unit.shop import make_domain

from millrace.governance.ledger import Ledger
from millrace.lake import file
from millrace.lake.table import Table
from millrace.settings import Settings
from millrace.step.ingestion import ingest_partition
from millrace.step.replay import replay
from millrace.step.validation import validate_partition

work, var, source, die_at, gate = sys.argv[1:6]
settings = Settings.load({"MILLRACE_VAR": var, "MILLRACE_DAGS": var})
AMOUNT = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "amount", "min_value": 0, "max_value": 35},
    "on_failure": "quarantine",
    "id": "amount",
}
NAMED = {
    "type": "expect_column_values_to_not_be_null",
    "kwargs": {"column": "customer"},
    "on_failure": "quarantine",
    "id": "named",
}
domain = make_domain(source, contract=[AMOUNT, NAMED])
points = Points(int(die_at), tell=True)


def spy():
    for owner, name in ((Table, "replace"), (Table, "replace_file"), (Ledger, "append"), (file, "bring")):
        points.around(owner, name)


now = datetime(2020, 1, 6, tzinfo=UTC)
if work == "validate":
    ingest_partition(domain, "orders", "2020-01", settings=settings, now=now)
    spy()
    found = validate_partition(domain, "orders", "2020-01", settings=settings, now=now).to_dict()
else:
    if gate:
        import millrace.validation.gx_validator

        Path(gate).with_suffix(f".{os.getpid()}").touch()
        while not Path(gate).exists():
            time.sleep(0.005)
    spy()
    by = "ann" if work == "replay" else work
    found = replay(
        domain, "orders", settings=settings, action="waive", by=by, reason="walk-in", reasons=["named"], now=now
    ).to_dict()
print(json.dumps({"events": points.events, "found": found}), flush=True)
"""


def start(work: str, settings: Settings, source: Path, *, die_at: int = -1, gate: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, work, str(settings.var), str(source), str(die_at), gate]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def finish(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    out, _ = process.communicate()
    assert process.returncode == code, out
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def outcome(settings: Settings) -> dict[str, Any]:
    """All that must not depend on whether anything was killed."""
    entries = read_quarantine(Table(settings.lake, "shop/quarantine/orders"), KEY)[2]
    kept = entries.drop_columns(["raw_version"]).to_pylist()
    clean = Table(settings.lake, "shop/clean/orders").read().to_pylist()
    assert len({row["order"] for row in clean}) == len(clean)
    decisions = Ledger(settings).entries("shop")
    assert Ledger(settings).verify().verified
    return {"quarantine": kept, "clean": clean, "ledger": [entry.payload for entry in decisions]}


def place(settings: Settings, tmp_path: Path, name: str) -> Settings:
    var = tmp_path / name
    var.mkdir()
    return dataclasses.replace(
        settings, var=var, lake=str(var / "lake"), reports=var / "reports", state_url=f"sqlite:///{var / 'state.db'}"
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text(HEADER + BAD)
    return path


@pytest.mark.parametrize("work", ["validate", "replay"])
def test_killed_at_any_point_and_run_again_the_outcome_is_the_same(
    settings: Settings, tmp_path: Path, source: Path, work: str
) -> None:
    before, whole = place(settings, tmp_path, "before"), place(settings, tmp_path, "whole")
    if work == "replay":
        finish(start("validate", before, source))
        shutil.copytree(before.var, whole.var, dirs_exist_ok=True)
    events = finish(start(work, whole, source))["events"]
    expected = outcome(whole)
    assert len(expected["clean"]) == (2 if work == "validate" else 4)
    assert {"after replace", "before replace_file", "before bring"} <= set(events)
    for number, event in enumerate(events):
        killed = place(settings, tmp_path, f"killed{number}")
        shutil.copytree(before.var, killed.var, dirs_exist_ok=True)
        told = finish(start(work, killed, source, die_at=number), KILLED)
        assert told["killed"] == event
        again = finish(start(work, killed, source))["found"]
        assert outcome(killed) == expected, event
        if work == "replay":
            assert again["stale"] == [KEY], event
        else:
            assert again["rows_in"] == again["rows_clean"] + again["rows_quarantined"], event


def test_a_replay_that_was_killed_is_completed_by_the_next_validation(
    settings: Settings, tmp_path: Path, source: Path
) -> None:
    whole, killed = place(settings, tmp_path, "whole"), place(settings, tmp_path, "killed")
    for where in (whole, killed):
        finish(start("validate", where, source))
    events = finish(start("replay", whole, source))["events"]
    finish(start("replay", killed, source, die_at=events.index("after replace")), KILLED)
    finish(start("validate", killed, source))
    assert outcome(killed) == outcome(whole)


@pytest.mark.parametrize("others", [("replay", "replay"), ("replay", "bob"), ("replay", "validate")])
def test_two_processes_at_once_merge_once(
    settings: Settings, tmp_path: Path, source: Path, others: tuple[str, str]
) -> None:
    finish(start("validate", settings, source))
    gate = tmp_path / "gate"
    ours = [start(work, settings, source, gate="" if work == "validate" else str(gate)) for work in others]
    waiting = sum(work != "validate" for work in others)
    while len(list(tmp_path.glob("gate.*"))) < waiting:
        assert all(process.poll() is None for process, work in zip(ours, others, strict=True) if work != "validate")
        time.sleep(0.02)
    gate.touch()
    found = [finish(process)["found"] for process in ours]
    merged = [told["merged"] for told, work in zip(found, others, strict=True) if work != "validate"]
    assert sorted(merged) == [0] * (waiting - 1) + [2]
    told = outcome(settings)
    assert [row["order"] for row in told["clean"]] == [1, 2, 5, 6]
    assert len(told["ledger"]) >= 1
    assert sorted(row["status"] for row in told["quarantine"]) == ["closed", "closed", "open", "open"]
