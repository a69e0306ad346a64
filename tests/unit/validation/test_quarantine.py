from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from millrace.artifact import DatasetRef, iso
from millrace.errors import LakeConflictError
from millrace.lake import Table, duck
from millrace.lake.schema import TIMESTAMP
from millrace.validation.base import ROW, SetAside
from millrace.validation.carried import carry_over
from millrace.validation.content import contents_of, plain_values, row_id, rows_of
from millrace.validation.naming import locate
from millrace.validation.quarantine import (
    SCHEMA,
    count_open,
    describe_records,
    describe_rows,
    read_quarantine,
    store_quarantine,
)
from millrace.validation.settlement import decide, opened, settle
from millrace.validation.standing import find_standing, rows_of_same_key

MONDAY, TUESDAY = datetime(2020, 1, 6, tzinfo=UTC), datetime(2020, 1, 7, tzinfo=UTC)
SOURCE = "shop/raw/orders"
SNAPSHOT = DatasetRef(table=SOURCE, version=3, partition="2020-01")
REJECTS = pa.schema(
    [(name, pa.string()) for name in ("reason", "column", "detail", "file")]
    + [(name, pa.int64()) for name in ("line", "offset", "length")]
    + [(name, pa.string()) for name in ("header", "raw", "sha256")]
)


def connect(rows: Mapping[str, Sequence[Any]] | pa.Table, clean: Mapping[str, str] | None = None) -> Any:
    """A connection with the views `raw` and `cleaned`, this one with derived columns."""
    connection = duck.connect()
    raw = rows if isinstance(rows, pa.Table) else pa.table(rows)
    connection.register("given", raw.append_column(ROW, pa.array(range(raw.num_rows), pa.int64())))
    connection.execute("CREATE TABLE raw AS SELECT * FROM given")
    derived = "".join(f', {sql} AS "{name}"' for name, sql in (clean or {}).items())
    connection.execute(f"CREATE VIEW cleaned AS SELECT *{derived} FROM raw")
    return connection


def aside(reason: str, rows: Sequence[int], *columns: str, stage: str = "clean") -> SetAside:
    return SetAside(reason=reason, columns=columns, rows=np.array(rows, np.int64), stage=stage)


def describe(connection: Any, found: Sequence[SetAside], *, now: datetime = MONDAY, **more: Any) -> pa.Table:
    batches = describe_rows(connection, found, source=SOURCE, snapshot=SNAPSHOT, now=now, **more)
    return pa.Table.from_batches(list(batches), schema=SCHEMA)


def describe_rejects(records: list[dict[str, Any]]) -> pa.Table:
    table = pa.Table.from_pylist(records, schema=REJECTS)
    return describe_records(table, source=SOURCE, snapshot=SNAPSHOT, now=MONDAY)


def of(values: Sequence[float | None], rows: Sequence[int], **more: Any) -> pa.Table:
    return describe(connect({"x": pa.array(values, pa.float64())}), [aside("e", rows, "x")], **more)


def test_a_row_is_kept_as_it_came_with_its_reasons() -> None:
    connection = connect(
        {"at": pa.array([MONDAY] * 2, TIMESTAMP), "x": [1.0, 3.0]}, {"half": "x / 2", "when": 'CAST("at" AS DATE)'}
    )
    found = describe(
        connection, [aside("e", [1], "half"), aside("f", [1], "x", "when"), aside("g", [0, 1], "x", stage="raw")]
    )
    row = next(row for row in found.to_pylist() if orjson.loads(row["raw"])["x"] == 3.0)
    assert orjson.loads(row["raw"]) == {"at": "2020-01-06T00:00:00Z", "x": 3.0}
    assert orjson.loads(row["reasons"]) == [
        {"expectation": "e", "column": "half", "value": 1.5},
        {"expectation": "f", "column": "x,when", "value": [3.0, "2020-01-06"]},
        {"expectation": "g", "column": "x", "value": 3.0},
    ]
    assert (row["status"], row["kind"], row["resolution"]) == ("open", "row", "")
    assert (row["raw_version"], row["partition"], row["first_seen"]) == (3, "2020-01", MONDAY)


def test_a_reason_on_a_row_that_did_not_come_through_clean_up_shows_the_raw_value() -> None:
    connection = connect({"x": ["1", "a"]})
    connection.execute(f"CREATE OR REPLACE VIEW cleaned AS SELECT x::INT AS x, \"{ROW}\" FROM raw WHERE x <> 'a'")
    (row,) = describe(connection, [aside("cleanup.cast.x", [1], "x"), aside("e", [], "x")]).to_pylist()
    assert orjson.loads(row["reasons"]) == [{"expectation": "cleanup.cast.x", "column": "x", "value": "a"}]


