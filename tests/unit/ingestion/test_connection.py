"""Connections as Airflow writes them, read without Airflow; their secrets appear in no message."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine, make_url

from millrace.errors import SourceError
from millrace.ingestion.base import Connection
from millrace.ingestion.connection import environment_connections, parse_connection, scrub, storage_options, url_of

URIS = [
    "postgres://user:p%40ss%2Fw%3Ard@db.example:5433/shop?sslmode=require",
    "postgresql://user@db.example/shop",
    "postgres://u:p@%2Frun%2Fpostgresql/shop",
    "mysql+x://user:pw@host/",
    "http://https://api.example/",
    "http://user:pw@api.example:8080/https",
    "aws://AKIA:secret%2Fkey@/?region_name=eu-central-1",
    "aws://?__extra__=%7B%22a%22%3A+%7B%22b%22%3A+1%7D%7D",
    "google-cloud-platform://?project=x&num_retries=5&nothing=",
    "sqlite:////tmp/shop.db",
    "sqlite://%2Ftmp%2FShop.db",
    "postgres://u:p@[::1]:5432/shop",
]


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_is_read_as_airflow_reads_it(uri: str) -> None:
    from airflow.sdk import Connection as AirflowConnection

    theirs = AirflowConnection.from_uri(uri, conn_id="shop")
    ours = parse_connection("shop", uri)
    assert ours.kind == theirs.conn_type
    assert ours.host.lower() == (theirs.host or "").lower()
    assert (ours.login, ours.password, ours.schema) == (
        theirs.login or "",
        theirs.password or "",
        theirs.schema or "",
    )
    assert ours.port == theirs.port
    assert dict(ours.extra) == theirs.extra_dejson


def test_json_is_read_with_its_extra_as_object_or_as_text() -> None:
    found = {"conn_type": "google-cloud-platform", "host": "h", "port": "5", "login": None, "extra": {"a": 1}}
    told = parse_connection("c", json.dumps(found))
    assert (told.kind, told.host, told.port, told.login) == ("google_cloud_platform", "h", 5, "")
    assert parse_connection("c", json.dumps({**found, "extra": '{"a": 1}'})) == told


def test_the_environment_holds_connections_and_an_absent_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgres://u:p@h/db")
    assert environment_connections("shop").host == "h"
    with pytest.raises(SourceError, match="'bakery'") as caught:
        environment_connections("bakery")
    assert "airflow connections add bakery" in caught.value.remedy
    assert "AIRFLOW_CONN_BAKERY" in caught.value.remedy


@pytest.mark.parametrize(
    "text", ["hunter2", '{"password": "hunter2"', "[1]", "pg://u:hunter2@h:port/", '{"extra": "["}']
)
def test_a_text_that_is_neither_is_an_error_that_does_not_show_it(text: str) -> None:
    with pytest.raises(SourceError, match="neither a URI nor JSON") as caught:
        parse_connection("shop", text)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_connection_does_not_print_its_secrets() -> None:
    assert "hunter2" not in repr(parse_connection("shop", "postgres://u:hunter2@h/db?token=hunter2"))


def test_postgres_is_reached_by_psycopg_unless_the_extra_names_another_driver() -> None:
    told = parse_connection("shop", "postgres://u:p%40@h:5433/db?sslmode=require&iam=false")
    assert url_of(told) == make_url("postgresql+psycopg://u:p%40@h:5433/db?connect_timeout=10&sslmode=require")
    other = parse_connection("shop", "postgres://h/db?driver=psycopg2&connect_timeout=3")
    assert url_of(other) == make_url("postgresql+psycopg2://h/db?connect_timeout=3")
    assert url_of(parse_connection("shop", "mysql://h/db?driver=mysql%2Bpymysql")).drivername == "mysql+pymysql"
    socket = url_of(parse_connection("shop", "postgres://u@%2Frun%2Fpg/db"))
    assert (socket.host, socket.query["host"]) == (None, "/run/pg")


@pytest.mark.parametrize("form", ["sqlite:///{}", "sqlite://{}"])
def test_an_sqlite_file_is_opened_and_never_made(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a b%?.db"
    told = parse_connection("shop", form.format(quote(str(path), safe="")))
    with pytest.raises(Exception, match="unable to open"):
        create_engine(url_of(told)).connect()
    assert not path.exists()
    path.touch()
    create_engine(url_of(told)).connect().close()


def test_keys_of_aws_become_options_of_the_storage() -> None:
    told = Connection(
        name="s3",
        kind="aws",
        login="id",
        password="key",
        extra={"endpoint_url": "http://127.0.0.1:1", "storage_options": {"AWS_REGION": "r"}},
    )
    assert storage_options(told) == {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "r",
    }
    assert storage_options(Connection(name="x", kind="postgres", password="p")) == {}


def test_secrets_are_struck_out_however_they_are_written() -> None:
    told = Connection(
        name="x",
        kind="http",
        password="p@ss/w rd",
        extra={"headers": {"X-Api": "abc/123"}, "nested": {"aws_secret": "s3cr3t"}, "region": "eu"},
    )
    message = "p@ss/w rd p%40ss%2Fw%20rd p%40ss%2Fw+rd abc/123 abc%2F123 s3cr3t eu"
    assert scrub(message, told) == "*** *** *** *** *** *** eu"
    assert scrub(message, None) == message
