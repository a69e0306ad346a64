"""Ports: explicit ones are kept or refused, others move out of the way."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.ports import reserved_port

from millrace.errors import SettingsError
from millrace.local.port import DEFAULTS, choose_ports, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_taken_port_is_not_free(taken: int) -> None:
    assert not is_free(taken)


def test_default_taken_moves_to_the_next_free_port(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEFAULTS, "airflow", taken)
    ports = choose_ports({})
    assert ports.airflow > taken
    assert ports.moved["airflow"] == taken


def test_explicit_port_that_is_taken_is_refused_by_name(taken: int) -> None:
    with pytest.raises(SettingsError) as caught:
        choose_ports({"MILLRACE_MLFLOW_PORT": str(taken)})
    assert str(taken) in caught.value.what
    assert caught.value.where == "MILLRACE_MLFLOW_PORT"
    assert "unset MILLRACE_MLFLOW_PORT" in caught.value.remedy


@pytest.fixture
def free() -> Iterator[int]:
    with reserved_port() as port:
        yield port


def test_two_services_cannot_have_one_explicit_port(free: int) -> None:
    assert is_free(free)
    with pytest.raises(SettingsError, match="is taken"):
        choose_ports({"MILLRACE_AIRFLOW_PORT": str(free), "MILLRACE_SERVING_PORT": str(free)})


@pytest.mark.parametrize("text", ["http", "0", "70000", "-1"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a port"):
        choose_ports({"MILLRACE_AIRFLOW_PORT": text})


def test_ports_of_the_last_start_are_kept_where_free(free: int) -> None:
    assert choose_ports({}, {"airflow": free}).airflow == free


def test_the_ports_differ() -> None:
    ports = choose_ports({}, {"airflow": 18080, "mlflow": 18080, "serving": 18080})
    assert len({ports.airflow, ports.mlflow, ports.serving}) == 3
