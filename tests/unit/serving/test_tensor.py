from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.serving.base import RequestError
from millrace.serving.tensor import NUMERIC, column_of_bytes, column_of_json


def packed(texts: list[str]) -> memoryview:
    return memoryview(b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=5), min_size=1, max_size=5))
def test_strings_survive_the_binary_form(texts: list[str]) -> None:
    assert column_of_bytes("x", "BYTES", "category", packed(texts), len(texts)) == texts


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=24), st.integers(1, 4))
def test_any_binary_string_data_are_a_column_or_a_clear_error(raw: bytes, rows: int) -> None:
    try:
        column = column_of_bytes("x", "BYTES", "category", memoryview(raw), rows)
    except RequestError as error:
        assert error.status == 400
        assert "'x'" in str(error)
    else:
        assert len(column) == rows


@pytest.mark.parametrize("datatype", sorted(NUMERIC))
def test_every_numeric_datatype_is_read_from_bytes(datatype: str) -> None:
    values = np.array([0, 1, 1], np.dtype(NUMERIC[datatype]))
    column = column_of_bytes("x", datatype, "number", memoryview(values.tobytes()), 3)
    assert list(column) == [0.0, 1.0, 1.0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(allow_infinity=False, allow_nan=False), st.integers(-9, 9)), min_size=1))
def test_json_numbers_stay_what_they_are_and_null_is_missing(data: list[float | None]) -> None:
    column = np.asarray(column_of_json("x", "FP64", "number", data), np.float64)
    expected = np.array([np.nan if value is None else value for value in data], np.float64)
    np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize(
    ("datatype", "kind", "data", "told"),
    [
        ("FP64", "number", ["1.5"], "'1.5' in row 0"),
        ("FP64", "number", [1.0, True], "True in row 1"),
        ("FP64", "number", [1e999], "infinite"),
        ("FP64", "number", [1.0, float("inf")], "infinite"),
        ("INT64", "number", [1, 1.5], "1.5 in row 1"),
        ("INT64", "number", [1.5], "1.5 in row 0"),
        ("BOOL", "number", [1], "true or false"),
        ("BYTES", "number", ["a"], "is a number"),
        ("FP32", "category", [1.0], "is a category"),
        ("BYTES", "category", [1], "1 in row 0"),
        ("FP64", "key", [1.0], "is a join key"),
        ("TEXT", "number", [1.0], "unknown datatype"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(datatype: str, kind: str, data: list[object], told: str) -> None:
    with pytest.raises(RequestError, match="'x'") as caught:
        column_of_json("x", datatype, kind, data)  # type: ignore[arg-type]
    assert caught.value.status == 400
    assert told in str(caught.value)


def test_binary_nan_is_missing_and_infinity_is_refused() -> None:
    column = column_of_bytes("x", "FP32", "number", memoryview(np.array([np.nan], np.float32).tobytes()), 1)
    assert np.isnan(column[0])
    with pytest.raises(RequestError, match="infinite"):
        column_of_bytes("x", "FP32", "number", memoryview(np.array([np.inf], np.float32).tobytes()), 1)


def test_binary_numbers_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(RequestError, match="3 x FP64 are 24 bytes"):
        column_of_bytes("x", "FP64", "number", memoryview(bytes(20)), 3)
