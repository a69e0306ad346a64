"""Feast's SDK, command line and server on our online stores, unchanged, and beside Feast's own store."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.contract.online_stores import KINDS, empty_store, servers
from tests.ports import reserved_port

from millrace.online import open_reader, open_writer

pytestmark = pytest.mark.integration
OURS = "millrace.features.feast_online_store.PackedOnlineStore"
COLUMNAR = "millrace.features.feast_engine.ColumnarEngine"
ENGINES = (COLUMNAR, pytest.param("local", marks=pytest.mark.full))
NOON = datetime(2013, 3, 10, 12, tzinfo=UTC)
DEFINITIONS = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
car = Entity(name="car", join_keys=["car_id"], value_type=ValueType.STRING)
FIELDS = {"rate": Float64, "share": Float32, "trips": Int64, "stars": Int32, "city": String, "active": Bool,
          "since": UnixTimestamp}
facts = FileSource(name="facts", path="FOLDER/facts.parquet", timestamp_field="at", created_timestamp_column="made")
pushed = PushSource(name="pushed", batch_source=facts)
stats = FeatureView(name="stats", entities=[driver], ttl=timedelta(days=2), source=pushed,
                    schema=[Field(name=name, dtype=kind) for name, kind in FIELDS.items()])
pairs = FeatureView(name="pairs", entities=[driver, car], ttl=timedelta(0), source=facts,
                    schema=[Field(name="rate", dtype=Float64), Field(name="city", dtype=String)])
service = FeatureService(name="all", features=[stats[["city", "rate"]], pairs[["rate"]].with_name("of_pair")])
"""


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    with servers(request.param) as url:
        yield request.param, url


@pytest.fixture
def address(server: tuple[str, str], tmp_path: Path) -> str:
    return empty_store(*server, tmp_path)


def write_facts(folder: Path, nan: float) -> None:
    rows = [
        (1, "a", NOON - timedelta(hours=1), 0.1, 3, "Rome", True),
        (1, "a", NOON, 0.2, 4, None, None),
        (2, "b", NOON, nan, None, "größer", False),
        (3, "b", NOON - timedelta(days=3), 0.9, 1, "old", True),
    ]
    numbers, cars, at, rate, trips, city, active = zip(*rows, strict=True)
    instants = pa.timestamp("us", "UTC")
    table = {
        "driver_id": pa.array(numbers, pa.int64()),
        "car_id": pa.array(cars),
        "at": pa.array(at, instants),
        "made": pa.array(at, instants),
        "rate": pa.array(rate, pa.float64()),
        "share": pa.array(rate, pa.float32()),
        "trips": pa.array(trips, pa.int64()),
        "stars": pa.array(trips, pa.int32()),
        "city": pa.array(city),
        "active": pa.array(active),
        "since": pa.array(at, instants),
    }
    pq.write_table(pa.table(table), folder / "facts.parquet")


