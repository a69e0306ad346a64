from __future__ import annotations

from pathlib import Path

import pytest

from millrace.local.memory import ALLOW_HUGE, memory_environment, returns_free_memory


def add_device(folder: Path, name: str, *, kind: str, features: str) -> None:
    device = folder / name
    device.mkdir(parents=True)
    (device / "device").write_text(f"{kind}\n", encoding="ascii")
    (device / "features").write_text(f"{features}\n", encoding="ascii")


def test_processes_take_small_pages_where_a_balloon_reports_free_memory(tmp_path: Path) -> None:
    add_device(tmp_path, "virtio0", kind="0x0002", features="00100010")
    add_device(tmp_path, "virtio1", kind="0x0005", features="01100101")
    assert memory_environment({}, devices=tmp_path) == {ALLOW_HUGE: "0"}


@pytest.mark.parametrize(
    ("kind", "features"),
    [("0x0005", "01100001"), ("0x0005", "011"), ("0x0002", "01100101"), ("", "01100101"), ("0x0005", "")],
)
def test_other_machines_are_left_as_they_are(tmp_path: Path, kind: str, features: str) -> None:
    add_device(tmp_path, "virtio0", kind=kind, features=features)
    (tmp_path / "virtio1").mkdir()
    assert not returns_free_memory(tmp_path)
    assert memory_environment({}, devices=tmp_path) == {}


def test_a_machine_without_virtio_is_left_as_it_is(tmp_path: Path) -> None:
    assert memory_environment({}, devices=tmp_path / "absent") == {}


def test_what_a_person_set_stays(tmp_path: Path) -> None:
    add_device(tmp_path, "virtio0", kind="0x0005", features="01100101")
    assert memory_environment({ALLOW_HUGE: "1"}, devices=tmp_path) == {ALLOW_HUGE: "1"}
