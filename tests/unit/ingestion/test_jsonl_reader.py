from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.ingestion.reading import read

from millrace.errors import SourceError
from millrace.ingestion import block, text_reader
from millrace.ingestion.base import UNASSIGNED
from millrace.ingestion.jsonl_reader import JsonLines


def one(folder: Path, kind: str, text: str) -> Any:
    """The value of a text in an object, or the detail of its reject."""
    columns = {"a": kind, "b": "string"}
    found = read(folder, "a.jsonl", f'{{"a": {text}, "b": "x"}}\n{{"a": null, "b": "y"}}\n', columns=columns)
    return found.rejects[0]["detail"] if found.rejects else found.rows[0]["a"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int32", "3.0", 3),
        ("int32", '"7"', 7),
        ("int32", '"NA"', None),
        ("int64", "9007199254740993", 9007199254740993),
        ("int32", "3.7", "a number with a fraction where a whole one is declared"),
        ("int32", "true", "true or false where int32 is declared"),
        ("int32", "99999999999999999999", "too large for int32"),
        ("int32", "[1]", "nested values where int32 is declared"),
        ("float64", "3", 3.0),
        ("float64", "1e400", "too large for float64"),
        ("float32", "3.5e38", "too large for float32"),
        ("string", "5", "a number where string is declared"),
        ("string", '{"x": 1}', "nested values where string is declared"),
        ("string", '"\\ud800"', "text with half of a character"),
        ("string", '"\\u00e9 \\ud83d\\ude00"', "é 😀"),
        ("bool", "false", False),
        ("bool", '"maybe"', "neither true nor false"),
        ("timestamp", '"2013-01-01T05:00:00+05:00"', "2013-01-01T00:00:00+00:00"),
        ("timestamp", "1357000000", "a number where timestamp is declared"),
    ],
)
def test_a_value_is_kept_or_set_aside_and_nothing_is_lost(tmp_path: Path, kind: str, text: str, value: Any) -> None:
    found = one(tmp_path, kind, text)
    assert (found.isoformat() if hasattr(found, "isoformat") else found) == value


def test_times_without_zone_are_not_taken_for_utc(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="times without a zone"):
        one(tmp_path, "timestamp", '"2013-07-01T12:00:00"')


def test_each_bad_line_has_its_number_offset_and_text(tmp_path: Path) -> None:
    lines = [
        b'{"a": 1, "b": "x"}',
        b'{"a": 2',
        b"[1, 2]",
        b"",
        b'{"a": 3}{"a": 4}',
        b'{"b": "\xff"}',
        b'{"a": 5, "a": 6}',
        b"[" * 100_000,
        b'  {"b": "last"} \r',
    ]
    content = b"\xef\xbb\xbf" + b"\n".join(lines)
    found = read(tmp_path, "a.jsonl", content)
    assert found.rows == [{"a": 1, "b": "x"}, {"a": None, "b": "last"}]
    assert found.reasons == [(2, "parse"), (3, "parse"), (5, "parse"), (6, "encoding"), (7, "parse"), (8, "parse")]
    for reject in found.rejects:
        assert content[reject["offset"] : reject["offset"] + reject["length"]] == lines[reject["line"] - 1]
        assert reject["header"] is None


def test_fields_that_are_not_declared_are_noted_and_may_hold_anything(tmp_path: Path) -> None:
    content = '{"a": 1, "b": "x", "more": [1, {"y": 2}]}\n{"a": 2, "b": "y", "more": "z", "yet": 1}\n'
    found = read(tmp_path, "a.jsonl", content)
    assert len(found.rows) == 2
    assert found.notes == ["not declared, so not read: more, yet"]


def test_a_field_that_no_object_has_is_an_error_and_one_that_some_lack_is_null(tmp_path: Path) -> None:
    assert read(tmp_path, "a.jsonl", '{"a": 1}\n{"a": 2, "b": null}\n').rows == [
        {"a": 1, "b": None},
        {"a": 2, "b": None},
    ]
    with pytest.raises(SourceError, match="column 'b' is missing; there are: a, c"):
        read(tmp_path, "a.jsonl", '{"a": 1, "c": 2}\n')
    assert read(tmp_path, "a.jsonl", "").rows == []


def test_faults_follow_their_record_into_its_partition(tmp_path: Path) -> None:
    lines = [
        {"y": 2020, "m": 1, "v": "x"},
        {"y": 2020, "m": 2, "v": "x"},
        {"m": 1},
        {"y": 1999, "m": 1},
        {"y": 2020, "m": 1, "v": 1},
    ]
    content = "\n".join(map(json.dumps, lines))
    parted: dict[str, Any] = {
        "columns": {"y": "int32", "m": "int32", "v": "float64"},
        "partition_columns": {"y": "%Y", "m": "%m"},
        "key": ["v"],
    }
    found = read(tmp_path, "a.jsonl", content, **parted)
    assert [row["v"] for row in found.rows] == [1.0]
    assert [(row["line"], row["partition_key"], row["reason"]) for row in found.rejects] == [
        (1, "2020-01", "type"),
        (3, UNASSIGNED, "no_partition"),
        (4, UNASSIGNED, "outside"),
    ]


