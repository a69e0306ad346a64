"""Feast's own command line, feature server, offline server and user interface on our offline store."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.contract.offline_stores import Fact, moment, write_facts
from tests.ports import reserved_port

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]
FEAST = str(Path(sys.executable).with_name("feast"))
YAML = """
project: trial
provider: local
registry: registry.db
offline_store:
  type: millrace.features.feast_offline_store.LakeOfflineStore
  lake: {folder}/lake
online_store:
  type: sqlite
  path: online.db
entity_key_serialization_version: 3
"""
DEFINITIONS = """
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, String

k = Entity(name="k", join_keys=["k"], value_type=ValueType.STRING)
one = FeatureView(
    name="one",
    entities=[k],
    schema=[Field(name="k", dtype=String), Field(name="v_", dtype=Float64)],
    source=FileSource(path="facts.parquet", timestamp_field="at", created_timestamp_column="made"),
    ttl=timedelta(0),
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("repo")
    (made / "feature_store.yaml").write_text(YAML.format(folder=made))
    (made / "definitions.py").write_text(DEFINITIONS)
    write_facts(made / "facts.parquet", [Fact("a", 1, 0, 0, 0.5, "x"), Fact("a", 1, 2, 2, 1.5, "x")])
    feast(made, "apply")
    return made


def feast(folder: Path, *words: str) -> str:
    done = subprocess.run([FEAST, "-c", str(folder), *words], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@contextmanager
def serving(folder: Path, word: str) -> Iterator[int]:
    """One of Feast's servers, until it takes connections."""
    with reserved_port() as port, _started(folder, word, port) as server:
        for _ in range(1_200):
            assert server.poll() is None, (folder / f"{word}.log").read_text()[-2000:]
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield port


@contextmanager
def _started(folder: Path, word: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    words = [FEAST, "-c", str(folder), word, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / f"{word}.log").open("wb") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "FEAST_USAGE": "False"})
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    for _ in range(50):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


def test_the_command_line_lists_and_materializes(folder: Path) -> None:
    assert "one" in feast(folder, "feature-views", "list")
    feast(folder, "materialize", moment(-1).isoformat(), moment(9).isoformat())


def test_the_feature_server_answers_with_what_was_materialized(folder: Path) -> None:
    feast(folder, "materialize", moment(-1).isoformat(), moment(9).isoformat())
    with serving(folder, "serve") as port:
        body = {"features": ["one:v_"], "entities": {"k": ["a", "b"]}}
        answer = json.loads(ask(f"http://127.0.0.1:{port}/get-online-features", body))
    values = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
    assert values["v_"]["values"] == [1.5, None]


def test_the_offline_server_answers_a_remote_client(folder: Path) -> None:
    from feast import FeatureStore, RepoConfig

    with serving(folder, "serve_offline") as port:
        config = RepoConfig(
            project="trial",
            provider="local",
            registry=str(folder / "registry.db"),
            offline_store={"type": "remote", "host": "127.0.0.1", "port": port},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
        )
        frame = pd.DataFrame({"k": ["a", "a", "b"], "event_timestamp": [moment(1), moment(2), moment(2)]})
        found = FeatureStore(config=config).get_historical_features(frame, ["one:v_"]).to_df()
    assert found["v_"].tolist()[:2] == [0.5, 1.5]
    assert found["v_"].isna().tolist() == [False, False, True]


def test_the_user_interface_shows_the_repository(folder: Path) -> None:
    with serving(folder, "ui") as port:
        assert b"<html" in ask(f"http://127.0.0.1:{port}/").lower()
