from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.features.skew import differing_rows, plain

VALUES = st.one_of(st.none(), st.floats(), st.integers(), st.booleans(), st.text(max_size=3))


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, np.float64("nan")])
def test_whatever_is_missing_is_the_same(missing: Any) -> None:
    assert not differing_rows({"x": [missing, None]}, {"x": [None, missing]})


def test_the_smallest_difference_is_one() -> None:
    assert differing_rows({"x": [0.1 + 0.2]}, {"x": [0.3]}) == {0: ["x"]}
    assert differing_rows({"x": [2**53 + 1]}, {"x": [2**53]}) == {0: ["x"]}
    assert differing_rows({"x": ["a", None]}, {"x": ["a", ""]}) == {1: ["x"]}
    assert differing_rows({"x": [None]}, {"x": [0.0]}) == {0: ["x"]}


def test_an_instant_is_the_same_in_any_zone_and_as_the_store_writes_it() -> None:
    moment = datetime(2013, 3, 10, 7, tzinfo=UTC)
    local = moment.astimezone(timezone(timedelta(hours=-4)))
    assert plain(moment) == plain(local) == plain(moment.replace(tzinfo=None)) == 1362898800 * 10**6


@given(rows=st.lists(st.tuples(VALUES, VALUES), max_size=8))
def test_rows_that_are_equal_are_never_named_and_others_always(rows: list[tuple[Any, Any]]) -> None:
    online = {"a": [row[0] for row in rows], "b": [row[1] for row in rows]}
    assert not differing_rows(online, online)
    moved = {"a": online["a"], "b": [f"{value!r}, moved" for value in online["b"]]}
    assert differing_rows(online, moved) == {place: ["b"] for place in range(len(rows))}
