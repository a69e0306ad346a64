from __future__ import annotations

import errno
from pathlib import Path

import pytest

from millrace.cli import main


def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    monkeypatch.setattr("sys.argv", ["millrace", *argv])
    with pytest.raises(SystemExit) as caught:
        main.app()
    assert caught.value.code == 1
    return capsys.readouterr().err


@pytest.fixture(autouse=True)
def own_var(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MILLRACE_VAR", str(tmp_path / "var"))


def test_a_database_that_is_away_is_a_sentence_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MILLRACE_STATE_URL", "postgresql+psycopg2://me:secret@127.0.0.1:1/millrace")
    told = fails(monkeypatch, capsys, "ledger", "verify")
    assert told.startswith("StateUnavailableError the state database does not answer")
    assert "`make up`" in told
    assert "secret" not in told
    assert "Traceback" not in told


def test_a_fault_of_the_file_system_is_a_sentence_with_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/var/lake/a.parquet")

    monkeypatch.setattr("millrace.local.stack.clean", full)
    told = fails(monkeypatch, capsys, "clean")
    assert told.startswith("SettingsError No space left on device")
    assert "/var/lake/a.parquet" in told
    assert "free some space" in told
