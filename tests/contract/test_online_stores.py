"""What every online store does, the same for SQLite, Redis and Postgres."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.online_stores import KINDS, empty_store, servers

from millrace.errors import FeatureError, UnknownViewError
from millrace.online import PackedRow, RowCodec, ViewLayout, ViewState, encode_key, open_reader, open_writer

HOUR = 3_600_000_000
NOON = 12 * HOUR
LAYOUT = ViewLayout(entities=(("airport", "string"),), features=(("temp", "float64"), ("wind", "float64")), ttl_us=HOUR)
FOREVER = ViewLayout(entities=LAYOUT.entities, features=LAYOUT.features)
Given = tuple[str, int, int, list[float | None]]


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    with servers(request.param) as url:
        yield request.param, url


@pytest.fixture
def address(server: tuple[str, str], tmp_path: Path) -> str:
    return empty_store(*server, tmp_path)


def packed(rows: list[Given], layout: ViewLayout = LAYOUT) -> list[PackedRow]:
    codec = RowCodec(layout)
    return [(encode_key(layout, (key,)) or b"", event, known, codec.pack(row)) for key, event, known, row in rows]


def write(
    address: str, rows: list[Given], mark: int, *, layout: ViewLayout = LAYOUT, replace: bool = False, view: str = "w"
) -> int:
    writer = open_writer(address)
    try:
        return writer.write(view, layout, [packed(rows, layout)], high_water_mark=mark, replace=replace)
    finally:
        writer.close()


def temps(address: str, *airports: str) -> list[Any]:
    reader = open_reader(address)
    try:
        return [row[0] for row in reader.read("w", [(airport,) for airport in airports], ["temp"])]
    finally:
        reader.close()


def test_values_come_in_the_order_asked_and_missing_keys_are_none(address: str) -> None:
    assert write(address, [("JFK", NOON, NOON, [1.5, None]), ("LGA", NOON, NOON, [math.nan, 2.0])], NOON) == 2
    found = open_reader(address).read("w", [("LGA",), ("XXX",), ("JFK",), (None,), ("JFK",)], ["wind", "temp"])
    assert found[0][0] == 2.0
    assert math.isnan(found[0][1])
    assert found[1:] == [[None, None], [None, 1.5], [None, None], [None, 1.5]]


def test_no_entities_and_no_features_are_no_error(address: str) -> None:
    write(address, [("JFK", NOON, NOON, [1.5, None])], NOON)
    reader = open_reader(address)
    assert reader.read("w", [], ["temp"]) == []
    assert reader.read("w", [("JFK",)], []) == [[]]


OPERATIONS = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.sampled_from("abcd"), st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 99)), max_size=6
        ),
        st.integers(0, 6),
        st.booleans() | st.just(False),
    ),
    max_size=5,
)


@given(operations=OPERATIONS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_the_newest_row_of_a_key_is_there(
    server: tuple[str, str], tmp_path: Path, operations: list[tuple[list[tuple[str, int, int, int]], int, bool]]
) -> None:
    address = empty_store(*server, tmp_path)
    open_writer(address).forget("w")
    held: dict[str, tuple[int, int, int]] = {}
    mark = 0
    for rows, moved, replace in operations:
        if replace:
            held, mark = {}, moved
        mark = max(mark, moved)
        for key, event, known, value in rows:
            if key not in held or (event, known) >= held[key][:2]:
                held[key] = (event, known, value)
        stored = write(
            address, [(k, e, n, [float(v), None]) for k, e, n, v in rows], moved, layout=FOREVER, replace=replace
        )
        assert stored == len(held)
        assert open_writer(address).state("w") == ViewState(layout=FOREVER, high_water_mark=mark, rows=len(held))
    if operations:
        expected = [float(held[key][2]) if key in held else None for key in "abcd"]
        assert temps(address, *"abcd") == expected


def test_an_older_row_never_overwrites_a_newer_one_and_an_equal_one_corrects(address: str) -> None:
    write(address, [("JFK", NOON, NOON, [1.0, 1.0])], NOON)
    write(address, [("JFK", NOON - 1, NOON + 5, [2.0, 2.0])], NOON)
    assert temps(address, "JFK") == [1.0]
    write(address, [("JFK", NOON, NOON - 1, [3.0, 3.0])], NOON)
    assert temps(address, "JFK") == [1.0]
    write(address, [("JFK", NOON, NOON, [4.0, 4.0])], NOON)
    assert temps(address, "JFK") == [4.0]


def test_the_ttl_counts_from_the_high_water_mark_and_includes_its_last_instant(address: str) -> None:
    write(address, [("JFK", NOON, NOON, [1.0, 1.0]), ("LGA", NOON - 1, NOON, [2.0, 2.0])], NOON + HOUR)
    reader = open_reader(address)
    found = reader.look_up("w", [("JFK",), ("LGA",)], ["temp"])
    assert found.values == [[1.0], [None]]
    assert found.high_water_mark == reader.high_water_mark("w") == datetime(1970, 1, 1, 13, tzinfo=UTC)
    assert reader.read_rows("w", [("LGA",), ("JFK",)]) == [None, (datetime(1970, 1, 1, 12, tzinfo=UTC), [1.0, 1.0])]
    assert reader.ttl("w") == timedelta(hours=1)
    assert reader.layout("w") == LAYOUT


def test_the_mark_moves_back_only_where_the_rows_are_replaced(address: str) -> None:
    write(address, [], NOON)
    write(address, [], NOON - HOUR)
    reader = open_reader(address)
    assert reader.high_water_mark("w") == datetime(1970, 1, 1, 12, tzinfo=UTC)
    write(address, [], NOON - HOUR, replace=True)
    assert reader.high_water_mark("w") == datetime(1970, 1, 1, 11, tzinfo=UTC)


def test_an_open_reader_sees_what_another_connection_writes(address: str) -> None:
    write(address, [("JFK", NOON, NOON, [1.0, 1.0])], NOON)
    reader = open_reader(address)
    assert reader.read("w", [("JFK",)], ["temp"]) == [[1.0]]
    write(address, [("JFK", NOON + 1, NOON + 1, [9.0, 9.0])], NOON + 2 * HOUR)
    assert reader.look_up("w", [("JFK",)], ["temp"]).values == [[None]]
    write(address, [("LGA", NOON, NOON, [5.0, 5.0])], NOON, replace=True)
    assert reader.read("w", [("JFK",), ("LGA",)], ["temp"]) == [[None], [5.0]]
    wider = ViewLayout(entities=LAYOUT.entities, features=(*LAYOUT.features, ("rain", "float64")))
    write(address, [("JFK", NOON, NOON, [1.0, 2.0, 3.0])], NOON, layout=wider)
    assert reader.read("w", [("JFK",), ("LGA",)], ["rain"]) == [[3.0], [None]]
    numbered = ViewLayout(entities=(("number", "int64"),), features=LAYOUT.features)
    row = ((7).to_bytes(8, "little"), NOON, NOON, RowCodec(numbered).pack([7.0, None]))
    open_writer(address).write("w", numbered, [[row]], high_water_mark=NOON)
    assert reader.read("w", [(7,), (8,)], ["temp"]) == [[7.0], [None]]
    open_writer(address).forget("w")
    with pytest.raises(UnknownViewError):
        reader.read("w", [("JFK",)], ["temp"])


def test_readers_see_a_replaced_view_whole_and_with_its_own_mark(address: str) -> None:
    keys = [f"k{number}" for number in range(40)]
    done = threading.Event()

    def replace() -> None:
        try:
            for number in range(1, 25):
                rows: list[Given] = [(key, number, number, [float(number), None]) for key in keys]
                write(address, rows, number, layout=FOREVER, replace=True)
        finally:
            done.set()

    write(address, [(key, 0, 0, [0.0, None]) for key in keys], 0, layout=FOREVER)
    reader = open_reader(address)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(replace)
        while not done.is_set():
            found = reader.look_up("w", [(keys[0],), (keys[-1],)], ["temp"])
            mark = found.high_water_mark.microsecond if found.high_water_mark else 0
            assert found.values == [[float(mark)], [float(mark)]]
        future.result()


def test_an_increment_of_few_rows_appears_with_its_mark(address: str) -> None:
    write(address, [("a", 1, 1, [1.0, None]), ("b", 1, 1, [1.0, None])], 1, layout=FOREVER)
    reader = open_reader(address)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            lambda: [
                write(address, [(key, n, n, [float(n), None]) for key in "ab"], n, layout=FOREVER) for n in range(2, 60)
            ]
        )
        while not future.done():
            found = reader.look_up("w", [("a",), ("b",)], ["temp"])
            mark = found.high_water_mark.microsecond if found.high_water_mark else 0
            assert found.values == [[float(mark)], [float(mark)]]
        future.result()


@pytest.mark.parametrize("replace", [False, True])
def test_a_write_that_breaks_off_does_not_move_the_mark(address: str, replace: bool) -> None:
    write(address, [("JFK", NOON, NOON, [1.0, 1.0])], NOON)

    def broken() -> Iterator[list[PackedRow]]:
        yield packed([("LGA", NOON, NOON, [2.0, 2.0])])
        raise RuntimeError("the source broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        open_writer(address).write("w", LAYOUT, broken(), high_water_mark=NOON + 5, replace=replace)
    assert temps(address, "JFK") == [1.0]
    state = open_writer(address).state("w")
    assert state is not None
    assert state.high_water_mark == NOON
    assert write(address, [("LGA", NOON, NOON, [2.0, 2.0])], NOON + 5) == 2


def test_two_writers_of_a_view_lose_nothing(address: str) -> None:
    open_writer(address).declare("w", FOREVER)
    turns = range(12)

    def work(offset: int) -> None:
        for turn in turns:
            rows: list[Given] = [
                (f"k{number}", turn * 2 + offset, 0, [float(turn * 2 + offset), None]) for number in range(30)
            ]
            rows.append((f"own{offset}-{turn}", 0, 0, [1.0, None]))
            write(address, rows, turn * 2 + offset, layout=FOREVER)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (0, 1)))
    assert temps(address, "k0", "k29") == [23.0, 23.0]
    assert open_writer(address).state("w") == ViewState(layout=FOREVER, high_water_mark=23, rows=30 + 24)


def test_views_written_at_once_to_a_store_that_is_not_there_yet_all_arrive(address: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        views = [f"view {number}" for number in range(4)]
        list(pool.map(lambda view: write(address, [("JFK", 1, 1, [1.0, 2.0])], 1, view=view), views))
    assert open_reader(address).views() == views


def test_declaring_a_view_keeps_what_is_there_and_forgetting_removes_it(address: str) -> None:
    writer = open_writer(address)
    assert writer.state("w") is None
    writer.forget("w")
    writer.declare("w", LAYOUT)
    assert writer.state("w") == ViewState(layout=LAYOUT, high_water_mark=0, rows=0)
    assert open_reader(address).high_water_mark("w") is None
    write(address, [("JFK", NOON, NOON, [1.0, 1.0])], NOON)
    writer.declare("w", FOREVER)
    assert writer.state("w") == ViewState(layout=LAYOUT, high_water_mark=NOON, rows=1)
    writer.forget("w")
    assert open_reader(address).views() == []
    assert writer.state("w") is None


@pytest.mark.parametrize("view", ['odd "name"; DROP', "größe{1}", "x" * 150])
def test_a_view_may_have_any_name(address: str, view: str) -> None:
    write(address, [("JFK", NOON, NOON, [1.0, 1.0])], NOON, view=view)
    write(address, [("JFK", NOON, NOON, [2.0, 1.0])], NOON, view=view + "x")
    reader = open_reader(address)
    assert reader.read(view, [("JFK",)], ["temp"]) == [[1.0]]
    assert reader.views() == sorted([view, view + "x"])


def test_bad_questions_name_what_there_is(address: str) -> None:
    with pytest.raises(UnknownViewError):
        open_reader(address).read("w", [("JFK",)], ["temp"])
    write(address, [], NOON)
    reader = open_reader(address)
    with pytest.raises(UnknownViewError, match="no view 'wether'"):
        reader.read("wether", [("JFK",)], ["temp"])
    with pytest.raises(FeatureError, match="use one of: temp, wind"):
        reader.read("w", [("JFK",)], ["tmp"])
    with pytest.raises(FeatureError, match="airport"):
        reader.read("w", [("JFK", 1)], ["temp"])


def test_arrow_batches_of_all_kinds_come_back_as_they_went_in(address: str) -> None:
    moment = datetime(2013, 3, 10, 7, 30, 0, 125, tzinfo=UTC)
    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        "int16": (pa.int16(), [7, None, -3]),
        "int32": (pa.int32(), [7, None, -3]),
        "int64": (pa.int64(), [2**60, None, -3]),
        "float32": (pa.float32(), [0.5, None, math.inf]),
        "float64": (pa.float64(), [0.1, None, -0.0]),
        "bool": (pa.bool_(), [True, None, False]),
        "string": (pa.string(), ["größer", None, ""]),
        "timestamp": (
            pa.timestamp("ms", "America/New_York"),
            [moment.replace(microsecond=0), None, moment.replace(microsecond=0)],
        ),
    }
    layout = ViewLayout(
        entities=(("number", "int64"), ("text", "string")), features=tuple((name, name) for name in columns)
    )
    stamps = pa.array([moment] * 3, pa.timestamp("us", "UTC"))
    batch = pa.RecordBatch.from_pydict(
        {
            "number": pa.array([1, 1, None], pa.int32()),
            "text": pa.array(["a", "b", "c"]),
            **{name: pa.array(values, kind) for name, (kind, values) in columns.items()},
            "event_timestamp": stamps,
            "known_at": stamps,
        }
    )
    stored = open_writer(address).write("w", layout, iter([batch, batch.slice(0, 1)]), high_water_mark=1)
    assert stored == 2, "a row with a null in its key is left out"
    first, second, missing = open_reader(address).read_rows("w", [(1, "a"), (1, "b"), (1, "c")])
    assert first is not None
    assert second is not None
    assert missing is None
    assert first[0] == moment
    instant = int(moment.replace(microsecond=0).timestamp()) * 1_000_000
    assert first[1] == [7, 7, 2**60, 0.5, 0.1, True, "größer", instant]
    assert second[1] == [None] * 8


def test_more_rows_than_fit_into_one_call_all_arrive(address: str) -> None:
    count = 12_345
    stamps = pa.array([5] * count, pa.int64()).cast(pa.timestamp("us", "UTC"))
    batch = pa.RecordBatch.from_pydict(
        {
            "airport": pa.array([f"k{number:05d}" for number in range(count)]),
            "temp": pa.array(range(count), pa.float64()),
            "wind": pa.nulls(count, pa.float64()),
            "event_timestamp": stamps,
            "known_at": stamps,
        }
    )
    pieces = (batch.slice(start, 4_000) for start in range(0, count, 4_000))
    assert open_writer(address).write("w", FOREVER, pieces, high_water_mark=9) == count
    assert temps(address, "k00000", "k07999", "k12344") == [0.0, 7999.0, 12344.0]
    again = open_writer(address).write("w", FOREVER, [batch], high_water_mark=10)
    assert again == count


def test_a_missing_column_is_named_and_nothing_is_written(address: str) -> None:
    batch = pa.RecordBatch.from_pydict({"airport": pa.array(["JFK"])})
    with pytest.raises(FeatureError, match="known_at"):
        open_writer(address).write("w", LAYOUT, [batch], high_water_mark=NOON)
    assert open_writer(address).state("w") is None


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int16", pa.array([70_000])),
        ("int32", pa.array([2**40])),
        ("int64", pa.array([1.5])),
        ("int64", pa.array([math.nan])),
        ("int64", pa.array([2**63], pa.uint64())),
        ("float64", pa.array(["warm"])),
        ("string", pa.array([3])),
        ("timestamp", pa.array([1], pa.date32())),
    ],
)
def test_values_that_do_not_fit_their_type_are_refused_by_name(tmp_path: Path, kind: str, values: pa.Array) -> None:
    layout = ViewLayout(entities=LAYOUT.entities, features=(("temp", kind),))
    instants = pa.array([NOON])
    batch = pa.record_batch({"airport": ["JFK"], "temp": values, "event_timestamp": instants, "known_at": instants})
    with pytest.raises(FeatureError, match="column 'temp'") as caught:
        open_writer(tmp_path / "online.db").write("w", layout, [batch], high_water_mark=NOON)
    assert kind in caught.value.remedy


def test_a_key_of_more_than_64_bits_is_no_key(address: str) -> None:
    layout = ViewLayout(entities=(("number", "int64"), ("side", "string")), features=(("temp", "float64"),))
    single = ViewLayout(entities=layout.entities[:1], features=layout.features)
    write(address, [], NOON, layout=layout, view="two")
    write(address, [], NOON, layout=single, view="one")
    reader = open_reader(address)
    for view, key in (("two", (2**63, "left")), ("one", (-(2**63) - 1,))):
        with pytest.raises(FeatureError, match="is no key of entity 'number'"):
            reader.read(view, [key], ["temp"])
    reader.close()


def test_threads_share_a_reader(address: str) -> None:
    write(address, [(f"k{number}", 1, 1, [float(number), None]) for number in range(50)], 1, layout=FOREVER)
    reader = open_reader(address)

    def ask(number: int) -> Any:
        return reader.read("w", [(f"k{number % 50}",)], ["temp"])[0][0]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(400))) == [float(number % 50) for number in range(400)]
    reader.close()
    assert ask(3) == 3.0
