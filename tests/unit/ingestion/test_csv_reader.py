from __future__ import annotations

import hashlib
import random
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.ingestion.reading import read

from millrace.errors import SourceError, SpecError
from millrace.ingestion import block, text_reader
from millrace.ingestion.base import UNASSIGNED
from millrace.ingestion.csv_grammar import Grammar
from millrace.ingestion.csv_reader import CsvFormat

ALL = {"i": "int32", "f": "float64", "b": "bool", "t": "timestamp", "s": "string"}
PARTED: dict[str, Any] = {
    "columns": {"y": "int32", "m": "int32", "v": "float64"},
    "partition_columns": {"y": "%Y", "m": "%m"},
    "key": ["v"],
}


def one(folder: Path, kind: str, text: str, **spec: Any) -> Any:
    """The value of a text, or the detail of its reject."""
    found = read(folder, "a.csv", f"a,b\n{text},x\n", columns={"a": kind, "b": "string"}, **spec)
    return found.rows[0]["a"] if found.rows else found.rejects[0]["detail"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int32", " 7", 7),
        ("int32", "+7", 7),
        ("int32", "3.0", 3),
        ("int32", "1e3", 1000),
        ("int32", "NA", None),
        ("int64", "-9223372036854775808", -(2**63)),
        ("int32", "3.7", "a number with a fraction where a whole one is declared"),
        ("int32", "3000000000", "too large for int32"),
        ("int64", "9223372036854775808", "too large for int64"),
        ("int64", "1e99", "too large for int64"),
        ("int16", "1" * 5000, "too large for int16"),
        ("int32", "0xFFFFFFFF", "no whole number"),
        ("int32", "1_000", "no whole number"),
        ("float64", "-Infinity", float("-inf")),
        ("float64", "1e400", "too large for float64"),
        ("float32", "3.5e38", "too large for float32"),
        ("float64", "1,5", None),
        ("float64", "abc", "no number"),
        ("bool", "Yes", True),
        ("bool", "F", False),
        ("bool", "2", "neither true nor false"),
        ("timestamp", "2013-01-01T05:00:00+05:00", "2013-01-01T00:00:00+00:00"),
        ("timestamp", "2013-01-01 00:00:00 UTC", "2013-01-01T00:00:00+00:00"),
        ("timestamp", "2013-01-01T00:00:00.123456000Z", "2013-01-01T00:00:00.123456+00:00"),
        ("timestamp", "2013-01-01T00:00:00.1234567Z", "a time finer than microseconds"),
        ("timestamp", "2013-02-30T00:00:00Z", "a time that no calendar has"),
        ("timestamp", "0000-01-01T00:00:00Z", "a time that no calendar has"),
        ("timestamp", "9999-12-31T23:59:59-05:00", "a time that no calendar has"),
        ("timestamp", "yesterday", "no time such as 2013-01-01T00:00:00Z"),
    ],
)
def test_a_text_is_its_value_or_a_reject_and_nothing_is_lost(tmp_path: Path, kind: str, text: str, value: Any) -> None:
    if text == "1,5":
        assert read(tmp_path, "a.csv", f"a,b\n{text},x\n").reasons == [(2, "parse")]
        return
    found = one(tmp_path, kind, text)
    assert (found.isoformat() if hasattr(found, "isoformat") else found) == value


def test_times_without_zone_are_read_in_the_declared_one(tmp_path: Path) -> None:
    new_york = {"timezone": "America/New_York"}
    assert one(tmp_path, "timestamp", "2013-07-01 12:00:00", **new_york).isoformat() == "2013-07-01T16:00:00+00:00"
    assert one(tmp_path, "timestamp", "2013-07-01T12:00Z", **new_york).isoformat() == "2013-07-01T12:00:00+00:00"
    assert "twice or never" in one(tmp_path, "timestamp", "2013-11-03 01:30:00", **new_york)
    assert "twice or never" in one(tmp_path, "timestamp", "2013-03-10 02:30:00", **new_york)
    for ambiguous, hour in (("earlier", "05"), ("later", "06")):
        repeated = one(tmp_path, "timestamp", "2013-11-03 01:30:00", **new_york, ambiguous=ambiguous)
        assert repeated.isoformat() == f"2013-11-03T{hour}:30:00+00:00"
        never = one(tmp_path, "timestamp", "2013-03-10 02:30:00", **new_york, ambiguous=ambiguous)
        assert never == "a time that America/New_York has never, as clocks change"


