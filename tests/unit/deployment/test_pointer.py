from __future__ import annotations

import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from tests.children import Child, clean_context

from millrace.artifact import ReleaseRef
from millrace.deployment.pointer import deploying, pointer_path, write_pointer
from millrace.errors import DeploymentError
from millrace.serving.repository import read_pointer

REF = ReleaseRef(
    use_case="flight_delay",
    release=3,
    package="a" * 64,
    package_dir="/packages/a b",
    threshold=0.5,
    effective_at="2013-04-01T04:00:00Z",
    feature_service="flight_delay_v1",
)


def test_what_is_written_is_what_the_service_reads(tmp_path: Path) -> None:
    assert write_pointer(tmp_path, REF)
    assert read_pointer(pointer_path(tmp_path, "flight_delay")) == REF


def test_an_equal_pointer_is_left_alone(tmp_path: Path) -> None:
    write_pointer(tmp_path, REF)
    before = pointer_path(tmp_path, "flight_delay").stat()
    assert not write_pointer(tmp_path, REF)
    assert pointer_path(tmp_path, "flight_delay").stat().st_ino == before.st_ino


def test_a_failed_write_leaves_the_old_pointer_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pointer(tmp_path, REF)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DeploymentError, match="No space left"):
        write_pointer(tmp_path, dataclasses.replace(REF, release=4))
    path = pointer_path(tmp_path, "flight_delay")
    assert read_pointer(path) == REF
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "flight_delay").write_text("")
    with pytest.raises(DeploymentError, match="cannot write the pointer"):
        write_pointer(tmp_path, REF)


def test_a_reader_never_sees_half_a_pointer(tmp_path: Path) -> None:
    write_pointer(tmp_path, REF)
    path, stop = pointer_path(tmp_path, "flight_delay"), threading.Event()

    def read() -> list[int]:
        seen: list[int] = []
        while not seen or not stop.is_set():
            seen.append(json.loads(path.read_bytes())["release"])
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        try:
            for release in range(4, 24):
                write_pointer(tmp_path, dataclasses.replace(REF, release=release))
        finally:
            stop.set()
    seen = reader.result()
    assert seen == sorted(seen)
    assert set(seen) <= set(range(3, 24))


def hold(folder: Path, held: Event, release: Event) -> bool:
    with deploying(folder, "flight_delay"):
        held.set()
        return release.wait(120)


def test_one_process_deploys_a_use_case_at_a_time(tmp_path: Path) -> None:
    held, release = clean_context().Event(), clean_context().Event()
    other = Child(partial(hold, tmp_path, held, release))
    try:
        assert held.wait(120)
        with (
            pytest.raises(DeploymentError, match="another deployment"),
            deploying(tmp_path, "flight_delay", patience_s=0.1),
        ):
            pass
        with deploying(tmp_path, "flight_duration", patience_s=0.1):
            pass
        threading.Timer(0.2, release.set).start()
        with deploying(tmp_path, "flight_delay", patience_s=120):
            assert release.is_set()
    finally:
        release.set()
    assert other.end().answer is True


def test_a_folder_that_cannot_be_used_is_told_before_anything_is_deployed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeploymentError, match="cannot use the folder"), deploying(tmp_path / "file" / "x", "uc"):
        pass


def test_what_fails_within_a_deployment_keeps_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), deploying(tmp_path, "uc"):
        (tmp_path / "nowhere").read_bytes()
