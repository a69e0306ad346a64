from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.lake import duck
from millrace.validation.shape import Shape, shape_of


def shape(texts: list[str | None]) -> Shape | None:
    connection = duck.connect()
    try:
        connection.register("rows", pa.table({"c": pa.array(texts, pa.string())}))
        return shape_of(connection, "rows", "c")
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("texts", "pattern"),
    [
        (["EWR", "JFK", "LGA"], "^[A-Z]{3}$"),
        (["A-12", "B-34"], "^[A-Z]-[0-9]{2}$"),
        (["1.5", "2.7"], r"^[0-9]\.[0-9]$"),
        (["N1", "N123", "N4567"], "^[A-Z]+[0-9]+$"),
        (["N14228", "N0EGMQ", "D942DN", "N5V6X"], "^[A-Z0-9]{5,6}$"),
    ],
)
def test_the_most_telling_pattern_is_found(texts: list[str | None], pattern: str) -> None:
    found = shape(texts)
    assert found is not None
    assert found.pattern == pattern


def test_free_text_long_text_and_no_text_have_no_shape() -> None:
    assert shape(["two words", "some more of them", "x"]) is None
    assert shape(["a" * 65] * 3) is None
    assert shape([None]) is None
    assert shape([""]) is None


def test_a_stray_does_not_hide_the_shape_of_the_others() -> None:
    found = shape(["AB"] * 99 + ["???"])
    assert found == Shape(pattern="^[A-Z]{2}$", share=0.99)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=12))
def test_at_least_the_share_that_is_told_matches_in_python_and_in_duckdb(texts: list[str]) -> None:
    texts = [text.replace("\0", "") for text in texts]
    found = shape([*texts])
    if found is not None:
        assert sum(bool(re.search(found.pattern, text)) for text in texts) >= round(found.share * len(texts))
        connection = duck.connect()
        connection.register("rows", pa.table({"c": texts}))
        matched = connection.execute("SELECT count(*) FROM rows WHERE regexp_matches(c, $1)", [found.pattern])
        assert matched.fetchone()[0] >= round(found.share * len(texts))
        connection.close()
