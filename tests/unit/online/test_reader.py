from __future__ import annotations

import math
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from millrace.errors import FeatureError
from millrace.online import OnlineReader, RowCodec, ViewLayout, encode_key
from millrace.online.writer import OnlineWriter

LAYOUT = ViewLayout(
    entities=(("airport", "string"),), features=(("temp", "float64"), ("wind", "float64")), ttl_us=3_600_000_000
)
HOUR = 3_600_000_000
NOON = 12 * HOUR


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a folder" / "online.db"


def write(
    path: Path, rows: list[tuple[str, int, int, list[float | None]]], mark: int, layout: ViewLayout = LAYOUT
) -> int:
    codec = RowCodec(layout)
    packed = [(encode_key(layout, (key,)) or b"", event, known, codec.pack(row)) for key, event, known, row in rows]
    return OnlineWriter(path).write("weather", layout, packed, high_water_mark=mark)


def test_values_come_in_the_order_asked_and_missing_keys_are_none(path: Path) -> None:
    write(path, [("JFK", NOON, NOON, [1.5, None]), ("LGA", NOON, NOON, [math.nan, 2.0])], NOON)
    found = OnlineReader(path).read("weather", [("LGA",), ("XXX",), ("JFK",), (None,), ("JFK",)], ["wind", "temp"])
    assert found[0][0] == 2.0
    assert math.isnan(found[0][1])
    assert found[1:] == [[None, None], [None, 1.5], [None, None], [None, 1.5]]


def test_an_older_row_never_overwrites_a_newer_one_and_an_equal_one_corrects(path: Path) -> None:
    write(path, [("JFK", NOON, NOON, [1.0, 1.0])], NOON)
    write(path, [("JFK", NOON - 1, NOON + 5, [2.0, 2.0])], NOON)
    reader = OnlineReader(path)
    assert reader.read("weather", [("JFK",)], ["temp"]) == [[1.0]]
    write(path, [("JFK", NOON, NOON - 1, [3.0, 3.0])], NOON)
    assert reader.read("weather", [("JFK",)], ["temp"]) == [[1.0]]
    write(path, [("JFK", NOON, NOON, [4.0, 4.0])], NOON)
    assert reader.read("weather", [("JFK",)], ["temp"]) == [[4.0]]


def test_the_ttl_counts_from_the_high_water_mark_and_includes_its_last_instant(path: Path) -> None:
    write(path, [("JFK", NOON, NOON, [1.0, 1.0]), ("LGA", NOON - 1, NOON, [2.0, 2.0])], NOON + HOUR)
    reader = OnlineReader(path)
    assert reader.read("weather", [("JFK",), ("LGA",)], ["temp"]) == [[1.0], [None]]
    assert reader.high_water_mark("weather") == datetime(1970, 1, 1, 13, tzinfo=UTC)
    assert reader.ttl("weather") == timedelta(hours=1)


def test_the_high_water_mark_never_moves_back(path: Path) -> None:
    write(path, [], NOON)
    write(path, [], NOON - HOUR)
    assert OnlineReader(path).high_water_mark("weather") == datetime(1970, 1, 1, 12, tzinfo=UTC)


def test_an_open_reader_sees_what_another_connection_commits(path: Path) -> None:
    write(path, [("JFK", NOON, NOON, [1.0, 1.0])], NOON)
    reader = OnlineReader(path)
    assert reader.read("weather", [("JFK",)], ["temp"]) == [[1.0]]
    write(path, [("JFK", NOON + 1, NOON + 1, [9.0, 9.0])], NOON + 2 * HOUR)
    assert reader.read("weather", [("JFK",)], ["temp"]) == [[None]]
    assert reader.high_water_mark("weather") == datetime(1970, 1, 1, 14, tzinfo=UTC)


def test_a_changed_layout_replaces_rows_and_layout_at_once(path: Path) -> None:
    write(path, [("JFK", NOON, NOON, [1.0, 1.0])], NOON)
    reader = OnlineReader(path)
    wider = ViewLayout(entities=LAYOUT.entities, features=(*LAYOUT.features, ("rain", "float64")), ttl_us=0)
    write(path, [("LGA", NOON, NOON, [1.0, 2.0, 3.0])], NOON, wider)
    assert reader.read("weather", [("JFK",), ("LGA",)], ["rain"]) == [[None], [3.0]]


def test_a_failing_write_leaves_nothing_behind(path: Path) -> None:
    write(path, [("JFK", NOON, NOON, [1.0, 1.0])], NOON)
    rows = [(b"LGA", NOON, NOON, b"row"), (b"EWR", None, NOON, b"row")]
    with pytest.raises(sqlite3.IntegrityError):
        OnlineWriter(path).write("weather", LAYOUT, rows, high_water_mark=NOON + HOUR)  # type: ignore[arg-type]
    reader = OnlineReader(path)
    assert reader.read("weather", [("JFK",), ("LGA",)], ["temp"]) == [[1.0], [None]]
    assert reader.high_water_mark("weather") == datetime(1970, 1, 1, 12, tzinfo=UTC)


def test_declaring_a_view_keeps_what_is_there_and_forgetting_removes_it(path: Path) -> None:
    writer = OnlineWriter(path)
    writer.declare("weather", LAYOUT)
    assert OnlineReader(path).high_water_mark("weather") is None
    write(path, [("JFK", NOON, NOON, [1.0, 1.0])], NOON)
    writer.declare("weather", LAYOUT)
    reader = OnlineReader(path)
    assert reader.read("weather", [("JFK",)], ["temp"]) == [[1.0]]
    writer.forget("weather")
    assert reader.views() == []


def test_bad_questions_name_what_there_is(path: Path) -> None:
    with pytest.raises(FeatureError, match="cannot be read"):
        OnlineReader(path).read("weather", [("JFK",)], ["temp"])
    write(path, [], NOON)
    reader = OnlineReader(path)
    with pytest.raises(FeatureError, match="no view 'wether'"):
        reader.read("wether", [("JFK",)], ["temp"])
    with pytest.raises(FeatureError, match="use one of: temp, wind"):
        reader.read("weather", [("JFK",)], ["tmp"])
    with pytest.raises(FeatureError, match="airport"):
        reader.read("weather", [("JFK", 1)], ["temp"])


def test_the_reader_imports_neither_feast_nor_pandas() -> None:
    import subprocess

    code = "import millrace.online, sys; assert not {'feast', 'pandas', 'sqlalchemy', 'deltalake'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
