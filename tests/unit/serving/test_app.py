from __future__ import annotations

import asyncio
import gzip
import logging
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from tests.unit.serving import sample
from tests.unit.serving.conftest import World

from millrace.serving.app import THREAD_FROM_ROWS, InferenceApp
from millrace.serving.repository import POINTER, Repository, Served

INFER = "/v2/models/flight_delay/infer"
LOAD = "/v2/repository/models/flight_delay/load"


def ask(app: InferenceApp, method: str, path: str, **request: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, **request)

    return asyncio.run(once())


@pytest.fixture
def app(repository: Repository, served: Served) -> InferenceApp:
    return InferenceApp(repository, max_body_bytes=200_000)


def full(world: World, count: int = 3) -> dict[str, Any]:
    return {"inputs": sample.v2_inputs(world.spec, world.rows.slice(0, count), world.package.features.columns)}


def keyed(world: World, count: int = 3) -> dict[str, Any]:
    return {"inputs": sample.v2_inputs(world.spec, world.rows.slice(0, count), sample.key_names(world.package))}


def predicted(world: World, count: int = 3) -> list[float]:
    rows = world.rows.slice(0, count)
    columns = {name: rows.column(name) for name in world.package.features.columns}
    return world.package.predictor().predict(columns).tolist()


def test_a_full_vector_is_answered_as_the_package_predicts(app: InferenceApp, world: World) -> None:
    answer = ask(app, "POST", INFER, json=full(world)).json()
    assert answer["outputs"][0]["data"] == predicted(world)
    assert answer["outputs"][1]["data"] == [value >= 0.5 for value in predicted(world)]
    assert answer["model_version"] == "1"
    told = answer["parameters"]
    assert told.pop("prediction_id").startswith("flight_delay/1/online-")
    assert told == {"release": 1, "package": world.package.digest, "feature_source": "request"}


def test_keys_are_answered_with_the_store_as_it_is_now(app: InferenceApp, world: World, tmp_path: Path) -> None:
    store = tmp_path / "online.db"
    sample.fill_store(store, world.rows)
    app.repository.store.path = store  # type: ignore[union-attr]
    before = ask(app, "POST", INFER, json=keyed(world, 1)).json()
    shifted = sample.feature_rows(world.spec, 60, seed=77)
    for name in ("carrier", "origin", "route", "tailnum"):
        shifted = shifted.set_column(shifted.column_names.index(name), name, world.rows.column(name))
    sample.fill_store(store, shifted)
    after = ask(app, "POST", INFER, json=keyed(world, 1)).json()
    assert before["parameters"]["feature_source"] == after["parameters"]["feature_source"] == "online"
    assert after["parameters"]["high_water_mark"] == "2013-04-01T04:00:00Z"
    assert before["outputs"][0]["data"] != after["outputs"][0]["data"]


def test_a_large_request_is_predicted_like_a_small_one(app: InferenceApp, world: World) -> None:
    rows = sample.feature_rows(world.spec, THREAD_FROM_ROWS + 1, seed=5)
    body = {"inputs": sample.v2_inputs(world.spec, rows, world.package.features.columns)}
    found = ask(app, "POST", INFER, json=body).json()["outputs"][0]["data"]
    expected = world.package.predictor().predict({name: rows.column(name) for name in world.package.features.columns})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", ["dataframe_split", "dataframe_records", "instances", "inputs"])