def test_an_oversized_line_is_set_aside_unread(tmp_path: Path) -> None:
    content = '{"a": 1, "b": "x"}\n{"a": 2, "b": "' + "y" * 5_000_000 + '"}\n{"a": 3, "b": "z"}\n'
    found = read(tmp_path, "a.jsonl", content, max_record_bytes=1 << 20)
    assert [row["a"] for row in found.rows] == [1, 3]
    assert [(row["reason"], row["raw"], row["line"]) for row in found.rejects] == [("oversized", None, 2)]


VALUES = {
    "int32": ["1", "-5", "3.0", "3.7", "null", '"NA"', '"x"', "99999999999", "true", "[1]", '"7"', "NaN"],
    "float64": ["1.5", "3", "NaN", "1e400", "1e-400", '"abc"', "null", '"2.5"', "0.1"],
    "float32": ["1.5", "0.1", "3.5e38", "16777217"],
    "bool": ["true", "1", '"yes"', "null", '"x"'],
    "string": ['"a"', '"x\\ny"', '"\\ud800"', "5", "null", '""', "{}"],
    "timestamp": ['"2013-01-01T00:00:00Z"', '"2013-06-01"', '"yesterday"', "5", "null"],
}


@st.composite
def files(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4))
    columns = {f"c{number}": kind for number, kind in enumerate(kinds)}
    rng = random.Random(draw(st.integers(0, 1 << 30)))
    lines = []
    for _ in range(draw(st.integers(1, 50))):
        parts = [
            f'"{name}": {rng.choice(VALUES[kind]) if rng.random() < 0.15 else VALUES[kind][0]}'
            for name, kind in columns.items()
            if rng.random() < 0.95
        ]
        parts += ['"more": {"y": [1]}'] * (rng.random() < 0.03)
        line = "{" + ", ".join(parts) + "}"
        odd = [line, line[:-1], line + line, line.replace(", ", ",\n"), f"  {line} ", "", line + "\r"]
        lines.append(odd[0] if rng.random() < 0.9 else rng.choice(odd))
    whole = "{" + ", ".join(f'"{name}": null' for name in columns) + "}"
    return columns, "\n".join([*lines, whole]).encode()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files(), st.integers(5, 300), st.integers(20, 300))
def test_every_line_is_a_row_or_a_reject_however_the_file_is_cut(
    tmp_path: Path, case: tuple[dict[str, str], bytes], block_bytes: int, close_bytes: int
) -> None:
    columns, content = case

    def outcome(**patched: Any) -> tuple[str, list[dict[str, Any]]]:
        with pytest.MonkeyPatch.context() as patch:
            places = {"BLOCK_BYTES": block, "_CLOSE_BYTES": text_reader, "convert": JsonLines}
            for name, value in patched.items():
                patch.setattr(places[name], name, value)
            found = read(tmp_path, "a.jsonl", content, columns=columns, key=["c0"], timezone="Asia/Tokyo")
            return repr(found.rows), found.rejects

    whole = outcome()
    assert whole == outcome(BLOCK_BYTES=block_bytes, _CLOSE_BYTES=close_bytes)
    assert whole == outcome(convert=lambda _self, _text: None), "Arrow and our own rules must agree"
    assert whole[0].count("{") + len(whole[1]) == sum(bool(line.strip()) for line in content.split(b"\n"))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("float64", "NaN", "nan"),
        ("float32", "Infinity", "inf"),
        ("float64", "-Infinity", "-inf"),
        ("int32", "NaN", "no whole number"),
        ("int64", "Infinity", "no whole number"),
        ("bool", "NaN", "neither true nor false"),
        ("string", "NaN", "a number where string is declared"),
        ("timestamp", "Infinity", "a number where timestamp is declared"),
    ],
)
def test_numbers_that_are_none_are_read_as_in_csv_and_never_null(
    tmp_path: Path, kind: str, text: str, value: str
) -> None:
    assert str(one(tmp_path, kind, text)) == value


def test_keys_of_a_personal_source_are_counted_and_not_named(tmp_path: Path) -> None:
    lines = '{"a": 1, "b": "x", "ann@home": 1}\n{"a": 2, "bob@home": 1}\n'
    personal: dict[str, Any] = {"pii": {"b": "tokenise"}}
    assert read(tmp_path, "a.jsonl", lines, **personal).notes == ["not declared, so not read: 2 fields"]
    assert read(tmp_path, "a.jsonl", lines).notes == ["not declared, so not read: ann@home, bob@home"]
    with pytest.raises(SourceError, match="there are: a, 2 that are not declared") as caught:
        read(tmp_path, "a.jsonl", lines.replace('"b": "x", ', ""), **personal)
    assert "home" not in str(caught.value)
