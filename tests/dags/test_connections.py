"""Airflow's connections as sources see them."""

from __future__ import annotations

import asyncio
import json

import pytest

from millrace.errors import SourceError


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "conn_type": "postgres",
        "host": "db",
        "port": 5433,
        "login": "reader",
        "password": "s3cret",
        "schema": "sales",
        "extra": {"sslmode": "require"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(given))


def test_a_connection_comes_with_all_it_holds_and_hides_its_secrets(warehouse: None) -> None:
    from millrace_airflow.connections import airflow_connections

    found = airflow_connections("warehouse")
    assert (found.name, found.kind, found.host, found.port) == ("warehouse", "postgres", "db", 5433)
    assert (found.login, found.password, found.schema) == ("reader", "s3cret", "sales")
    assert found.extra == {"sslmode": "require"}
    assert "s3cret" not in repr(found)


def test_a_uri_without_parts_gives_empty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    from millrace_airflow.connections import airflow_connections

    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", "aws://")
    found = airflow_connections("bucket")
    assert (found.kind, found.host, found.port, found.login, found.extra) == ("aws", "", None, "", {})


def test_a_trigger_gets_the_same(warehouse: None) -> None:
    from millrace_airflow.connections import airflow_connections, await_connection

    assert asyncio.run(await_connection("warehouse")) == airflow_connections("warehouse")


def test_a_connection_that_is_not_there_is_named_with_its_remedy() -> None:
    from millrace_airflow.connections import airflow_connections, await_connection

    with pytest.raises(SourceError, match="no connection 'nowhere'") as caught:
        airflow_connections("nowhere")
    assert "AIRFLOW_CONN_NOWHERE" in caught.value.remedy
    with pytest.raises(SourceError, match="no connection 'nowhere'"):
        asyncio.run(await_connection("nowhere"))