def test_ids_depend_on_content_alone_and_equal_rows_are_told_apart() -> None:
    one, other = of([1.0, 2.0, 2.0], [0, 1, 2]), of([2.0, 9.0, 1.0, 2.0], [0, 2, 3])
    assert one["row_id"].to_pylist() == other["row_id"].to_pylist()
    assert len(set(one["row_id"].to_pylist())) == 3


def test_an_id_means_the_same_copy_whether_the_others_fail_or_not() -> None:
    (row,) = of([2.0, 2.0], [1]).to_pylist()
    assert row["row_id"] in of([2.0, 2.0], [0, 1])["row_id"].to_pylist()
    assert row["row_id"] not in of([2.0], [0])["row_id"].to_pylist()


def test_a_column_added_without_values_leaves_ids_as_they_were() -> None:
    connection = connect({"x": [2.0], "new": pa.array([None], pa.string())})
    assert describe(connection, [aside("e", [0], "x")])["row_id"].to_pylist() == of([2.0], [0])["row_id"].to_pylist()


def test_batches_of_any_size_give_the_same_entries_in_the_order_of_their_ids() -> None:
    values = [float(number % 7) for number in range(50)]
    whole = of(values, range(0, 50, 2))
    assert of(values, range(0, 50, 2), batch_rows=3).equals(whole)
    assert whole["row_id"].to_pylist() == sorted(whole["row_id"].to_pylist())


def test_records_that_never_became_rows_are_kept_with_their_place() -> None:
    records = [
        {
            "reason": "parse",
            "detail": "3 fields, not 5",
            "file": "a.csv",
            "line": 7,
            "raw": "1,2,3",
            "sha256": "aa",
        },
        {
            "reason": "parse",
            "detail": "3 fields, not 5",
            "file": "a.csv",
            "line": 9,
            "raw": "1,2,3",
            "sha256": "aa",
        },
        {"reason": "oversized", "file": "a.csv", "line": 8, "offset": 90, "length": 1 << 30, "sha256": "bb"},
        {"reason": "late", "raw": '{"x":1}'},
    ]
    found = describe_records(
        pa.Table.from_pylist(records, schema=REJECTS), source=SOURCE, snapshot=SNAPSHOT, now=MONDAY
    )
    rows = sorted(found.to_pylist(), key=lambda row: row["line"] or 0)
    assert [row["raw"] for row in rows] == ['{"x":1}', "1,2,3", None, "1,2,3"]
    assert (rows[2]["offset"], rows[2]["length"], rows[2]["sha256"]) == (90, 1 << 30, "bb")
    assert orjson.loads(rows[1]["reasons"]) == [{"expectation": "parse", "column": "", "value": "3 fields, not 5"}]
    assert {row["kind"] for row in rows} == {"record"}
    assert len({row["row_id"] for row in rows}) == 4
    again = describe_rejects(records[::-1])
    assert again.equals(found)


COLUMNS = pa.schema(
    [
        ("i", pa.int64()),
        ("f", pa.float64()),
        ("g", pa.float32()),
        ("s", pa.string()),
        ("t", TIMESTAMP),
        ("b", pa.bool_()),
    ]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.none() | st.sampled_from([0, -1, 2**62]),
            "f": st.none() | st.sampled_from([0.0, -0.0, 0.1, float("inf"), float("-inf"), float("nan"), 1e300]),
            "g": st.none() | st.sampled_from([0.1, float("nan")]),
            "s": st.none() | st.sampled_from(["", "a", 'quote" and \\', "line\nbreak", "\x00", "é\u2028"]),
            "t": st.none() | st.sampled_from([0, -1, 300_000_000_000_000_000, 1_577_836_800_000_001]),
            "b": st.none() | st.booleans(),
        }
    ),
    min_size=1,
    max_size=12,
)


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    moments = pa.array([row["t"] for row in rows], pa.int64()).view(TIMESTAMP)
    columns = [
        moments if field.name == "t" else pa.array([row[field.name] for row in rows], field.type) for field in COLUMNS
    ]
    return pa.Table.from_arrays(columns, schema=COLUMNS)


