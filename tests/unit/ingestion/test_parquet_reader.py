from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.ingestion.reading import read

from millrace.errors import SourceError


def packed(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=3)
    return sink.getvalue()


def test_declared_columns_are_cast_and_others_are_noted(tmp_path: Path) -> None:
    found = read(tmp_path, "a.parquet", packed(more=[1, 2], b=["x", "y"], a=pa.array([1, 2], pa.int64())))
    assert found.rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert found.notes == ["not declared, so not read: more"]


def test_a_value_that_does_not_fit_sets_its_record_aside_by_number(tmp_path: Path) -> None:
    found = read(tmp_path, "a.parquet", packed(a=[1, 2, 3, 4, 1 << 40], b=["v", "w", "x", "y", "z"]))
    assert len(found.rows) == 4
    assert [(row["line"], row["reason"], row["column"], row["offset"]) for row in found.rejects] == [
        (5, "type", "a", None)
    ]
    assert found.rejects[0]["file"] == "a.parquet"


@pytest.mark.parametrize("part", [0, 5, 40, -40, -4])
def test_a_damaged_file_is_a_source_error(tmp_path: Path, part: int) -> None:
    content = bytearray(packed(a=list(range(100)), b=["x"] * 100))
    cut = bytes(content[:part]) if part >= 0 else bytes(content[:part]) + b"\xff" * -part
    with pytest.raises(SourceError, match="not a Parquet file") as caught:
        read(tmp_path, "a.parquet", cut)
    assert str(tmp_path / "a.parquet") in caught.value.where


def test_a_file_without_rows_still_needs_its_columns(tmp_path: Path) -> None:
    empty = packed(a=pa.array([], pa.int32()), b=pa.array([], pa.string()))
    assert read(tmp_path, "a.parquet", empty).rows == []
    with pytest.raises(SourceError, match="column 'b' is missing; there are: a"):
        read(tmp_path, "a.parquet", packed(a=pa.array([], pa.int32())))


def test_text_that_is_no_utf8_sets_its_record_aside(tmp_path: Path) -> None:
    texts = pa.array([b"x", b"\xff", b"z"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    found = read(tmp_path, "a.parquet", packed(a=[1, 2, 3], b=broken))
    assert found.rows == [{"a": 1, "b": "x"}, {"a": 3, "b": "z"}]
    assert [(row["line"], row["reason"], row["column"]) for row in found.rejects] == [(2, "encoding", "b")]


def test_a_column_that_stands_twice_is_a_source_error(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array(["x"]), pa.array([2])], ["a", "b", "a"]), sink)
    with pytest.raises(SourceError, match="column 'a' stands 2 times"):
        read(tmp_path, "a.parquet", sink.getvalue())


def test_truth_values_are_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="column 'a' is bool where int32 is declared"):
        read(tmp_path, "a.parquet", packed(a=[True], b=["x"]))
