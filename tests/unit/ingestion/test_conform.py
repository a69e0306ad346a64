"""Loose batches become rows of the declared types; whatever does not fit is set aside, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from millrace.errors import SourceError
from millrace.ingestion.base import REJECTS
from millrace.ingestion.conform import Fault, conform, record_json, reject
from millrace.partition import Partition
from millrace.spec.source import PythonSourceSpec

JANUARY = Partition("2020-01")


def spec_of(**changes: Any) -> PythonSourceSpec:
    spec = {"kind": "python", "function": "a:b", "columns": {"x": "int32"}, "key": [], **changes}
    return PythonSourceSpec.model_validate(spec)


def column(values: pa.Array, kind: str, **changes: Any) -> tuple[list[Any], list[tuple[int, str, str]]]:
    """One column conformed: its values, and (record, reason, column) of what was set aside."""
    batch = pa.RecordBatch.from_arrays([values], names=["x"])
    spec = spec_of(columns={"x": kind}, **changes)
    good, bad = conform(batch, spec, JANUARY, where="here", first_record=1)
    rejects = [] if bad is None else bad.to_pylist()
    return good.column("x").to_pylist(), [(row["line"], row["reason"], row["column"]) for row in rejects]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pa.array([1, None, -5], pa.int64()), "int32", [1, None, -5]),
        (pa.array([3.0, -0.0]), "int64", [3, 0]),
        (pa.array(["12", "-7"]), "int16", [12, -7]),
        (pa.array([1, 2**24], pa.int64()), "float32", [1.0, 2.0**24]),
        (pa.array([Decimal("1.10"), Decimal("9998.67"), Decimal("0.33")]), "float64", [1.1, 9998.67, 0.33]),
        (pa.array([Decimal("3.00")]), "int32", [3]),
        (pa.array([0.5, float("nan")]), "float32", [0.5, pytest.approx(float("nan"), nan_ok=True)]),
        (pa.array([1.5, float("inf")], pa.float32()), "float64", [1.5, float("inf")]),
        (pa.array(["-Infinity", "2"]), "float32", [float("-inf"), 2.0]),
        (pa.array([0, 1, None]), "bool", [False, True, None]),
        (pa.array(["true", "0"]), "bool", [True, False]),
        (pa.array([7, None]), "string", ["7", None]),
        (pa.array([True]), "string", ["true"]),
        (pa.array([b"text"]), "string", ["text"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), "string", ["a", "b", "a"]),
        (pa.array(["a"], pa.large_string()), "string", ["a"]),
        (pa.array([None, None]), "timestamp", [None, None]),
        (pa.array([{"a": 1}, None], pa.struct([("a", pa.int64())])).slice(1), "int32", [None]),
    ],
)
def test_whole_columns_are_cast_where_nothing_is_lost(values: pa.Array, kind: str, expected: list[Any]) -> None:
    assert column(values, kind) == (expected, [])


@pytest.mark.parametrize(
    ("values", "kind", "kept", "at"),
    [
        (pa.array([1, 2**40, 3]), "int32", [1, 3], 2),
        (pa.array([3.0, 3.7]), "int64", [3], 2),
        (pa.array([1.0, float("nan")]), "int64", [1], 2),
        (pa.array(["12", "twelve", "13"]), "int32", [12, 13], 2),
        (pa.array([1, 2**53 + 1]), "float64", [1.0], 2),
        (pa.array([1.5, 0.1]), "float32", [1.5], 2),
        (pa.array([1.5, 1e300]), "float32", [1.5], 2),
        (pa.array([Decimal("3.10"), Decimal("3.00")]), "int32", [3], 1),
        (pa.array([1, 2, 0]), "bool", [True, False], 2),
        (pa.array([b"ok", b"\xff"]), "string", ["ok"], 2),
        (pa.array([2**63, 1], pa.uint64()), "int64", [1], 1),
        (pa.array([1, 2_000], pa.timestamp("ns", "UTC")), "timestamp", [datetime(1970, 1, 1, 0, 0, 0, 2, UTC)], 1),
        (pa.array(["1e10", "1e400"]), "float64", [1e10], 2),
    ],
)
def test_only_the_rows_at_fault_are_set_aside(values: pa.Array, kind: str, kept: list[Any], at: int) -> None:
    assert column(values, kind) == (kept, [(at, "type", "x")])


def test_texts_that_mean_null_are_null_in_columns_of_text_only() -> None:
    assert column(pa.array(["", "NA", "1"]), "int32") == ([None, None, 1], [])
    assert column(pa.array(["", "NA", "n"]), "string") == ([None, None, "n"], [])
    assert column(pa.array([-1, 1]), "int32", null_values=["-1"]) == ([-1, 1], [])


def test_times_without_a_zone_are_those_of_the_spec_or_an_error() -> None:
    summer = datetime(2020, 7, 1, 4, tzinfo=UTC)
    for values in (
        pa.array([datetime(2020, 7, 1)]),
        pa.array([datetime(2020, 7, 1).date()]),
        pa.array(["2020-07-01"]),
        pa.array(["2020-07-01 00:00:00"]),
        pa.array(["2020-07-01T06:00:00+02:00"]),
    ):
        assert column(values, "timestamp", timezone="America/New_York") == ([summer], [])
    for values in (pa.array([datetime(2020, 7, 1)]), pa.array(["2020-07-01T00:00"]), pa.array([summer.date()])):
        with pytest.raises(SourceError, match="without a zone") as caught:
            column(values, "timestamp")
        assert "timezone" in caught.value.remedy


def test_a_time_without_zone_among_zoned_ones_is_set_aside_where_the_spec_names_no_zone() -> None:
    values = pa.array(["2020-07-01T00:00:00Z", "2020-07-01T00:00:00", "soon"])
    assert column(values, "timestamp") == ([datetime(2020, 7, 1, tzinfo=UTC)], [(2, "type", "x"), (3, "type", "x")])


def test_a_local_time_that_clocks_show_twice_or_never_is_not_guessed() -> None:
    values = pa.array([datetime(2020, 3, 8, 2, 30), datetime(2020, 11, 1, 1, 30), datetime(2020, 11, 1, 3)])
    good, bad = column(values, "timestamp", timezone="America/New_York")
    assert good == [datetime(2020, 11, 1, 8, tzinfo=UTC)]
    assert [line for line, _, _ in bad] == [1, 2]


@pytest.mark.parametrize(("ambiguous", "hour"), [("earlier", 5), ("later", 6)])
def test_a_local_time_that_clocks_show_twice_is_the_one_the_source_says(ambiguous: str, hour: int) -> None:
    values = pa.array([datetime(2020, 3, 8, 2, 30), datetime(2020, 11, 1, 1, 30)])
    texts = pa.array(["2020-03-08T02:30:00", "2020-11-01T01:30:00"])
    for shown in (values, texts):
        good, bad = column(shown, "timestamp", timezone="America/New_York", ambiguous=ambiguous)
        assert good == [datetime(2020, 11, 1, hour, 30, tzinfo=UTC)]
        assert [line for line, _, _ in bad] == [1], "a time that no clock showed is never guessed"


@pytest.mark.parametrize(
    ("values", "kind"),
    [(pa.array([1, 2]), "timestamp"), (pa.array([[1]]), "int32"), (pa.array([datetime(2020, 1, 1)]), "int64")],
)
def test_a_column_of_a_type_that_can_never_be_the_declared_one_is_an_error(values: pa.Array, kind: str) -> None:
    with pytest.raises(SourceError, match="is declared") as caught:
        column(values, kind)
    assert "column x" in caught.value.where


def test_a_missing_or_doubled_column_is_an_error() -> None:
    with pytest.raises(SourceError, match="column 'x' is missing"):
        conform(pa.record_batch({"y": [1]}), spec_of(), JANUARY, where="here", first_record=1)
    doubled = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    with pytest.raises(SourceError, match="stands 2 times"):
        conform(doubled, spec_of(), JANUARY, where="here", first_record=1)


def test_a_record_set_aside_keeps_all_its_fields_and_tells_no_value_in_its_detail() -> None:
    batch = pa.record_batch({"more": ["é"], "x": ["secret"]})
    _, bad = conform(batch, spec_of(), JANUARY, where="here", first_record=41, file="f.parquet")
    assert bad is not None
    assert bad.schema == REJECTS
    [row] = bad.to_pylist()
    raw = '{"more":"é","x":"secret"}'.encode()
    assert row["raw"].encode() == raw
    assert (row["line"], row["file"], row["length"], row["partition_key"]) == (41, "f.parquet", len(raw), "2020-01")
    assert row["sha256"] == hashlib.sha256(raw).hexdigest()
    assert "secret" not in row["detail"]


def test_a_record_longer_than_allowed_is_set_aside_without_its_text() -> None:
    batch = pa.record_batch({"x": [1, 2, 3], "note": ["short", "n" * 2000, None]})
    good, bad = conform(batch, spec_of(max_record_bytes=1024), JANUARY, where="here", first_record=1)
    assert good.column("x").to_pylist() == [1, 3]
    assert bad is not None
    [row] = bad.to_pylist()
    assert (row["line"], row["reason"], row["raw"]) == (2, "oversized", None)
    assert row["length"] > 2000
    assert len(row["sha256"]) == 64


MONTHS = {
    "columns": {"x": "int32", "year": "int32", "month": "int32"},
    "partition_columns": {"year": "%Y", "month": "%m"},
}


def placed(years: list[Any], months: list[Any], **changes: Any) -> tuple[list[int], list[tuple[int, str, str]]]:
    batch = pa.record_batch({"x": range(1, len(years) + 1), "year": pa.array(years), "month": pa.array(months)})
    spec = spec_of(**MONTHS, **changes)
    good, bad = conform(batch, spec, JANUARY, where="here", first_record=1, first="2019-06", last="2020-12")
    rejects = [] if bad is None else bad.to_pylist()
    return good.column("x").to_pylist(), [(row["line"], row["reason"], row["partition_key"]) for row in rejects]


def test_rows_are_those_of_the_partition_and_records_of_none_are_set_aside() -> None:
    found = placed([2020, 2020, 2019, None, 2020, 2018, 2021, 2020], [1, 2, 12, 1, 13, 1, 1, 1])
    assert found == (
        [1, 8],
        [
            (4, "no_partition", "unassigned"),
            (5, "no_partition", "unassigned"),
            (6, "outside", "unassigned"),
            (7, "outside", "unassigned"),
        ],
    )


def test_a_partition_column_that_cannot_be_read_leaves_the_record_unassigned() -> None:
    assert placed(["2020", "x", "2020"], ["1", "1", "01"]) == ([1, 3], [(2, "no_partition", "unassigned")])


def test_a_fault_in_a_row_of_another_partition_is_left_to_that_partition() -> None:
    batch = pa.record_batch({"x": ["1", "bad"], "year": [2020, 2020], "month": [1, 2]})
    good, bad = conform(batch, spec_of(**MONTHS), JANUARY, where="here", first_record=1)
    assert (good.num_rows, bad) == (1, None)


def test_a_month_without_its_year_tells_a_partition_too() -> None:
    batch = pa.record_batch({"x": [1, 2, 3], "month": [1, 2, 13]})
    spec = spec_of(columns={"x": "int32", "month": "int32"}, partition_columns={"month": "%m"})
    good, bad = conform(batch, spec, JANUARY, where="here", first_record=1, first="2020-01", last="2020-12")
    assert good.column("x").to_pylist() == [1]
    assert bad is not None
    assert bad.column("line").to_pylist() == [3]


def test_faults_found_before_stand_and_rows_not_kept_are_not_looked_at() -> None:
    batch = pa.record_batch({"x": ["1", "bad", "bad", "4"]})
    known = [(np.array([True, False, False, False]), Fault("encoding", None, "no text", "unassigned"))]
    keep = np.array([True, False, True, True])
    good, bad = conform(batch, spec_of(), JANUARY, where="here", first_record=1, keep=keep, known=known)
    assert good.column("x").to_pylist() == [4]
    assert bad is not None
    assert bad.select(["line", "reason"]).to_pylist() == [
        {"line": 1, "reason": "encoding"},
        {"line": 3, "reason": "type"},
    ]


VALUES = st.one_of(
    st.none(),
    st.sampled_from(["", "NA", "12", "1.5", "x", "2020-01-01", "2020-01-01T00:00:00Z", "true", "-1e400", "9" * 20]),
    st.text(max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES, st.sampled_from(["1", "2", "0", None, "x"])), max_size=40),
    kinds=st.tuples(*[st.sampled_from(["int16", "int64", "float32", "float64", "string", "bool", "timestamp"])] * 2),
)
def test_every_record_is_a_row_or_set_aside_in_exactly_one_place(
    rows: list[tuple[Any, Any, Any]], kinds: tuple[str, str]
) -> None:
    """Over all partitions of the domain each record is a row or a reject of one, or unassigned in every reading."""
    first, second, months = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    batch = pa.record_batch(
        {
            "x": pa.array(range(len(rows)), pa.int32()),
            "a": pa.array(first, pa.string()),
            "b": pa.array(second, pa.string()),
            "month": pa.array(months, pa.string()),
        }
    )
    columns = {"x": "int32", "a": kinds[0], "b": kinds[1], "month": "int32"}
    spec = spec_of(columns=columns, partition_columns={"month": "%m"}, timezone="UTC")
    seen: list[int] = []
    unassigned = []
    for key in ("2020-01", "2020-02"):
        good, bad = conform(batch, spec, Partition(key), where="here", first_record=0, first="2020-01", last="2020-02")
        seen += good.column("x").to_pylist()
        lines = [] if bad is None else bad.select(["partition_key", "line"]).to_pylist()
        seen += [row["line"] for row in lines if row["partition_key"] == key]
        unassigned.append([row["line"] for row in lines if row["partition_key"] == "unassigned"])
    assert unassigned[0] == unassigned[1]
    assert sorted(seen + unassigned[0]) == list(range(len(rows)))


def test_canonical_json_is_json_for_whatever_a_source_holds() -> None:
    odd = {
        "b": b"\xff",
        "d": Decimal("1.10"),
        "n": float("nan"),
        "big": 2**70,
        "s": "\ud800",
        "l": [datetime(2020, 1, 1)],
    }
    assert json.loads(record_json(odd)) == {
        "b": "ff",
        "d": "1.10",
        "n": "nan",
        "big": str(2**70),
        "s": "\ud800",
        "l": ["2020-01-01 00:00:00"],
    }
    assert record_json({"b": 1, "a": 2}) == b'{"a":2,"b":1}'


def test_a_record_told_by_hand_follows_the_rule_of_length() -> None:
    row = reject(Fault("parse", None, "no object", "2020-01"), "x" * 2000, line=7, limit=1024)
    assert (row["reason"], row["raw"], row["length"], row["line"]) == ("oversized", None, 2002, 7)


@pytest.mark.parametrize("kind", ["int16", "int64", "float32", "float64", "timestamp"])
def test_a_column_of_truth_values_is_none_of_numbers(kind: str) -> None:
    with pytest.raises(SourceError, match="column 'x' is bool") as caught:
        column(pa.array([True, False, None]), kind)
    assert "retype" in caught.value.remedy


def broken(*texts: bytes | None) -> pa.Array:
    """Texts whose bytes nobody looked at."""
    found = pa.array(texts, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(found), found.buffers())


@pytest.mark.parametrize("kind", ["string", "int32", "float64", "bool", "timestamp"])
@pytest.mark.parametrize("form", ["string", "large", "view", "dictionary", "slice"])
def test_texts_that_are_no_utf8_set_their_records_aside(kind: str, form: str) -> None:
    values = broken(b"\xff1", None, b"\xc3")
    if form == "large":
        values = values.cast(pa.large_string())
    elif form == "view":
        values = values.cast(pa.string_view())
    elif form == "dictionary":
        values = pa.DictionaryArray.from_arrays(pa.array([0, None, 2]), values)
    elif form == "slice":
        values = broken(b"\xfe", b"\xff1", None, b"\xc3", b"\xfd").slice(1, 3)
    assert column(values, kind) == ([None], [(1, "encoding", "x"), (3, "encoding", "x")])


def test_a_record_with_bytes_that_are_no_text_shows_them_and_its_neighbours_stay() -> None:
    batch = pa.RecordBatch.from_arrays([broken(b"a\xff", b"b"), broken(b"c", b"\xfe")], names=["x", "more"])
    good, bad = conform(batch, spec_of(columns={"x": "string"}), JANUARY, where="here", first_record=1)
    assert good.to_pydict() == {"x": ["b"]}
    assert bad is not None
    assert json.loads(bad["raw"][0].as_py()) == {"x": "a\\xff", "more": "c"}


def test_a_partition_column_that_is_no_text_names_no_partition() -> None:
    spec = spec_of(columns={"x": "string", "day": "string"}, partition_columns={"day": "%Y-%m"})
    batch = pa.RecordBatch.from_arrays(
        [broken(b"\xff", b"b", b"\xff"), broken(b"\xff", b"2020-01", b"2020-02")], ["x", "day"]
    )
    good, bad = conform(batch, spec, JANUARY, where="here", first_record=1)
    assert good["x"].to_pylist() == ["b"]
    assert bad is not None
    assert [(row["line"], row["reason"]) for row in bad.to_pylist()] == [(1, "no_partition")]
