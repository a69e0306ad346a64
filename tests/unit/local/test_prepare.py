"""`prepare`: secrets once and private, nothing of Airflow's for others, clear refusals."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import orjson
import pytest

from millrace.errors import SettingsError
from millrace.local.environment import inherit_environment
from millrace.local.layout import MARKER, Layout
from millrace.local.postgres import socket_folder
from millrace.local.prepare import load_installation, prepare, read_password
from millrace.local.user import DEFAULTS
from millrace.settings import Settings, readers


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    root = tmp_path / "a house"
    (root / "dags").mkdir(parents=True)
    return Layout(root=root, var=root / "var", dags=root / "dags")


def test_secrets_are_readable_by_their_owner_only(layout: Layout) -> None:
    prepare(layout, {})
    private = [layout.environment, *layout.secrets.iterdir()]
    assert len(private) == 6
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in private)
    assert stat.S_IMODE(layout.secrets.stat().st_mode) == 0o700


def test_preparing_twice_changes_no_secret(layout: Layout) -> None:
    first = prepare(layout, {})
    assert prepare(layout, {}).environment == first.environment
    assert load_installation(layout) == first


def test_users_that_are_set_come_beside_the_default_ones_and_stay(layout: Layout) -> None:
    prepare(layout, {})
    before = {user: read_password(layout, user) for user in DEFAULTS}
    assert len(set(before.values())) == 4
    found = prepare(layout, {"MILLRACE_USERS": "anna:op, ben.oak@x:user"})
    assert found.users == {**DEFAULTS, "anna": "op", "ben.oak@x": "user"}
    assert found.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].endswith("anna:op,ben.oak@x:user")
    assert {user: read_password(layout, user) for user in DEFAULTS} == before
    assert read_password(layout, "anna") != read_password(layout, "ben.oak@x")
    assert prepare(layout, {}).users == found.users
    assert prepare(layout, {"MILLRACE_USERS": ""}).users == DEFAULTS


def test_two_people_may_approve_besides_the_owner_of_the_demos_use_cases() -> None:
    others = [user for user, role in DEFAULTS.items() if role in {"op", "admin"} and user != "admin"]
    assert others == ["operator", "reviewer"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("anna", "'anna' is no user and role"),
        ("anna:boss", "is no user and role"),
        ("an na:op", "is no user's name"),
        ("System:op", "stands for nobody"),
        ("admin:viewer", "admin stays an admin"),
        ("Operator:op", "one person's name in two spellings"),
        ("anna:viewer,anna:op", "'anna' is there twice"),
    ],
)
def test_a_user_that_is_none_is_refused(layout: Layout, text: str, what: str) -> None:
    with pytest.raises(SettingsError, match=what) as caught:
        prepare(layout, {"MILLRACE_USERS": text})
    assert (caught.value.where, bool(caught.value.remedy)) == ("MILLRACE_USERS", True)


def test_passwords_that_cannot_be_read_are_not_replaced(layout: Layout) -> None:
    prepare(layout, {})
    path = layout.secrets / "airflow_passwords.json"
    path.write_text("{")
    with pytest.raises(SettingsError, match="damaged"):
        prepare(layout, {})
    assert path.read_text() == "{"


def test_settings_find_what_was_prepared(layout: Layout) -> None:
    installation = prepare(layout, {})
    settings = Settings.load({"MILLRACE_ROOT": str(layout.root)})
    assert settings.state_url == installation.environment["MILLRACE_STATE_URL"]
    assert settings.mlflow_url == installation.addresses["mlflow"]
    assert settings.serving_token


def test_packages_that_read_models_are_named_to_tasks_and_the_online_service(layout: Layout) -> None:
    installation = prepare(layout, {"MILLRACE_READERS": "shop_models, other_models"})
    for environ in (installation.of_airflow(), installation.of_others()):
        assert readers(environ) == {"shop_models", "other_models"}
    assert readers(prepare(layout, {}).of_others()) == frozenset()


def test_other_services_see_none_of_airflows_secrets(layout: Layout) -> None:
    installation = prepare(layout, {})
    assert not [name for name in installation.of_others() if name.startswith("AIRFLOW")]
    fernet = (layout.secrets / "fernet_key").read_text()
    assert fernet in installation.of_airflow().values()
    assert fernet not in installation.of_others().values()


def test_another_airflow_in_the_environment_leaves_no_trace() -> None:
    caller = {"AIRFLOW_HOME": "/x", "AIRFLOW__CORE__EXECUTOR": "X", "MLFLOW_TRACKING_URI": "http://x", "PGHOST": "x"}
    kept = inherit_environment({**caller, "HOME": "/root", "no_proxy": "corp"})
    assert not caller.keys() & kept.keys()
    assert kept["HOME"] == "/root"
    assert kept["no_proxy"] == "corp,127.0.0.1,localhost,::1"


def test_socket_path_fits_even_under_a_deep_var(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    layout = Layout(root=deep, var=deep / "var", dags=deep)
    assert len(os.fsencode(socket_folder(layout) / ".s.PGSQL.5432")) <= 107
    other = Layout(root=deep, var=deep / "other", dags=deep)
    assert socket_folder(layout) != socket_folder(other)


def test_var_that_cannot_be_written_names_path_and_remedy(layout: Layout) -> None:
    layout.var.write_text("a file where the folder should be")
    with pytest.raises(SettingsError) as caught:
        prepare(layout, {})
    assert str(layout.var) in str(caught.value)
    assert "MILLRACE_VAR" in caught.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_var_without_permission_names_path_and_remedy(layout: Layout) -> None:
    layout.root.chmod(0o500)
    with pytest.raises(SettingsError, match="cannot write under"):
        prepare(layout, {})


def test_a_folder_of_somebody_else_is_not_taken(layout: Layout) -> None:
    layout.var.mkdir()
    (layout.var / "thesis.tex").write_text("x")
    with pytest.raises(SettingsError, match="not Millrace's"):
        prepare(layout, {})
    assert not (layout.var / MARKER).exists()


def test_damaged_record_of_the_installation_is_refused(layout: Layout) -> None:
    prepare(layout, {})
    layout.environment.write_bytes(orjson.dumps({"environment": {}}))
    with pytest.raises(SettingsError, match="damaged"):
        load_installation(layout)


@pytest.mark.parametrize("text", ["0", "many", "-3"])
def test_parallelism_that_is_no_number_is_refused(layout: Layout, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        prepare(layout, {"MILLRACE_PARALLELISM": text})
    assert caught.value.where == "MILLRACE_PARALLELISM"
