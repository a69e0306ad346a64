from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.cli.conftest import ActAs
from tests.unit.deployment.conftest import House, house, sealed
from tests.unit.step.champion import put_two_in_service
from typer.testing import CliRunner

from millrace.cli.main import _app
from millrace.errors import ReleaseRefusedError, SpecError
from millrace.governance.ledger import Ledger
from millrace.governance.rollback import Rollback, restore
from millrace.settings import Settings

__all__ = ["house", "sealed"]


@pytest.fixture
def installed(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act_as: ActAs) -> House:
    put_two_in_service(house, tmp_path)
    for name in ("root", "var", "dags", "packages", "serving_dir", "serving_url", "serving_token"):
        monkeypatch.setenv(f"MILLRACE_{name.upper()}", str(getattr(house.settings, name)))
    act_as("olive")
    return house


def test_a_rollback_says_what_it_did_and_the_ledger_who_and_why(installed: House) -> None:
    words = ["rollback", "flight_delay", "--because", "too slow"]
    foreseen = CliRunner().invoke(_app, [*words, "--dry-run"]).output.splitlines()
    assert [line.split(" (")[0] for line in foreseen] == [
        "flight_delay: in force: release 2",
        "flight_delay: would be: release 1",
    ]
    assert not Ledger(installed.settings).entries(kinds=("rolled_back",))
    found = CliRunner().invoke(_app, words)
    assert found.exit_code == 0, (found.output, found.exception)
    lines = found.output.splitlines()
    assert lines[0] == "flight_delay: from release 2 to 1"
    assert [line.split(":")[0] for line in lines[1:]] == ["  done"] * 4
    moved = Ledger(installed.settings).entries(kinds=("rolled_back",))[-1]
    assert (moved.actor, moved.payload["reason"]) == ("olive", "too slow")
    again = CliRunner().invoke(_app, [*words, "--json"])
    told = json.loads(again.output.splitlines()[-1])
    assert (told["release"], told["replaced"], told["rows"]) == (1, 1, len(installed.packages[0].golden))

    installed.live.process.terminate()
    installed.live.process.wait(120)
    pending = CliRunner().invoke(_app, ["rollback", "flight_delay", "--to", "2", "--because", "a mistake"])
    assert pending.exit_code == 3
    assert "pending: release 2 of 'flight_delay' is pending" in pending.output

    assert isinstance(CliRunner().invoke(_app, [*words, "--to", "7"]).exception, ReleaseRefusedError)
    assert isinstance(CliRunner().invoke(_app, ["rollback", "flight", "--because", "x"]).exception, SpecError)
    assert CliRunner().invoke(_app, ["rollback", "flight_delay"]).exit_code == 2


@pytest.mark.parametrize("reason", ["", " \n", "no", " no   "])
def test_what_is_no_reason_is_refused_before_airflow_is_asked_who_it_is(
    installed: House, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setenv("MILLRACE_AIRFLOW_URL", "http://127.0.0.1:9")
    found = CliRunner().invoke(_app, ["rollback", "flight_delay", "--because", reason])
    assert isinstance(found.exception, ReleaseRefusedError)
    assert "reason" in found.exception.what


def test_what_somebody_else_does_while_airflow_is_asked_is_not_done_twice(
    installed: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(settings: Settings) -> str:
        restore(settings, installed.spec, Rollback(version=1, reason="r", actor="bob", key="k"))
        return "olive"

    monkeypatch.setattr("millrace.cli.actor.acting_person", ask)
    found = CliRunner().invoke(_app, ["rollback", "flight_delay", "--because", "too slow"])
    assert isinstance(found.exception, ReleaseRefusedError)
    assert "release 2 is not in force any more, 1 is" in found.exception.what
