from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cli.conftest import ActAs
from tests.unit.training.synthetic import make_job, make_use_case, training_rows
from typer.testing import CliRunner

from millrace.cli import main
from millrace.governance.ledger import Ledger
from millrace.settings import Settings
from millrace.training import train_package


@pytest.fixture
def installed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, path in (("ROOT", settings.root), ("VAR", settings.var), ("DAGS", settings.dags)):
        monkeypatch.setenv(f"MILLRACE_{name}", str(path))
    return settings


def test_a_release_that_is_not_there_is_an_error_in_words(installed: Settings) -> None:
    found = CliRunner().invoke(main._app, ["rebuild", "flight_delay", "--version", "3"])
    assert found.exit_code == 1
    assert "has no release 3" in str(found.exception)


def test_newer_data_has_nothing_to_verify(installed: Settings) -> None:
    found = CliRunner().invoke(main._app, ["rebuild", "flight_delay", "--version", "1", "--verify", "--on", "2013-11"])
    assert found.exit_code == 2
    assert "nothing to compare" in found.output


def test_a_waiver_is_written_for_a_package_that_is_there(installed: Settings, act_as: ActAs) -> None:
    act_as("olive")
    use_case = make_use_case("binary", dummy={"trainer": "baseline"})
    rows = training_rows(use_case, ["2020-01", "2020-02"])
    job = make_job(use_case, "dummy", holdout="2013-03")
    package = train_package(job, rows, store=installed.packages).package
    arguments = ["waive", "flight_delay", package.digest, "--because", "a demo"]
    found = CliRunner().invoke(main._app, arguments)
    assert found.exit_code == 0, found.output
    entry = Ledger(installed).entries("flight_delay", kinds=("waiver",))[-1]
    assert (entry.subject, entry.actor, entry.payload["rule"]) == (package.digest, "olive", "dirty_tree")
    refused = CliRunner().invoke(main._app, [*arguments[:3], "--because", " "])
    assert refused.exit_code == 1


def test_a_lock_is_refused_before_anything_is_built(installed: Settings, tmp_path: Path) -> None:
    (tmp_path / "loose.txt").write_text("numpy>=2\n")
    found = CliRunner().invoke(main._app, ["environment", "build", str(tmp_path / "loose.txt")])
    assert found.exit_code == 1
    assert "no exact pin" in str(found.exception)
    assert not (installed.var / "environments").exists()
