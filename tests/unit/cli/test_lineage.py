"""`millrace lineage`: what people see in 80 columns, the JSON beside it, and the exit status."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.unit.step import store as stores
from tests.unit.step.store import Store
from tests.unit.step.test_logged_prediction import score
from typer.testing import CliRunner

from millrace.cli.main import _app
from millrace.errors import LineageError
from millrace.settings import Settings
from millrace.step.column_use import trace_column

DAYS = ("--from", "2020-02-01", "--to", "2020-02-29")


@pytest.fixture
def store(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Store:
    made = stores.make(tmp_path / "store", settings)
    for name, value in {"VAR": settings.var, "DAGS": made.settings.dags}.items():
        monkeypatch.setenv(f"MILLRACE_{name}", str(value))
    monkeypatch.setenv("COLUMNS", "80")
    made.clean()
    return made


def run(*argv: str, code: int = 0) -> str:
    result = CliRunner().invoke(_app, ["lineage", *argv])
    assert result.exit_code == code, (result.output, result.exception)
    assert all(len(line) <= 80 for line in result.output.splitlines() if not line.startswith("{"))
    return result.output


def document(*argv: str, code: int = 0) -> Any:
    return json.loads(run(*argv, "--json", code=code).splitlines()[-1])


def test_a_column_is_told_as_a_tree_and_as_one_document(store: Store) -> None:
    told = run("column", "orders.amount", *DAYS)
    for text in ("store.orders.amount", "2020-02: 60 clean rows", "feature table spending", "of the row: amount"):
        assert text in told
    found = document("column", "orders.amount", *DAYS)
    assert found["clean"]["features"][0]["features"] == ["spent"]
    assert found["end"] == ""
    assert "nothing is computed from it" in run("column", "orders.order", *DAYS)


def test_one_day_is_asked_for_by_from_alone_and_a_wrong_one_is_refused(store: Store) -> None:
    assert document("column", "orders.amount", "--from", "2020-02-03")["clean"]["last"] == "2020-02-03"
    assert "no date such as" in run("column", "orders.amount", "--from", "2020-02", code=2)


def test_days_beyond_the_calendar_are_refused_in_words(store: Store) -> None:
    with pytest.raises(LineageError, match="beyond the years") as raised:
        trace_column("orders.amount", date(1, 1, 1), date(2020, 2, 1), settings=store.settings)
    assert "1000-01-01" in raised.value.remedy


def test_a_prediction_whose_way_is_broken_is_told_and_ends_with_status_one(store: Store) -> None:
    store.release()
    score(store.settings, "P1", 1, use_case="again")
    told = run("prediction", "P1", code=1)
    assert "again/1/P1" in told
    assert "release 1 (baseline), by admin in ledger entry 1" in told
    assert "broken: nobody approved package" in told
    found = document("prediction", "P1", code=1)
    assert found["prediction"]["id"] == "again/1/P1"
    assert len(found["breaks"]) >= 4
