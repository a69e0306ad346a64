from __future__ import annotations

import dataclasses
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.unit.governance.proposal import record_proven
from tests.unit.governance.test_release import add, roll_back
from typer.testing import CliRunner

from millrace.cli import ledger as cli
from millrace.cli.ledger import app
from millrace.errors import LedgerError
from millrace.governance.ledger import Ledger
from millrace.governance.migration import HEAD
from millrace.governance.release import Releases
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
    assert "did you mean 'released'" in run("show", "--kind", "releaesd", code=2)
    assert "did you mean 'flight_delay'" in run("show", "--use-case", "fligth_delay", code=2)
    assert "oncall" in run("show")


@pytest.mark.parametrize(
    ("at", "version"),
    [("2013-03-01", None), ("2013-05-01", 1), ("2013-07-15T12:00:00+02:00", 2), ("2014-01-01", 1)],
)
def test_as_of_says_what_served(ledger: Ledger, at: str, version: int | None) -> None:
    found = document("as-of", at, "--use-case", "flight_delay")
    assert (found["release"] or {}).get("version") == version
    shown = run("as-of", at, "--use-case", "flight_delay")
    assert ("Nothing of flight_delay" if version is None else f"{version} (xgboost)") in shown


def test_as_of_by_wall_time(ledger: Ledger) -> None:
    assert document("as-of", "2014-01-01", "--use-case", "flight_delay", "--recorded")["release"] is None
    assert document("as-of", "2999-01-01", "--use-case", "flight_delay", "--recorded")["release"]["version"] == 1


def test_as_of_refuses_what_is_no_date(ledger: Ledger) -> None:
    assert "no date" in run("as-of", "soon", "--use-case", "flight_delay", code=2)


@pytest.mark.parametrize(
    "argv",
    [
        ("as-of", "2013-05-01", "--use-case", "fligth_delay"),
        ("as-of", "2013-05-01", "--use-case", "[/x]"),
        ("as-of", "0001-01-01T00:00+05:00", "--use-case", "flight_delay"),
        ("as-of", "9999-12-31", "--use-case", "flight_delay"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_not_stumbled_over(ledger: Ledger, argv: tuple[str, ...]) -> None:
    assert "Invalid value" in run(*argv, code=2)


def test_a_date_is_its_end_where_the_data_lives(ledger: Ledger) -> None:
    """T is midnight of 2013-04-01 in New York."""

    def version(at: str) -> int | None:
        return (document("as-of", at, "--use-case", "flight_delay")["release"] or {}).get("version")

    assert [version(at) for at in ("2013-03-31", "2013-04-01")] == [None, 1]
    assert [version(at) for at in ("2013-04-01T00:00", "2013-04-01T04:00", "2013-04-01T00:00-04:00")] == [None, 1, 1]


def test_an_export_that_fails_leaves_the_copy_that_is_there(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "ledger.jsonl"
    run("export", "--output", str(copy))
    kept = copy.read_bytes()
    connection = sqlite3.connect(ledger.settings.state_url.removeprefix("sqlite:///"))
    connection.execute("UPDATE ledger SET payload = '{' WHERE seq = 3")
    connection.commit()
    connection.close()
    run("export", "--output", str(copy), code=1)
    assert copy.read_bytes() == kept
    assert list(tmp_path.glob(".ledger*")) == []


def test_export_writes_lines_and_says_the_head(ledger: Ledger, tmp_path: Path) -> None:
    said = document("export", "--output", str(tmp_path / "ledger.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3]
    assert said["head"] == lines[-1]["hash"] == ledger.head()
    printed = run("export").splitlines()
    assert [json.loads(line) for line in printed] == lines


def test_decisions_and_provenance_are_readable_at_80_columns(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = dataclasses.replace(Releases(settings).list("flight_delay")[0], version=3, use_case="flight_duration")
    made = record_proven(settings, release)
    (settings.var / "evidence" / f"{made.evidence}.html").write_text("A card.")
    monkeypatch.setattr(cli, "_console", Console(width=80))
    listed = run("show").splitlines()
    assert max(map(len, listed)) <= 80
    rows = [line.split() for line in listed if line.strip()[:1].isdigit() and "decisions" not in line]
    assert [row[0] for row in rows] == [str(number) for number in range(1, 8)]
    assert rows[3] == ["4", "2013-04-01", "gates_evaluated", "flight_duration", release.package[:12], "system"]
    assert "flight_duration" not in run("show", "--use-case", "flight_duration")
    told = run("as-of", "2013-05-01", "--use-case", "flight_duration")
    assert max(map(len, told.splitlines())) <= 80
    joined = "".join(part.strip() for part in told.splitlines())
    for word in ("#7 released by test", "policy:test", "#4 pass", made.evidence, f"{made.evidence}.html", "whole"):
        assert word.replace(" ", "") in joined.replace(" ", "")


def test_as_of_says_what_is_no_longer_proven(ledger: Ledger) -> None:
    assert "not proven" in run("as-of", "2013-05-01", "--use-case", "flight_delay")
    found = document("as-of", "2013-05-01", "--use-case", "flight_delay")
    assert (found["proven"], "names no verdict" in found["fault"]) == (False, True)


def test_one_decision_is_shown_with_all_that_was_written(ledger: Ledger) -> None:
    assert document("entry", "3")["payload"] == {"version": 1}
    assert "oncall" in run("entry", "3")
    connection = sqlite3.connect(ledger.settings.state_url.removeprefix("sqlite:///"))
    connection.execute("UPDATE ledger SET actor = 'admim' WHERE seq = 2")
    connection.commit()
    connection.close()
    result = CliRunner().invoke(app, ["entry", "3"])
    assert isinstance(result.exception, LedgerError)
    assert "entry 2" in str(result.exception)


@pytest.mark.parametrize("number", ["4", "99999999999999999999"])
def test_a_number_that_no_decision_has_is_refused_with_those_there_are(ledger: Ledger, number: str) -> None:
    result = CliRunner().invoke(app, ["entry", number])
    assert isinstance(result.exception, LedgerError)
    assert (result.exception.what, result.exception.remedy) == (f"there is no entry {number}", "name one of 1 to 3")


def test_migrate_says_the_revision_and_can_be_repeated(ledger: Ledger) -> None:
    assert document("migrate") == document("migrate") == {"revision": HEAD}
    assert document("verify")["verified"]