@profile(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_a_row_comes_back_from_its_content_and_equal_content_means_an_equal_row(rows: list[dict[str, Any]]) -> None:
    table = table_of(rows)
    contents, digests = contents_of(table.to_batches()[0])
    back, again = contents_of(rows_of(contents, COLUMNS).combine_chunks().to_batches()[0])
    assert (back, again) == (contents, digests)
    assert len(set(contents)) == len(set(digests))


@profile(max_examples=12, deadline=None)
@given(rows=ROWS, data=st.data())
def test_quarantined_rows_are_found_again_wherever_a_newer_snapshot_has_them(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    doubled = table_of(rows + rows)
    failing = sorted(data.draw(st.sets(st.integers(0, len(doubled) - 1))))
    entries = describe(connect(doubled), [aside("e", failing, "i")])
    assert entries.num_rows == len(failing)
    order = data.draw(st.permutations(range(len(doubled))))
    newer = doubled.take(pa.array(order, pa.int64()))
    found = locate(connect(newer), entries, source=SOURCE)
    contents, _ = contents_of(newer.combine_chunks().to_batches()[0])
    assert sorted(found) == entries["row_id"].to_pylist()
    assert len(set(found.values())) == len(failing)
    kept = dict(zip(entries["row_id"].to_pylist(), entries["raw"].to_pylist(), strict=True))
    assert all(contents[row] == kept[row_id] for row_id, row in found.items())
    gone = locate(connect(newer.slice(len(rows))), entries, source=SOURCE)
    left = Counter(contents[len(rows) :])
    assert Counter(kept[row_id] for row_id in gone) <= left


def test_the_id_of_a_row_is_that_of_its_content_and_number() -> None:
    connection = connect({"x": ["a'\"\\b"]})
    (row,) = describe(connection, [aside("e", [0], "x")]).to_pylist()
    _, digests = contents_of(pa.record_batch({"x": ["a'\"\\b"]}))
    assert row["row_id"] == row_id(SOURCE, digests[0], 0)


CELL = st.none() | st.sampled_from(["a", "b"])
THREE = st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8)


def table_with(rows: list[tuple[str | None, ...]], names: Sequence[str]) -> pa.Table:
    """Rows of three columns, less those that are not named."""
    return pa.table({name: pa.array([row["xyz".index(name)] for row in rows], pa.string()) for name in names})


@profile(max_examples=40, deadline=None)
@given(rows=THREE, history=st.lists(st.sampled_from(["x", "xy", "xz", "xyz"]), min_size=2, max_size=4), data=st.data())
def test_entries_keep_their_ids_whatever_columns_come_and_go(
    rows: list[tuple[str | None, ...]], history: list[str], data: st.DataObject
) -> None:
    entries = SCHEMA.empty_table()
    for names in history:
        rows = data.draw(st.permutations(rows))
        failing = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1))))
        connection = connect(table_with(rows, names))
        carry_over(connection, entries, source=SOURCE)
        found = locate(connection, entries, source=SOURCE)
        assert len(set(found.values())) == len(found)
        kept = {row["row_id"]: orjson.loads(row["raw"]) for row in entries.to_pylist()}
        for name, position in found.items():
            there = dict(zip("xyz", rows[position], strict=True))
            assert all(value == there[column] for column, value in kept[name].items() if column in names)
        more = describe(connection, [aside("e", failing, "x")])
        assert len(set(more["row_id"].to_pylist())) == len(failing)
        by_place = {position: name for name, position in found.items()}
        known = {by_place[place] for place in failing if place in by_place}
        assert {name for name in more["row_id"].to_pylist() if name in kept} == known
        entries = settle(entries, more, set(found), now=MONDAY)


def settled(entries: pa.Table, previous: pa.Table | None = None, present: Sequence[str] = ()) -> pa.Table:
    return settle(previous, entries, present, now=MONDAY)


def test_storing_again_commits_nothing_and_first_seen_is_kept(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "quarantine")
    first = store_quarantine(table, settled(of([1.0, 2.0], [0])), "2020-01", note={"raw": "3"})
    ref, notes, known = read_quarantine(table, "2020-01")
    assert first is not None
    assert ref is not None
    assert (notes, known.schema) == ({"raw": "3"}, SCHEMA)
    again = store_quarantine(table, settled(of([1.0, 2.0], [0], now=TUESDAY), known), "2020-01", after=ref)
    assert again is not None
    assert (again.version, again.changed) == (first.version, False)
    store_quarantine(table, settled(of([1.0, 2.0], [0, 1], now=TUESDAY), known), "2020-01", after=ref)
    seen = {orjson.loads(row["raw"])["x"]: row["first_seen"] for row in table.read().to_pylist()}
    assert seen == {1.0: MONDAY, 2.0: TUESDAY}
    assert count_open(table) == 2


def test_what_somebody_else_decided_in_between_is_not_written_over(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "quarantine")
    start = settled(of([1.0, 2.0], [0, 1]))
    store_quarantine(table, start, "2020-01")
    ref, _, known = read_quarantine(table, "2020-01")
    one, other = known["row_id"].to_pylist()
    store_quarantine(table, of([7.0], [0]), "2020-02")
    theirs = decide(known, {one: "waived"}, by="ann", reason="known", now=MONDAY)
    store_quarantine(table, theirs, "2020-01", after=ref)
    ours = decide(known, {other: "waived"}, by="bob", reason="known", now=MONDAY)
    with pytest.raises(LakeConflictError, match="written by somebody else in between"):
        store_quarantine(table, ours, "2020-01", after=ref)
    with pytest.raises(LakeConflictError):
        store_quarantine(table, ours, "2020-01", after=None)
    assert opened(read_quarantine(table, "2020-01")[2])["row_id"].to_pylist() == [other]


