"""Ingestion, killed at every point around its commits and in the middle of reading: running it again is exact."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.faults.points import KILLED
from tests.unit.shop import HEADER, ROWS, make_domain

from millrace.governance.ledger import Ledger
from millrace.lake import Table
from millrace.settings import Settings
from millrace.step.validation import validate_partition

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
KEY = "2020-01"
BAD = ROWS + "x,2020-01,eve,1,NA\n6,,eve,1,NA\n"
WORKER = """
import json, sys
from tests.faults.points import Points
from tests.unit.shop import make_domain

from millrace.governance.ledger import Ledger
from millrace.lake import file, staging
from millrace.lake.table import Table
from millrace.settings import Settings
from millrace.step.ingestion import ingest_partition

var, source, die_at, by = sys.argv[1:5]
state = f"sqlite:///{var}/state.db"
settings = Settings.load({"MILLRACE_VAR": var, "MILLRACE_DAGS": var, "MILLRACE_STATE_URL": state})
points = Points(int(die_at))
points.around(Table, "replace_file")
points.around(Table, "_ensure")
points.around(file, "bring")
points.around(staging.StagedWriter, "close")
points.around(Ledger, "append")
print("started", flush=True)
domain = make_domain(source, late={"policy": "correction"})
found = ingest_partition(domain, "orders", "2020-01", settings=settings, by=by or None)
print(json.dumps({"events": points.events, "line": found.line}), flush=True)
"""


def start(var: Path, source: Path, *, die_at: int = -1, by: str = "") -> subprocess.Popen[str]:
    var.mkdir(exist_ok=True)
    command = [sys.executable, "-c", WORKER, str(var), str(source), str(die_at), by]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def finish(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    out, _ = process.communicate()
    assert process.returncode == code, out
    found: dict[str, Any] = json.loads(out.splitlines()[-1]) if not code else {}
    return found


def outcome(var: Path) -> dict[str, Any]:
    """All that must not depend on whether anything was killed: rows, records, and what their notes say."""
    raw, rejected = (Table(str(var / "lake"), f"shop/{kind}/orders") for kind in ("raw", "rejected"))
    found = raw.note(KEY)
    assert found is not None
    rows = raw.read(partitions=[KEY]).sort_by("order").to_pydict()
    records = rejected.read(version=int(found[1]["rejected"]), partitions=[KEY]).to_pylist()
    nowhere = rejected.read(partitions=["unassigned"]).to_pylist()
    return {"digest": found[0].digest, "rows": rows, "records": records, "nowhere": nowhere}


def test_killed_at_any_point_and_run_again_the_rows_are_the_same(tmp_path: Path) -> None:
    source = tmp_path / "orders.csv"
    source.write_text(HEADER + BAD)
    events = finish(start(tmp_path / "whole", source))["events"]
    expected = outcome(tmp_path / "whole")
    assert expected["rows"]["order"] == [1, 2, 4]
    assert (len(expected["records"]), len(expected["nowhere"])) == (1, 1)
    assert events.count("before bring") == 3
    for number, event in enumerate(events):
        var = tmp_path / f"killed{number}"
        finish(start(var, source, die_at=number), KILLED)
        finish(start(var, source))
        assert outcome(var) == expected, event


def test_killed_while_it_reads_and_writes_a_large_file_the_rows_are_the_same(tmp_path: Path) -> None:
    source = tmp_path / "orders.csv"
    with source.open("w") as file:
        file.write(HEADER)
        file.writelines(f"{n},2020-01,customer {n},{n % 40},2020-01-01T00:00:00Z\n" for n in range(600_000))
    for delay in (0.0, 0.15, 0.3, 0.5, 0.8):
        process = start(tmp_path / "var", source)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finish(start(tmp_path / "var", source))
    table = Table(str(tmp_path / "var" / "lake"), "shop/raw/orders")
    assert table.read(columns=["order"])["order"].to_numpy().sum() == 600_000 * 599_999 // 2
    assert int(table.open().count()) == 600_000


def test_processes_at_once_leave_one_result(tmp_path: Path) -> None:
    source = tmp_path / "orders.csv"
    source.write_text(HEADER + BAD)
    for process in [start(tmp_path / "var", source) for _ in range(4)]:
        finish(process)
    finish(start(tmp_path / "alone", source))
    assert outcome(tmp_path / "var") == outcome(tmp_path / "alone")


def told(var: Path) -> list[tuple[str, str, dict[str, Any]]]:
    state = f"sqlite:///{var}/state.db"
    settings = Settings.load({"MILLRACE_VAR": str(var), "MILLRACE_DAGS": str(var), "MILLRACE_STATE_URL": state})
    return [(entry.kind, entry.actor, entry.payload) for entry in Ledger(settings).entries()]


def test_killed_between_its_commit_and_the_ledger_the_next_run_whoever_starts_it_makes_the_entries_good(
    tmp_path: Path,
) -> None:
    source = tmp_path / "orders.csv"
    source.write_text(HEADER + ROWS)
    finish(start(tmp_path / "published", source))
    settings = Settings.load({"MILLRACE_VAR": str(tmp_path / "published"), "MILLRACE_DAGS": str(tmp_path)})
    validate_partition(make_domain(source), "orders", KEY, settings=settings)
    source.write_text(HEADER + BAD + "7,2020-01,eve,1,2020-01-09T00:00:00Z\n")
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "published", whole)
    events = finish(start(whole, source, by="ann"))["events"]
    expected = told(whole)
    assert [entry[:2] for entry in expected] == [("partition_ingested", "ann"), ("correction_opened", "system")]
    committed = max(number for number, event in enumerate(events) if event == "after replace_file")
    for number, entries in ((committed, 0), (events.index("after append"), 1)):
        var = tmp_path / f"killed{number}"
        shutil.copytree(tmp_path / "published", var)
        finish(start(var, source, die_at=number, by="ann"), KILLED)
        assert told(var) == expected[:entries]
        finish(start(var, source))
        assert told(var) == expected
