from __future__ import annotations

import shutil
import threading
from pathlib import Path

import orjson
import pytest
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.errors import PackageError
from millrace.package import Package
from millrace.training import train_package
from millrace.training.contract import PARTITIONS


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return train(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def folder(sealed: Package, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed.folder, tmp_path / sealed.digest))


def train(store: Path) -> Package:
    use_case = make_use_case()
    rows = training_rows(use_case, PARTITIONS, 100)
    return train_package(make_job(use_case, "xgboost", holdout="2020-04"), rows, store=store).package


def test_a_package_is_a_folder_named_by_the_digest_of_its_manifest(sealed: Package) -> None:
    assert sealed.folder.name == sealed.digest == sealed.manifest.digest
    assert {path.name for path in sealed.folder.iterdir()} == {*sealed.manifest.files, "manifest.json"}


def test_nothing_of_release_time_author_or_place_is_inside(sealed: Package) -> None:
    manifest = orjson.loads((sealed.folder / "manifest.json").read_bytes())
    del manifest["params"]
    text = orjson.dumps(manifest) + sealed.content["features.json"] + sealed.content["signature.json"]
    for word in ("threshold", "release", "evidence", "author", "run_id", "recorded_at", str(sealed.folder.parent)):
        assert word.encode() not in text


def test_features_are_all_that_an_online_service_needs(sealed: Package) -> None:
    features = sealed.features
    assert features.service == "sold_v1"
    assert [(column.name, column.kind) for column in features.row] == [
        ("size", "number"),
        ("age", "number"),
        ("kind", "category"),
    ]
    view = features.views[0]
    assert (view.view, view.entities, view.features, view.ttl_hours) == (
        "town_weather",
        ["town"],
        ["warmth", "sky", "nothing"],
        6,
    )
    assert features.columns == ["size", "age", "kind", "warmth", "sky", "nothing"]
    assert (features.categories, features.entities) == (["kind", "sky"], ["town"])
    assert (features.key, features.timestamp, features.problem) == ("sale_id", "sold_at", "binary")
    assert [item["name"] for item in sealed.signature["inputs"]] == features.columns
    assert sealed.signature["outputs"][0]["meaning"] == "probability"


@pytest.mark.parametrize("name", ["model.ubj", "features.json", "encoder.json", "golden.json", "signature.json"])
def test_one_changed_byte_of_any_file_is_found(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(PackageError, match=f"{name} is not the file that was sealed"):
        Package.open(folder)


@pytest.mark.parametrize("name", ["manifest.json", "model.ubj", "golden.json"])
def test_a_file_that_is_not_there_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(PackageError, match=f"cannot read {name}"):
        Package.open(folder)


def test_a_changed_manifest_is_found_by_the_digest_it_should_have(folder: Path, sealed: Package) -> None:
    plain = orjson.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(orjson.dumps({**plain, "seed": 8}))
    with pytest.raises(PackageError, match="expected is"):
        Package.open(folder, sealed.digest)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"format": 99}', b'{"format": 1}', b'{"format": 1, "odd": 2}']
)
def test_what_is_not_a_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(PackageError):
        Package.open(folder)


def test_a_manifest_cannot_name_files_outside_its_folder(folder: Path) -> None:
    plain = orjson.loads((folder / "manifest.json").read_bytes())
    plain["files"]["../outside.json"] = "0" * 64
    (folder / "manifest.json").write_bytes(orjson.dumps(plain))
    with pytest.raises(PackageError, match="plain file name"):
        Package.open(folder)


def test_what_was_verified_is_what_is_loaded(folder: Path) -> None:
    package = Package.open(folder)
    for path in folder.iterdir():
        path.write_bytes(b"swapped after the check")
    assert package.probe() == 0


def test_a_damaged_package_is_sealed_again_and_nothing_else_stays(tmp_path: Path) -> None:
    package = train(tmp_path)
    (package.folder / "model.ubj").write_bytes(b"half")
    assert train(tmp_path).digest == package.digest
    assert Package.open(package.folder, package.digest).probe() == 0
    assert [path.name for path in tmp_path.iterdir()] == [package.digest]


def test_writers_of_the_same_package_may_race(tmp_path: Path, sealed: Package) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(train(tmp_path).digest)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sealed.digest] * 4
    assert [path.name for path in tmp_path.iterdir()] == [sealed.digest]


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PackageError, match="cannot write the package") as raised:
        train(tmp_path / "file")
    assert "MILLRACE_PACKAGES" in raised.value.remedy
