from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from millrace.errors import OnlineStoreUnavailableError, SettingsError
from millrace.online import ViewLayout, open_reader, open_writer
from millrace.online.address import show

LAYOUT = ViewLayout(entities=(("airport", "string"),), features=(("temp", "float64"),))


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("var/online.db", "SQLite"),
        (Path("/srv/online.db"), "SQLite"),
        ("sqlite:////srv/online.db", "SQLite"),
        ("redis://localhost:6379/3", "Redis"),
        ("rediss://:secret@host", "Redis"),
        ("unix:///run/redis.sock?db=1", "Redis"),
        ("postgresql://me@host/db", "Postgres"),
        ("postgresql+psycopg2://me@/db?host=/run", "Postgres"),
    ],
)
def test_an_address_says_which_store_it_is_of(url: str | Path, kind: str) -> None:
    assert type(open_reader(url)).__name__ == f"{kind}Reader"
    assert type(open_writer(url)).__name__ == f"{kind}Writer"


def test_an_address_of_no_store_is_refused_with_the_forms_there_are() -> None:
    with pytest.raises(SettingsError, match="mysql") as caught:
        open_writer("mysql://me@host/db")
    assert "redis://" in caught.value.remedy


def test_passwords_are_not_shown() -> None:
    assert show("redis://me:geheim@host:1/2") == "redis://me:***@host:1/2"
    assert show("rediss://:geheim@host") == "rediss://:***@host"
    assert show("postgresql://me@host/db?password=geheim&x=1") == "postgresql://me@host/db?password=***&x=1"
    assert show("/srv/a:b@c.db") == "/srv/a:b@c.db"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:ge/heim@host:6379/0",
        "redis://:ge#heim@host",
        "redis://me:ge?heim@host",
        "redis://:12/heim@host",
        "postgresql://me:ge@heim:geheim@host/db",
        "postgresql://me:ge%heim@host/db",
        "postgresql://me:ge/heim@[::1/db?sslpassword=geheim",
    ],
)
def test_a_password_that_needs_encoding_is_refused_and_no_part_of_it_is_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="password") as caught:
        open_reader(url)
    assert "heim" not in str(caught.value)
    assert "%2F" in caught.value.remedy


@pytest.mark.parametrize(
    "url",
    ["redis://host:6379/0?client_name=a@b", "postgresql://me:ge%2Fheim@a:1,b:2/db", "unix://:geheim@/run/redis.sock"],
)
def test_an_address_that_only_looks_like_a_bad_password_is_taken(url: str) -> None:
    open_reader(url)


def test_an_address_that_the_client_refuses_is_not_quoted_with_its_password() -> None:
    for url in ("postgresql://me:geheim@[::1/db", "redis://me:geheim@[::1/0"):
        with pytest.raises(SettingsError, match="not an address") as caught:
            open_reader(url).views()
        assert "geheim" not in "".join(traceback.format_exception(caught.value))


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(OnlineStoreUnavailableError, match="does not answer") as caught:
        open_reader("redis://me:geheim@127.0.0.1:1/0").read("w", [("JFK",)], ["temp"])
    assert "geheim" not in str(caught.value)
    with pytest.raises(OnlineStoreUnavailableError, match="does not answer") as caught:
        open_reader("postgresql://me:geheim@127.0.0.1:1/db").read("w", [("JFK",)], ["temp"])
    assert "geheim" not in str(caught.value)


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OnlineStoreUnavailableError, match="cannot be written"):
        open_writer(tmp_path / "file" / "online.db").declare("w", LAYOUT)
    with pytest.raises(OnlineStoreUnavailableError):
        (tmp_path / "no.db").write_text("this is no database" * 100)
        open_reader(tmp_path / "no.db").views()


def test_the_reader_imports_neither_feast_nor_pandas_nor_clients_of_servers() -> None:
    code = (
        "import millrace.online as online, sys; online.open_reader('x').views(); "
        "heavy = {'feast', 'pandas', 'sqlalchemy', 'deltalake', 'pyarrow', 'numpy', 'redis', 'psycopg'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