def make_repo(folder: Path, online: dict[str, Any], *, engine: str = "local", nan: float = float("nan")) -> Path:
    """A repository of Feast as a team would write it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_facts(folder, nan)
    (folder / "definitions.py").write_text(DEFINITIONS.replace("FOLDER", str(folder)))
    config = {
        "project": "trial",
        "provider": "local",
        "registry": {"registry_type": "sql", "path": f"sqlite:///{folder / 'registry.db'}"},
        "offline_store": {"type": "millrace.features.feast_offline_store.LakeOfflineStore"},
        "online_store": online,
        "batch_engine": {"type": engine},
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(json.dumps(config))
    return folder


def open_repo(folder: Path) -> Any:
    """Its feature store with everything applied."""
    from feast import FeatureStore

    names: dict[str, Any] = {}
    exec((folder / "definitions.py").read_text(), names)
    store = FeatureStore(repo_path=str(folder))
    store.apply([names[name] for name in ("driver", "car", "pushed", "stats", "pairs", "service")])
    return store


def ask(store: Any, drivers: list[int], features: Any = None, **options: Any) -> dict[str, Any]:
    features = features or ["stats:city", "stats:rate", "stats:trips", "stats:stars", "stats:active", "stats:since"]
    rows = [{"driver_id": driver, "car_id": "a"} if options.get("car") else {"driver_id": driver} for driver in drivers]
    answer = store.get_online_features(
        features=features, entity_rows=rows, full_feature_names=options.get("full", False)
    )
    found: dict[str, Any] = answer.to_dict(include_event_timestamps=options.get("stamps", False))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_the_sdk_materializes_pushes_and_reads(address: str, tmp_path: Path, engine: str) -> None:
    store = open_repo(make_repo(tmp_path / "repo", {"type": OURS, "url": address}, engine=engine))
    assert ask(store, [1])["rate"] == [None]
    store.materialize(NOON - timedelta(days=1), NOON)
    found = ask(store, [2, 1, 3, 1], stamps=True)
    assert found["driver_id"] == [2, 1, 3, 1]
    assert found["city"] == ["größer", None, None, None]
    assert repr(found["rate"][0]) == ("None" if engine == "local" else "nan"), "Feast's own engine makes null of NaN"
    assert found["rate"][1:] == [0.2, None, 0.2]
    assert (found["trips"], found["stars"]) == ([None, 4, None, 4], [None, 4, None, 4])
    assert found["active"] == [False, None, None, None]
    assert found["rate__ts"] == [int(NOON.timestamp()), int(NOON.timestamp()), 0, int(NOON.timestamp())]
    both = ask(store, [1, 2], store.get_feature_service("all"), car=True, full=True)
    assert both["of_pair__rate"] == [0.2, None]
    assert both["stats__city"] == [None, "größer"]

    row = {"driver_id": [1], "car_id": ["a"], "share": [0.5], "stars": [1], "active": [True], "since": [NOON]}
    for at, rate in ((NOON - timedelta(hours=2), 9.0), (NOON + timedelta(hours=1), 0.7)):
        frame = pd.DataFrame({**row, "at": [at], "made": [at], "rate": [rate], "trips": [7], "city": ["Oslo"]})
        store.push("pushed", frame)
    assert ask(store, [1, 2])["rate"][0] == 0.7, "an older row does not overwrite a newer one"
    assert ask(store, [1])["city"] == ["Oslo"]


@pytest.mark.parametrize("engine", ENGINES)
def test_answers_are_those_of_feasts_own_store(address: str, tmp_path: Path, engine: str) -> None:
    ours = open_repo(make_repo(tmp_path / "ours", {"type": OURS, "url": address}, engine=engine, nan=0.3))
    stock = open_repo(make_repo(tmp_path / "stock", {"type": "sqlite", "path": str(tmp_path / "stock.db")}, nan=0.3))
    for store in (ours, stock):
        store.materialize(NOON - timedelta(days=1), NOON)
    for options in ({}, {"full": True}, {"stamps": True}):
        assert repr(ask(ours, [1, 2, 1, 9], **options)) == repr(ask(stock, [1, 2, 1, 9], **options))
    import numpy as np

    awkward = [{"driver_id": np.int64(key)} for key in (1, 2, 9)]
    by_array = [store.get_online_features(["stats:city", "stats:since"], awkward).to_dict() for store in (ours, stock)]
    assert repr(by_array[0]) == repr(by_array[1])
    names = [feature.name for feature in stock.get_feature_view("stats").features]
    protos = [
        store.get_online_features([f"stats:{name}" for name in names], [{"driver_id": key} for key in (1, 2, 9)]).proto
        for store in (ours, stock)
    ]
    assert repr(protos[0]) == repr(protos[1])


def test_a_view_that_is_removed_is_gone_from_the_store_and_the_others_stay(address: str, tmp_path: Path) -> None:
    store = open_repo(make_repo(tmp_path / "repo", {"type": OURS, "url": address}))
    assert open_reader(address).views() == ["pairs", "stats"]
    store.materialize(NOON - timedelta(days=1), NOON)
    held = open_writer(address).state("stats")
    store.apply([store.get_feature_service("all")], objects_to_delete=[store.get_feature_view("pairs")], partial=False)
    assert open_reader(address).views() == ["stats"]
    assert open_writer(address).state("stats") == held
    store.teardown()
    assert open_reader(address).views() == []


@pytest.mark.full
@pytest.mark.timeout(900)
def test_the_command_line_and_the_server_work_unchanged(address: str, tmp_path: Path) -> None:
    folder = make_repo(tmp_path / "repo", {"type": OURS, "url": address}, engine=COLUMNAR)
    feast = [sys.executable, "-m", "feast.cli.cli", "-c", str(folder)]
    environment = {**os.environ, "IS_TEST": "False"}
    for words in (["apply"], ["materialize", "2013-03-09T12:00:00", "2013-03-10T12:00:00"]):
        subprocess.run([*feast, *words], env=environment, capture_output=True, text=True, check=True, timeout=600)
    with reserved_port() as port:
        argv = [*feast, "serve", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            question = {"features": ["stats:rate", "stats:city"], "entities": {"driver_id": [1, 2, 9]}}
            answer = post(f"http://127.0.0.1:{port}/get-online-features", question, process)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()
    assert sorted(answer["metadata"]["feature_names"]) == ["city", "driver_id", "rate"]
    results = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
    assert results["rate"]["values"][0] == 0.2
    assert results["city"]["values"] == [None, "größer", None]
    assert results["city"]["statuses"][2] == "NOT_FOUND"


def post(url: str, body: dict[str, Any], process: subprocess.Popen[bytes]) -> Any:
    """The answer, as soon as the server is up."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for _ in range(1_000):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("feast serve did not start")
