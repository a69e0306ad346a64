from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from millrace.serving.base import Kind, RequestError
from millrace.serving.invocation import parse_invocation

KINDS: dict[str, Kind] = {"x": "number", "c": "category"}
SHAPES: list[dict[str, Any]] = [
    {"dataframe_split": {"index": [0, 1], "columns": ["x", "c", "other"], "data": [[1, "a", 0], [None, None, 0]]}},
    {"dataframe_records": [{"x": 1, "c": "a", "other": 0}, {"x": None, "c": None, "other": 0}]},
    {"instances": [{"x": 1, "c": "a"}, {"x": None, "c": None}]},
    {"inputs": {"x": [1, None], "c": [["a"], [None]]}},
]


@pytest.mark.parametrize("body", SHAPES, ids=lambda body: next(iter(body)))
def test_all_four_shapes_give_the_same_columns(body: dict[str, Any]) -> None:
    request = parse_invocation(orjson.dumps(body), KINDS)
    assert request.rows == 2
    np.testing.assert_array_equal(request.columns["x"], [1.0, np.nan])
    assert request.columns["c"] == ["a", None]
    assert "other" not in request.columns


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "exactly one of"),
        ({"instances": [], "inputs": {}}, "instances and inputs"),
        ({"dataframe_split": {"columns": ["x"], "data": [[1], [1, 2]]}}, "row 1 of `dataframe_split` has 2 values"),
        ({"dataframe_split": {"columns": ["x", "x"], "data": [[1, 2]]}}, "twice"),
        ({"dataframe_split": [1]}, "must hold `columns`"),
        ({"dataframe_records": [{"x": 1}, {"c": "a"}]}, "row 1 of `dataframe_records` differs from row 0 in c, x"),
        ({"dataframe_records": [1]}, "list of objects"),
        ({"instances": [[1, 2]]}, "list of objects"),
        ({"inputs": {"x": [1, 2], "c": ["a"]}}, "'x' has 2 rows, 'c' has 1"),
        ({"inputs": {"x": 1}}, "list of values"),
        ({"inputs": {}}, "no rows"),
        ({"instances": []}, "no rows"),
        ({"inputs": {"x": ["1"]}}, "'x' holds '1' in row 0"),
        ({"inputs": {"c": [1]}}, "'c' holds 1 in row 0"),
    ],
)
def test_a_malformed_invocation_is_told_what_is_wrong(body: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_invocation(orjson.dumps(body), KINDS)
    assert caught.value.status == 400
    assert told in str(caught.value)
