"""What only a store in a file meets: files that are swapped, broken, or on a disk that is full."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millrace.errors import OnlineStoreUnavailableError, UnknownViewError
from millrace.online import RowCodec, ViewLayout, encode_key, open_reader, open_writer

LAYOUT = ViewLayout(entities=(("airport", "string"),), features=(("temp", "float64"),))


def write(path: Path, temps: dict[str, float], mark: int) -> None:
    codec = RowCodec(LAYOUT)
    rows = [(encode_key(LAYOUT, (key,)) or b"", mark, mark, codec.pack([temp])) for key, temp in temps.items()]
    open_writer(path).write("w", LAYOUT, [rows], high_water_mark=mark)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_open_reader_goes_on_with_the_file_that_stands_there_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.online.sqlite_reader._LOOK_SECONDS", 0.0)
    store, backup = tmp_path / "online.db", tmp_path / "backup.db"
    write(store, {"JFK": 1.0}, 1)
    write(backup, {"JFK": 2.0}, 2)
    reader = open_reader(store)
    assert reader.read("w", [("JFK",)], ["temp"]) == [[1.0]]
    backup.replace(store)
    assert reader.read("w", [("JFK",)], ["temp"]) == [[2.0]]
    for path in tmp_path.glob("online.db*"):
        path.unlink()
    with pytest.raises(UnknownViewError):
        reader.read("w", [("JFK",)], ["temp"])
    write(store, {"JFK": 3.0}, 3)
    assert reader.read("w", [("JFK",)], ["temp"]) == [[3.0]]
    reader.close()


def test_a_full_disk_is_named_and_what_stood_there_stays(tmp_path: Path) -> None:
    store = tmp_path / "online.db"
    write(store, {"JFK": 1.0}, 1)
    with files_of_at_most(200_000), pytest.raises(OnlineStoreUnavailableError) as caught:
        write(store, {str(number): 1.0 for number in range(100_000)}, 2)
    assert "rollback" not in str(caught.value)
    state = open_writer(store).state("w")
    assert state is not None
    assert (state.rows, state.high_water_mark) == (1, 1)


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    store = tmp_path / "online.db"
    store.write_text("notes of somebody " * 100)
    with pytest.raises(OnlineStoreUnavailableError, match="not a database"):
        write(store, {"JFK": 1.0}, 1)
    assert store.read_text().startswith("notes of somebody")