def test_a_source_whose_times_carry_no_zone_is_told_to_declare_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="times without a zone") as caught:
        one(tmp_path, "timestamp", "2013-07-01 12:00:00")
    assert caught.value.where == f"{tmp_path / 'a.csv'}, line 2, column a"
    assert "timezone" in caught.value.remedy


def test_one_time_without_zone_among_others_is_set_aside(tmp_path: Path) -> None:
    text = "t\n2013-07-01T12:00:00Z\n2013-07-01 12:00:00\n"
    found = read(tmp_path, "a.csv", text, columns={"t": "timestamp"}, key=["t"])
    assert (len(found.rows), found.rejects[0]["detail"]) == (1, "a time without a zone")


def test_columns_stand_in_declared_order_whatever_the_header_says(tmp_path: Path) -> None:
    found = read(tmp_path, "a.csv", 'b,more,a\nx,"1,5",7\n')
    assert found.rows == [{"a": 7, "b": "x"}]
    assert found.notes == ["not declared, so not read: more"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines_marks_of_byte_order_and_blank_lines_are_read(tmp_path: Path, end: str) -> None:
    lines = ["", "a,b", "1,x", "", f'2,"y{end}z"', "q,w", '3,5" pipe', ""]
    found = read(tmp_path, "a.csv", b"\xef\xbb\xbf" + end.join(lines).encode())
    assert [row["b"] for row in found.rows] == ["x", f"y{end}z", '5" pipe']
    assert found.reasons == [(7, "type")]


def test_each_fault_has_its_line_offset_and_text(tmp_path: Path) -> None:
    records = [b"1,x", b"2", b"3,y,z", b'4,"q"r', b"5,\xff", b"a,b", b"six,x", b'7,"open', b"8,x"]
    content = b"a,b\n" + b"\n".join(records)
    found = read(tmp_path, "a.csv", content)
    assert [row["a"] for row in found.rows] == [1, 8]
    assert found.reasons == [
        (3, "parse"),
        (4, "parse"),
        (5, "parse"),
        (6, "encoding"),
        (7, "parse"),
        (8, "type"),
        (9, "parse"),
    ]
    for reject, raw in zip(found.rejects, records[1:8], strict=True):
        assert content[reject["offset"] : reject["offset"] + reject["length"]] == raw
        assert reject["sha256"] == hashlib.sha256(raw).hexdigest()
        assert reject["raw"] == raw.decode("utf-8", "backslashreplace")
        assert (reject["file"], reject["header"], reject["partition_key"]) == ("a.csv", "a,b", "2020-01")
    assert found.rejects[4]["detail"] == "the header stands again"
    assert found.rejects[5]["column"] == "a"


def test_a_header_that_stands_again_is_found_among_texts_alone(tmp_path: Path) -> None:
    found = read(tmp_path, "a.csv", "a,b\nx,y\na,b\nz,w\n", columns={"a": "string", "b": "string"})
    assert (len(found.rows), found.reasons) == (2, [(3, "parse")])


def test_a_forgotten_quote_costs_one_record(tmp_path: Path) -> None:
    rows = "".join(f"{number},x\n" for number in range(30_000))
    found = read(tmp_path, "a.csv", f'a,b\n{rows}-1,"open\n{rows}-2,"y"\n')
    assert (len(found.rows), found.reasons) == (60_001, [(30_002, "parse")])


def test_rows_of_the_partition_are_kept_and_faults_follow_their_record(tmp_path: Path) -> None:
    content = "y,m,v\n2020,1,1\n2020,2,2\n2020,1,x\n2020,2,x\n,1,5\n2020,13,6\n2021,1,7\n2020,,x\ny,m,v\n2020,1,8,9\n"
    found = read(tmp_path, "a.csv", content, **PARTED)
    assert [row["v"] for row in found.rows] == [1.0]
    assert [(row["line"], row["partition_key"], row["reason"]) for row in found.rejects] == [
        (4, "2020-01", "type"),
        (6, UNASSIGNED, "no_partition"),
        (7, UNASSIGNED, "no_partition"),
        (8, UNASSIGNED, "outside"),
        (9, UNASSIGNED, "type"),
        (10, UNASSIGNED, "parse"),
        (11, "2020-01", "parse"),
    ]
    february = read(tmp_path, "a.csv", content, partition="2020-02", **PARTED)
    assert [row["line"] for row in february.rejects if row["partition_key"] != UNASSIGNED] == [5]


def test_a_value_that_is_no_partition_is_one_reason_not_two(tmp_path: Path) -> None:
    found = read(tmp_path, "a.csv", "y,m,v\n2020,one,1\n", **PARTED)
    assert [(row["partition_key"], row["reason"]) for row in found.rejects] == [(UNASSIGNED, "no_partition")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a\n1\n", "column 'b' is missing; there are: a"),
        ("a,a,b\n1,1,x\n", "column 'a' stands 2 times in the header"),
    ],
)
def test_a_file_without_the_declared_header_is_refused(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(SourceError, match=told) as caught:
        read(tmp_path, "a.csv", content)
    assert str(tmp_path / "a.csv") in caught.value.where


def test_a_header_alone_has_no_rows_and_names_that_stand_twice_undeclared_do_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", "a,b").rows == []
    assert read(tmp_path, "a.csv", "c,a,c,b\n,1,,x\n").rows == [{"a": 1, "b": "x"}]


def test_delimiters(tmp_path: Path) -> None:
    assert read(tmp_path, "a.tsv", 'a\tb\n1\t"x\ty"\n', delimiter="\t").rows == [{"a": 1, "b": "x\ty"}]
    assert read(tmp_path, "a.csv", "a|b\n1|x\n", delimiter="|").rows == [{"a": 1, "b": "x"}]
    with pytest.raises(SpecError, match="cannot part fields"):
        read(tmp_path, "a.csv", "a¦b\n", delimiter="¦")


def test_a_record_over_the_limit_is_set_aside_unread_and_the_rest_is_read(tmp_path: Path) -> None:
    long = b"2," + b"y" * 3_000_000
    quoted = b'4,"' + b"z\n" * 2000 + b'"'
    records = [b"1,x", long, b"3,x", quoted, b"5," + b"v" * 1022, b"6," + b"v" * 1023, b"7,x"]
    content = b"a,b\n" + b"\n".join(records) + b"\n"
    found = read(tmp_path, "a.csv", content, max_record_bytes=1024)
    assert [row["a"] for row in found.rows] == [1, 3, 5, 7]
    for reject, record in zip(found.rejects, [long, quoted, records[5]], strict=True):
        assert (reject["reason"], reject["raw"], reject["length"]) == ("oversized", None, len(record))
        assert content[reject["offset"] : reject["offset"] + reject["length"]] == record
        assert reject["sha256"] == hashlib.sha256(record).hexdigest()


def test_an_oversized_record_belongs_to_the_partition_its_first_bytes_name(tmp_path: Path) -> None:
    content = "y,m,v\n2020,1,1\n" + "".join(f"{year},1,{'9' * 5000}\n" for year in ("2020", "x", "2019"))
    found = read(tmp_path, "a.csv", content, **PARTED, max_record_bytes=1024)
    assert [row["partition_key"] for row in found.rejects] == ["2020-01", UNASSIGNED, UNASSIGNED]


def test_a_record_of_the_greatest_size_is_read_and_memory_stays_bounded(tmp_path: Path) -> None:
    size = 16 << 20
    with (tmp_path / "a.csv").open("wb") as file:
        file.write(b"a,b\n")
        for number, length in enumerate([size, size + 1, 48 << 20]):
            file.write(b"%d," % number + b"y" * (length - 2) + b"\n")
    before, allocated = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, pa.total_allocated_bytes()
    found = read(tmp_path, "a.csv")
    assert [row["a"] for row in found.rows] == [0]
    assert [row["length"] for row in found.rejects] == [size + 1, 48 << 20]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 << 10
    assert pa.total_allocated_bytes() - allocated < 64 << 20


FIELDS = {
    "int32": ["1", "-5", "3.0", "3.7", "1e3", "", "NA", "x", "99999999999", " 4", "0x10", '"6"', '"7'],
    "float64": ["1.5", "nan", "inf", "1e400", "abc", "", ".5", '"2.5"', "+1"],
    "bool": ["true", "T", "0", "maybe", ""],
    "timestamp": ["2013-01-01T00:00:00Z", "2013-01-01 05:00:00+05:00", "2013-06-01", "yesterday", ""],
    "string": ["a", '"q,r"', '"he said ""hi"""', '"two\nlines"', '5" pipe', '"bad"x', '"open', "\r", "é", '""', '"""'],
}


@st.composite
def files(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    """Columns, and a file of records of which some have faults."""
    kinds = draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=5))
    columns = {f"c{number}": kind for number, kind in enumerate(kinds)}
    header = ",".join(columns).encode()
    rng = random.Random(draw(st.integers(0, 1 << 30)))
    end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    records = []
    for _ in range(draw(st.integers(0, 60))):
        fields = [rng.choice(FIELDS[kind]) if rng.random() < 0.3 else FIELDS[kind][0] for kind in kinds]
        fields += ["more"] * (rng.random() < 0.05)
        record = ",".join(fields[: len(fields) - (rng.random() < 0.05)]).encode()
        record = record.replace(b"a", b"\xff") if rng.random() < 0.03 else record
        records.append(rng.choices([record, header, b""], [0.96, 0.02, 0.02])[0])
    return columns, header + end + end.join(records) + end * draw(st.integers(0, 1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files(), st.integers(5, 300), st.integers(20, 300))
def test_every_record_is_a_row_or_a_reject_however_the_file_is_cut(
    tmp_path: Path, case: tuple[dict[str, str], bytes], block_bytes: int, close_bytes: int
) -> None:
    columns, content = case

    def outcome(**patched: Any) -> tuple[str, list[dict[str, Any]]]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in patched.items():
                patch.setattr(
                    {"BLOCK_BYTES": block, "_CLOSE_BYTES": text_reader, "convert": CsvFormat}[name], name, value
                )
            found = read(tmp_path, "a.csv", content, columns=columns, key=["c0"], timezone="America/New_York")
            return repr(found.rows), found.rejects

    whole = outcome()
    assert whole == outcome(BLOCK_BYTES=block_bytes, _CLOSE_BYTES=close_bytes)
    assert whole == outcome(convert=lambda _self, _text: None), "Arrow and our own rules must agree"
    start = next(Grammar(",").records(content)).next
    records = sum(item.end > item.start for item in Grammar(",").records(content[start:]))
    assert whole[0].count("{") + len(whole[1]) == records
    for reject in whole[1]:
        raw = content[reject["offset"] : reject["offset"] + reject["length"]]
        assert reject["raw"] == raw.decode("utf-8", "backslashreplace")
        before = content[: reject["offset"]]
        assert reject["line"] == 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


def test_a_column_is_read_from_the_text_that_the_header_has_for_it(tmp_path: Path) -> None:
    text = "Ride ID,fare,ride_id\n7,1.5,99\nx,2.5,98\n"
    columns = {"ride_id": "int32", "fare": "float64"}
    found = read(tmp_path, "a.csv", text, columns=columns, key=["ride_id"], header={"ride_id": "Ride ID"})
    assert [(row["ride_id"], row["fare"]) for row in found.rows] == [(7, 1.5)]
    assert [item["column"] for item in found.rejects] == ["ride_id"]


def test_a_text_of_the_header_that_looks_like_a_column_is_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, "a.csv", "Ride ID,fare\n7,1.5\n", columns={"ride_id": "int32"}, key=["ride_id"])
    assert caught.value.remedy == 'add `header: {ride_id: "Ride ID"}` to the source'
