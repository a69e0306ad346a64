from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.lake.digest import ContentDigest, content_digest

COLUMNS = {
    "whole": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "real": (pa.float64(), st.floats(allow_nan=False)),
    "text": (pa.string(), st.text(max_size=5)),
    "long": (pa.large_string(), st.text(max_size=3)),
    "flag": (pa.bool_(), st.booleans()),
    "at": (pa.timestamp("us", "UTC"), st.integers(0, 2**40)),
    "list": (pa.list_(pa.int64()), st.lists(st.integers(0, 9), max_size=3)),
}
SCHEMA = pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()])
ROWS = st.lists(st.tuples(*(st.none() | values for _, values in COLUMNS.values())), max_size=12)


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    columns = [pa.array([row[index] for row in rows], field.type) for index, field in enumerate(SCHEMA)]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.lists(st.integers(0, 12), max_size=4))
def test_it_is_the_same_however_rows_are_cut_into_batches(rows: list[tuple[object, ...]], cuts: list[int]) -> None:
    whole = table(rows)
    found = ContentDigest(SCHEMA)
    places = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    for start, end in itertools.pairwise(places):
        for batch in whole.slice(start, end - start).to_batches():
            found.update(batch)
    assert found.hexdigest() == content_digest(whole)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_other_rows_give_another_digest(one: list[tuple[object, ...]], two: list[tuple[object, ...]]) -> None:
    same = repr(one) == repr(two)  # told apart by repr, since 0.0 equals -0.0 and False equals 0
    assert (content_digest(table(one)) == content_digest(table(two))) == same


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (pa.table({"a": ["ab", "c"]}), pa.table({"a": ["a", "bc"]})),
        (pa.table({"a": [1, None]}), pa.table({"a": [None, 1]})),
        (pa.table({"a": [1]}), pa.table({"b": [1]})),
        (pa.table({"a": pa.array([1], pa.int32())}), pa.table({"a": pa.array([1], pa.int64())})),
        (pa.table({"a": [1, 2]}), pa.table({"a": [2, 1]})),
        (pa.table({"a": [""]}), pa.table({"a": pa.array([None], pa.string())})),
    ],
)
def test_places_names_types_order_and_nulls_count(one: pa.Table, two: pa.Table) -> None:
    assert content_digest(one) != content_digest(two)


def test_what_lies_under_a_null_does_not_count() -> None:
    values = pa.array([1, 2, 3])
    hidden = pa.Array.from_buffers(pa.int64(), 3, [pa.py_buffer(b"\x05"), values.buffers()[1]])
    assert content_digest(pa.table({"a": hidden})) == content_digest(pa.table({"a": [1, None, 3]}))
