"""Ingestion, killed at every point around its commits and in the middle of reading: running it again is exact."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.faults.points import KILLED
from tests.unit.shop import HEADER, ROWS

from millrace.lake import Table

KEY = "2020-01"
BAD = ROWS + "x,2020-01,eve,1,NA\n6,,eve,1,NA\n"
WORKER = """
import json, sys
from tests.faults.points import Points
from tests.unit.shop import make_domain

from millrace.lake import file, staging
from millrace.lake.table import Table
from millrace.settings import Settings
from millrace.step.ingestion import ingest_partition

var, source, die_at = sys.argv[1:4]
settings = Settings.load({"MILLRACE_VAR": var, "MILLRACE_DAGS": var})
points = Points(int(die_at))
points.around(Table, "replace_file")
points.around(Table, "_ensure")
points.around(file, "bring")
points.around(staging.StagedWriter, "close")
print("started", flush=True)
found = ingest_partition(make_domain(source), "orders", "2020-01", settings=settings)
print(json.dumps({"events": points.events, "line": found.line}), flush=True)
"""


def start(var: Path, source: Path, *, die_at: int = -1) -> subprocess.Popen[str]:
    var.mkdir(exist_ok=True)
    command = [sys.executable, "-c", WORKER, str(var), str(source), str(die_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def finish(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    out, _ = process.communicate(timeout=300)
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


@pytest.mark.full
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


@pytest.mark.full
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


@pytest.mark.full
def test_processes_at_once_leave_one_result(tmp_path: Path) -> None:
    source = tmp_path / "orders.csv"
    source.write_text(HEADER + BAD)
    for process in [start(tmp_path / "var", source) for _ in range(4)]:
        finish(process)
    finish(start(tmp_path / "alone", source))
    assert outcome(tmp_path / "var") == outcome(tmp_path / "alone")
