"""Who acts by the CLI: Airflow's own login says so, and nobody else."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest
from tests.airflow_users import PASSWORDS, Users
from typer.testing import CliRunner

from millrace.cli.actor import acting_person, read_logins
from millrace.cli.main import _app
from millrace.errors import IdentityError, MillraceError, ServiceError
from millrace.governance.ledger import Ledger
from millrace.local.environment import inherit_environment
from millrace.settings import Settings


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, users: Users) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MILLRACE_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("MILLRACE_AIRFLOW_URL", users.url)
    monkeypatch.delenv("MILLRACE_AIRFLOW_TOKEN", raising=False)
    return tmp_path / "home" / "millrace" / "logins.json"


def who() -> str:
    return acting_person(Settings.load())


def refused(kind: type[MillraceError], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        who()
    assert caught.value.remedy


def test_without_a_token_nobody_acts() -> None:
    refused(IdentityError, "There is no token of yours")


def test_the_name_is_what_airflow_says_a_token_is_of(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_AIRFLOW_TOKEN", f"{users.token('olive')}\n")
    assert who() == "olive"


@pytest.mark.parametrize("broken", ["guessed", "a.b.c", "with a space", "ö"])
def test_a_token_that_airflow_does_not_take_is_refused(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_AIRFLOW_TOKEN", broken)
    refused(IdentityError, "does not take your token|no token has")


def test_a_token_that_was_changed_is_refused(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    head, _, signature = users.token("ann").split(".")
    claims = users.token("olive").split(".")[1]
    monkeypatch.setenv("MILLRACE_AIRFLOW_TOKEN", ".".join((head, claims, signature)))
    refused(IdentityError, "does not take your token")


def test_a_token_that_ran_out_is_refused(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_AIRFLOW_TOKEN", users.token("ann", kind="/cli"))
    time.sleep(1.1)
    refused(IdentityError, "Token Expired")


def test_an_airflow_that_is_away_names_nobody(monkeypatch: pytest.MonkeyPatch, users: Users) -> None:
    monkeypatch.setenv("MILLRACE_AIRFLOW_TOKEN", users.token("ann"))
    monkeypatch.setenv("MILLRACE_AIRFLOW_URL", "http://127.0.0.1:9")
    refused(ServiceError, "Airflow does not answer")


def test_a_login_is_kept_for_this_person_alone_and_forgotten_again(home: Path, users: Users) -> None:
    done = CliRunner().invoke(_app, ["login", "--user", "ann"], input=f"{PASSWORDS['ann']}\n")
    assert done.exit_code == 0, done.output
    assert done.output.strip() == f"logged in to {users.url} as ann"
    assert PASSWORDS["ann"] not in home.read_text()
    assert stat.S_IMODE(home.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700
    assert who() == "ann"
    home.chmod(0o644)
    refused(IdentityError, "can read your tokens")
    home.chmod(0o600)
    assert "logged out of" in CliRunner().invoke(_app, ["logout"]).output
    refused(IdentityError, "no token of yours")
    assert "nobody was logged in" in CliRunner().invoke(_app, ["logout"]).output


def test_a_token_made_elsewhere_can_be_kept_once_airflow_knows_it(home: Path, users: Users) -> None:
    wrong = CliRunner().invoke(_app, ["login", "--with-token"], input="nonsense\n")
    assert isinstance(wrong.exception, IdentityError)
    assert not home.exists()
    done = CliRunner().invoke(_app, ["login", "--with-token"], input=users.token("paul") + "\n")
    assert done.output.strip().endswith("as paul")
    assert list(read_logins(Settings.load())) == [users.url]


def test_a_wrong_password_is_refused_in_words(home: Path) -> None:
    found = CliRunner().invoke(_app, ["login", "--user", "ann"], input="guess\n")
    assert isinstance(found.exception, IdentityError)
    assert "Invalid credentials" in str(found.exception)
    assert not home.exists()


def test_a_damaged_file_of_tokens_is_an_error_in_words(home: Path) -> None:
    home.parent.mkdir(parents=True)
    home.write_text("[1]")
    home.chmod(0o600)
    refused(IdentityError, "cannot be read")


def test_a_persons_token_does_not_go_to_the_services() -> None:
    kept = inherit_environment({"MILLRACE_AIRFLOW_TOKEN": "secret", "MILLRACE_LAKE": "s3://lake"})
    assert "MILLRACE_AIRFLOW_TOKEN" not in kept
    assert kept["MILLRACE_LAKE"] == "s3://lake"


@pytest.mark.parametrize(
    "words",
    [
        ["rollback", "flight_delay", "--because", "too slow"],
        ["replay", "flights", "flights", "--yes"],
    ],
)
def test_an_act_without_a_name_is_refused_before_anything_is_done(words: list[str], tmp_path: Path) -> None:
    found = CliRunner().invoke(_app, words)
    assert isinstance(found.exception, IdentityError)
    assert not Ledger(Settings.load()).entries()
    assert not (tmp_path / "var" / "lake").exists()
