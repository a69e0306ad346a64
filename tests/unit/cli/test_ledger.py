from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.governance.test_release import add, roll_back
from typer.testing import CliRunner

from millrace.cli.ledger import app
from millrace.governance.ledger import Ledger
from millrace.governance.migration import HEAD
from millrace.settings import Settings

T = datetime(2013, 4, 1, 4, tzinfo=UTC)


@pytest.fixture
def ledger(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("MILLRACE_VAR", str(settings.var))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("STATE_URL", "ROOT"):
        monkeypatch.delenv(f"MILLRACE_{name}", raising=False)
    add(settings, "flight_delay", 1, T)
    add(settings, "flight_delay", 2, T + timedelta(days=90))
    roll_back(settings, "flight_delay", 1, T + timedelta(days=120), "a")
    return Ledger(settings)


def run(*argv: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(argv))
    assert result.exit_code == code, result.output
    return result.output


def document(*argv: str, code: int = 0) -> Any:
    return json.loads(run(*argv, "--json", code=code).splitlines()[-1])


def test_verify_says_whole_or_names_the_row_and_fails(ledger: Ledger) -> None:
    assert "whole" in run("verify")
    assert document("verify") == {"entries": 3, "verified": True, "broken": None, "head": ledger.head()}
    assert document("verify", "--expected-head", ledger.head())["verified"]
    assert document("verify", "--expected-head", "f" * 64, code=1)["broken"]["seq"] == 4
    connection = sqlite3.connect(ledger.settings.state_url.removeprefix("sqlite:///"))
    connection.execute("UPDATE ledger SET actor = 'admim' WHERE seq = 2")
    connection.commit()
    connection.close()
    assert "at entry 2" in run("verify", code=1)
    assert document("verify", code=1)["broken"]["seq"] == 2


def test_show_lists_the_newest_decisions(ledger: Ledger) -> None:
    assert [entry["seq"] for entry in document("show", "--limit", "2")] == [2, 3]
    assert [entry["kind"] for entry in document("show", "--kind", "rolled_back")] == ["rolled_back"]
    assert document("show", "--use-case", "nothing") == []
    assert "oncall" in run("show")


@pytest.mark.parametrize(
    ("at", "version"),
    [("2013-03-01", None), ("2013-05-01", 1), ("2013-07-15T12:00:00+02:00", 2), ("2014-01-01", 1)],
)
def test_as_of_says_what_served(ledger: Ledger, at: str, version: int | None) -> None:
    found = document("as-of", at, "--use-case", "flight_delay")
    assert (found["release"] or {}).get("version") == version
    shown = run("as-of", at, "--use-case", "flight_delay")
    assert ("Nothing of flight_delay" if version is None else f"{version} (xgboost") in shown


def test_as_of_by_wall_time(ledger: Ledger) -> None:
    assert document("as-of", "2014-01-01", "--use-case", "flight_delay", "--recorded")["release"] is None
    assert document("as-of", "2999-01-01", "--use-case", "flight_delay", "--recorded")["release"]["version"] == 1


def test_as_of_refuses_what_is_no_date(ledger: Ledger) -> None:
    assert "no date" in run("as-of", "soon", "--use-case", "flight_delay", code=2)


def test_export_writes_lines_and_says_the_head(ledger: Ledger, tmp_path: Path) -> None:
    said = document("export", "--output", str(tmp_path / "ledger.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3]
    assert said["head"] == lines[-1]["hash"] == ledger.head()
    printed = run("export").splitlines()
    assert [json.loads(line) for line in printed] == lines


def test_migrate_says_the_revision_and_can_be_repeated(ledger: Ledger) -> None:
    assert document("migrate") == document("migrate") == {"revision": HEAD}
    assert document("verify")["verified"]
