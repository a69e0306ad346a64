from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

from millrace.local import airflow_client
from millrace.local.airflow_client import AirflowClient, AirflowError

Answer = Callable[[httpx.Request], httpx.Response]
BUSY = httpx.Response(500, json={"detail": "database error"})


class Airflow:
    """Answers in the order given, then with success; keeps what was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        body = orjson.loads(request.content) if request.content else None
        self.asked.append((request.method, request.url.path, body))
        found = (
            self.answers.pop(0) if self.answers else httpx.Response(200, json={"dag_run_id": "r", "state": "queued"})
        )
        if isinstance(found, Exception):
            raise found
        return found


def client(handler: Answer, **options: Any) -> AirflowClient:
    made = AirflowClient("http://airflow", "admin", "secret", **options)
    made._http = httpx.Client(base_url="http://airflow", transport=httpx.MockTransport(handler))
    return made


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.mark.parametrize("fault", [BUSY, httpx.ReadError("gone"), httpx.ConnectError("refused")])
def test_what_is_asked_is_asked_again_through_an_outage(fault: httpx.Response | Exception) -> None:
    airflow = Airflow(*[fault] * 12)
    assert client(airflow).run("dag", "r")["state"] == "queued"
    assert len(airflow.asked) == 13


@pytest.mark.parametrize("fault", [BUSY, httpx.ReadError("gone")])
def test_a_run_is_started_once_though_its_answer_is_lost(fault: httpx.Response | Exception) -> None:
    airflow = Airflow(fault, httpx.Response(409, json={"detail": "exists"}))
    client(airflow).trigger("dag", partition_key="2013-01")
    (first, second, look) = airflow.asked
    assert first == second
    assert look[:2] == ("GET", f"/api/v2/dags/dag/dagRuns/{first[2]['dag_run_id']}")


def test_a_name_that_the_caller_chose_and_that_is_taken_is_an_error() -> None:
    with pytest.raises(AirflowError, match="409 exists"):
        client(Airflow(httpx.Response(409, json={"detail": "exists"}))).trigger("dag", run_id="mine")


def test_what_must_not_be_said_twice_is_not() -> None:
    airflow = Airflow(BUSY)
    with pytest.raises(AirflowError, match="500 database error"):
        client(airflow).post("/api/v2/backfills", {})
    assert len(airflow.asked) == 1


def test_an_outage_that_lasts_is_an_error_with_a_remedy() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(AirflowError, match="does not answer") as caught:
        client(away, outage_s=0.0).run("dag", "r")
    assert "`make status`" in caught.value.remedy


def test_a_token_that_ran_out_is_renewed_once() -> None:
    airflow = Airflow(*[httpx.Response(401, json={"detail": "expired"})] * 9)
    with pytest.raises(AirflowError, match="401"):
        client(airflow).run("dag", "r")
    assert len(airflow.asked) == 2
    assert airflow_client._OUTAGE_S > 30
