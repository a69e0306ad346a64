from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.unit.serving import sample
from tests.unit.serving.conftest import World

from millrace.errors import PackageError
from millrace.serving.base import RequestError
from millrace.serving.repository import POINTER, Repository


def test_a_release_is_served_once_it_is_loaded_and_not_before(repository: Repository) -> None:
    assert repository.names() == ["flight_delay"]
    with pytest.raises(RequestError, match="no model 'flight_delay'"):
        repository.get("flight_delay")
    repository.load("flight_delay")
    assert repository.get("flight_delay").version == "1"
    assert repository.only() == "flight_delay"


def test_a_pointer_that_moves_is_followed_only_when_asked(repository: Repository, world: World) -> None:
    repository.load("flight_delay")
    sample.point(repository.folder, world.package, release=2)
    assert repository.version("flight_delay") == "1"
    repository.load("flight_delay")
    assert repository.version("flight_delay") == "2"


@pytest.mark.parametrize("name", ["model.ubj", "encoder.json", "features.json", "golden.json", "manifest.json"])
def test_a_changed_file_is_refused_and_the_old_release_stays(
    repository: Repository, world: World, tmp_path: Path, name: str
) -> None:
    repository.load("flight_delay")
    folder = tmp_path / "changed"
    shutil.copytree(world.package.folder, folder)
    file = folder / (name if name != "model.ubj" else world.package.manifest.model.name)
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    sample.point(repository.folder, world.package, release=2, package_dir=str(folder))
    with pytest.raises(PackageError):
        repository.load("flight_delay")
    assert repository.get("flight_delay").version == "1"


@pytest.mark.parametrize(
    "changes",
    [
        {"use_case": "other"},
        {"release": "1"},
        {"package": "0" * 64},
        {"package_dir": "nowhere"},
        {"threshold": "high"},
        {"feature_service": "another_v9"},
        {"package_dir": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_wrong_pointer_is_refused(repository: Repository, changes: dict[str, Any]) -> None:
    path = repository.folder / "flight_delay" / POINTER
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | changes))
    with pytest.raises(PackageError):
        repository.load("flight_delay")
    with pytest.raises(RequestError, match="was refused") as caught:
        repository.get("flight_delay")
    assert caught.value.status == 503
    assert repository.index()[0]["state"] == "UNAVAILABLE"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"release": 1}'])
def test_a_broken_pointer_is_refused(repository: Repository, content: bytes) -> None:
    (repository.folder / "flight_delay" / POINTER).write_bytes(content)
    with pytest.raises(PackageError, match="pointer"):
        repository.load("flight_delay")


def test_names_that_are_no_use_cases_are_not_looked_at(repository: Repository) -> None:
    (repository.folder / "..hidden").mkdir()
    (repository.folder / "..hidden" / POINTER).write_text("{}")
    assert repository.names() == ["flight_delay"]


def test_a_model_whose_golden_rows_come_out_otherwise_is_refused(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.package.Package.probe", lambda *_: 0.1)
    with pytest.raises(PackageError, match=r"golden rows are predicted 0\.1 off"):
        repository.load("flight_delay")


def test_metadata_names_the_models_inputs_and_the_keys(repository: Repository, world: World) -> None:
    metadata = repository.load("flight_delay").metadata
    assert [tensor["name"] for tensor in metadata["inputs"]] == world.package.features.columns
    assert [tensor["name"] for tensor in metadata["outputs"]] == ["prediction", "decision"]
    assert "tailnum" in metadata["parameters"]["by_key"]