@pytest.mark.parametrize("path", ["/invocations", "/invocations/flight_delay"])
def test_mlflow_requests_are_answered_alike(app: InferenceApp, world: World, shape: str, path: str) -> None:
    rows = world.rows.slice(0, 3).drop_columns(["event_timestamp"])
    body: dict[str, Any] = {
        "dataframe_split": {"columns": rows.column_names, "data": [list(row.values()) for row in rows.to_pylist()]},
        "dataframe_records": rows.to_pylist(),
        "instances": rows.to_pylist(),
        "inputs": rows.to_pydict(),
    }
    answer = ask(app, "POST", path, json={shape: body[shape]}).json()
    assert answer["predictions"] == predicted(world)
    assert answer["parameters"]["release"] == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/flight_delay/versions/9/infer", 404),
        ("POST", "/v2/models/flight_delay/nonsense/infer", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/flight_delay/versions/9/ready", 404),
        ("GET", "/v2/models/flight_delay/nonsense", 404),
        ("GET", "/", 404),
        ("GET", "/v2/models", 404),
        ("POST", "/invocations/other", 404),
        ("POST", "/invocations/a/b", 404),
        ("GET", "/invocations", 405),
        ("POST", "/v2", 405),
        ("GET", "/v2/repository/index", 405),
        ("GET", INFER, 405),
        ("DELETE", "/v2", 405),
        ("GET", LOAD, 405),
        ("POST", "/v2/repository/models/other/load", 404),
        ("POST", "/v2/repository/models/..%2f..%2fetc/load", 404),
    ],
)
def test_wrong_addresses_are_errors_in_json(app: InferenceApp, method: str, path: str, status: int) -> None:
    answer = ask(app, method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("path", [INFER, "/invocations", "/v2/models/flight_delay/versions/1/infer"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[1]", b'{"inputs": [NaN]}', b'{"inputs": null}'])
def test_malformed_bodies_are_errors_in_json(app: InferenceApp, path: str, body: bytes) -> None:
    answer = ask(app, "POST", path, content=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert "Traceback" not in answer.text


def test_a_body_over_the_limit_is_refused(app: InferenceApp) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 50_000

    for content in (b" " * 200_001, gzip.compress(b" " * 200_001)):
        headers = {"content-encoding": "gzip"} if content[0] != 32 else {}
        assert ask(app, "POST", INFER, content=content, headers=headers).status_code == 413
    assert ask(app, "POST", INFER, content=chunks()).status_code == 413


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_requests_are_read(app: InferenceApp, world: World, encoding: str, compress: Any) -> None:
    content = compress(orjson.dumps(full(world)))
    answer = ask(app, "POST", INFER, content=content, headers={"content-encoding": encoding})
    assert answer.json()["outputs"][0]["data"] == predicted(world)
    assert ask(app, "POST", INFER, content=b"plain", headers={"content-encoding": encoding}).status_code == 400
    assert ask(app, "POST", INFER, content=b"plain", headers={"content-encoding": "br"}).status_code == 415


@pytest.mark.parametrize("length", ["x", "-1", "99999999", "1" * 30])
def test_a_wrong_json_length_is_refused(app: InferenceApp, world: World, length: str) -> None:
    answer = ask(app, "POST", INFER, json=full(world), headers={"inference-header-content-length": length})
    assert answer.status_code == 400


def test_loading_needs_the_token_and_predicting_does_not(repository: Repository, world: World) -> None:
    app = InferenceApp(repository, token="secret")
    assert ask(app, "POST", LOAD).status_code == 401
    assert ask(app, "POST", LOAD, headers={"authorization": "Bearer wrong"}).status_code == 401
    answer = ask(app, "POST", LOAD, headers={"authorization": "Bearer secret"})
    assert answer.json() == {
        "name": "flight_delay",
        "version": "1",
        "package": world.package.digest,
        "state": "READY",
    }
    assert ask(app, "POST", INFER, json=full(world)).is_success


def test_a_refused_release_leaves_the_old_one_in_service(app: InferenceApp, world: World) -> None:
    (app.repository.folder / "flight_delay" / POINTER).write_text("{}")
    answer = ask(app, "POST", LOAD)
    assert answer.status_code == 409
    assert "release 1 stays in service" in answer.json()["error"]
    assert ask(app, "POST", INFER, json=full(world)).json()["parameters"]["release"] == 1
    assert b'outcome="refused"} 1' in ask(app, "GET", "/metrics").content


def test_a_fault_of_our_own_is_no_traceback(
    app: InferenceApp, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr("millrace.package.Predictor.predict", fail)
    with caplog.at_level(logging.ERROR):
        answer = ask(app, "POST", INFER, json=full(world))
    assert answer.status_code == 500
    assert "inside" not in answer.text
    assert "ZeroDivisionError" in caplog.text


def test_figures_count_requests_errors_rows_and_unknown_entities(app: InferenceApp, world: World) -> None:
    ask(app, "POST", INFER, json=full(world))
    ask(app, "POST", INFER, content=b"{")
    ask(app, "POST", "/v2/models/no_such_model_ever/infer", json=full(world))
    body = keyed(world, 1)
    next(item for item in body["inputs"] if item["name"] == "tailnum")["data"] = ["N999"]
    ask(app, "POST", INFER, json=body)
    text = ask(app, "GET", "/metrics").text
    assert 'millrace_requests_total{model="flight_delay",protocol="v2",status="200"} 2' in text
    assert 'millrace_errors_total{model="flight_delay",protocol="v2",status="400"} 1' in text
    assert 'millrace_rows_total{model="flight_delay",source="request"} 3' in text
    assert 'millrace_unknown_entities_total{model="flight_delay",view="planes"} 1' in text
    assert f'millrace_release_info{{model="flight_delay",release="1",package="{world.package.digest}"}} 1' in text
    assert "no_such_model_ever" not in text


def test_a_release_without_a_threshold_decides_nothing(world: World, tmp_path: Path) -> None:
    sample.point(tmp_path, world.package, threshold=None)
    repository = Repository(tmp_path)
    repository.load("flight_delay")
    answer = ask(InferenceApp(repository), "POST", INFER, json=full(world)).json()
    assert [output["name"] for output in answer["outputs"]] == ["prediction"]


def test_health_is_told_without_any_model(tmp_path: Path) -> None:
    app = InferenceApp(Repository(tmp_path / "nothing"))
    for path in ("/v2/health/live", "/v2/health/ready", "/ping", "/v2", "/metrics"):
        assert ask(app, "GET", path).is_success
        head = ask(app, "HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
    assert ask(app, "POST", "/invocations", json={}).status_code == 404
    assert ask(app, "POST", "/v2/repository/index").json() == []