def test_entries_written_before_there_were_resolutions_are_read_as_open_rows(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "quarantine")
    old = of([1.0], [0]).select(["row_id", "source", "raw", "reasons", "status", "raw_version", "first_seen"])
    table.replace(old, partition="2020-01")
    ref, _, known = read_quarantine(table, "2020-01")
    assert known.schema == SCHEMA
    assert [(row["kind"], row["resolution"], row["partition"]) for row in known.to_pylist()] == [("row", "", "2020-01")]
    assert store_quarantine(table, settled(of([1.0, 4.0], [0, 1]), known), "2020-01", after=ref) is not None
    assert count_open(table) == 2


def test_where_nothing_is_set_aside_and_never_was_no_table_is_made(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "quarantine")
    assert store_quarantine(table, SCHEMA.empty_table(), "2020-01") is None
    assert not table.exists()


def test_corrected_rows_take_the_place_of_their_originals_and_records_follow() -> None:
    connection = connect({"k": [1, 2, 2], "x": [1.0, 5.0, 5.0]})
    rows = describe(connection, [aside("e", [0, 1, 2], "x")])
    records = describe_rejects([{"reason": "late", "raw": '{"k":9,"x":3.0}'}])
    one, *twos = sorted(rows.to_pylist(), key=lambda row: row["raw"])
    (late,) = records["row_id"].to_pylist()
    fixed = twos[0]["row_id"]
    entries = decide(
        pa.concat_tables([rows, records]),
        {one["row_id"]: "waived", fixed: "corrected", late: "waived"},
        by="ann",
        reason="known",
        now=MONDAY,
        corrected={fixed: '{"k":2,"x":0.5}'},
    )
    found = find_standing(connection, entries, {late}, source=SOURCE)
    assert found.waived == {one["row_id"]: 0}
    assert sorted(found.added.values()) == [3, 4]
    shown = connection.sql(f'SELECT k, x, "{ROW}" FROM {found.view} ORDER BY "{ROW}"').fetchall()
    assert shown[0] == (1, 1.0, 0)
    assert shown[1][:2] == (2, 5.0)
    assert sorted(row[:2] for row in shown[2:]) == [(2, 0.5), (9, 3.0)]
    assert len(shown) == 4
    assert [list(item.rows) for item in found.undecided([aside("e", [0, shown[1][2], 3], "x")])] == [[shown[1][2]]]
    connection.execute(f"CREATE OR REPLACE VIEW cleaned AS SELECT * FROM {found.view}")
    assert list(rows_of_same_key(connection, ["k"], found.rows, cleaned="cleaned")) == [shown[1][2]]
    without_record = find_standing(connect({"k": [4], "x": [1.0]}), entries, set(), source=SOURCE)
    assert (without_record.view, without_record.waived, without_record.added) == ("raw", {}, {})


def test_a_decided_row_that_clean_up_cannot_carry_is_open_again() -> None:
    connection = connect({"k": [1, 2], "x": ["5", "b"]})
    rows = describe(connection, [aside("e", [0, 1], "x")])
    one, two = sorted(rows.to_pylist(), key=lambda row: row["raw"])
    entries = decide(
        rows,
        {one["row_id"]: "corrected", two["row_id"]: "waived"},
        by="ann",
        reason="known",
        now=MONDAY,
        corrected={one["row_id"]: '{"k":1,"x":"c"}'},
    )
    found = find_standing(connection, entries, (), source=SOURCE)
    faults = [aside("cleanup.cast.x", [1, 2], "x", stage="raw")]
    lost = found.lost(faults)
    assert lost == {one["row_id"], two["row_id"]}
    assert [list(item.rows) for item in found.undecided(faults, lost)] == [[1]]
    again = found.reopened(entries, faults, lost)
    assert [orjson.loads(row["reasons"])[0]["value"] for row in again.to_pylist()] == ["c"]
    failing = pa.concat_tables([describe(connection, found.undecided(faults, lost)), again])
    state = settle(entries, failing, (), now=TUESDAY + timedelta(days=1), lost=lost)
    assert state["status"].to_pylist() == ["open", "open"]


def test_instants_stand_as_the_rest_of_the_program_writes_them() -> None:
    moments = [MONDAY, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)]
    moments += [datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC)]
    values = pa.array([*moments, None], TIMESTAMP)
    assert plain_values(values) == [*(iso(moment) for moment in moments), None]
    beyond = pa.array([300_000_000_000_000_000, None, 0], pa.int64()).view(TIMESTAMP)
    assert plain_values(beyond) == [300_000_000_000_000_000, None, "1970-01-01T00:00:00Z"]
