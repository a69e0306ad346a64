from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import FeatureError
from millrace.online import RowCodec, ViewLayout, encode_key
from millrace.online.packing import pack_batch

VALUES = {
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "bool": st.booleans(),
    "timestamp": st.integers(0, 2**52),
    "string": st.text(max_size=12),
}
ARROW = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.int64(),
    "string": pa.string(),
}


def same(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


@st.composite
def packed_rows(draw: st.DrawFn) -> tuple[list[str], list[list[object]]]:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=11))
    row = st.tuples(*(st.none() | VALUES[kind] for kind in kinds)).map(list)
    return kinds, draw(st.lists(row, min_size=1, max_size=4))


def layout_of(kinds: list[str]) -> ViewLayout:
    features = tuple((f"f{index}", kind) for index, kind in enumerate(kinds))
    return ViewLayout(entities=(("key", "string"),), features=features)


@given(packed_rows())
@settings(max_examples=80, deadline=None)
def test_a_row_comes_back_as_it_went_in_with_null_and_nan_apart(
    given_rows: tuple[list[str], list[list[object]]],
) -> None:
    kinds, rows = given_rows
    codec = RowCodec(layout_of(kinds))
    for row in rows:
        assert all(map(same, codec.unpack(codec.pack(row)), row))


@given(packed_rows())
@settings(max_examples=60, deadline=None)
def test_a_table_packs_to_the_same_bytes_as_its_rows_one_by_one(
    given_rows: tuple[list[str], list[list[object]]],
) -> None:
    kinds, rows = given_rows
    layout = layout_of(kinds)
    columns = {f"f{i}": pa.array([row[i] for row in rows], ARROW[kind]) for i, kind in enumerate(kinds)}
    moment = pa.array([1_000_000] * len(rows), pa.timestamp("us", "UTC"))
    for index, kind in enumerate(kinds):
        if kind == "timestamp":
            columns[f"f{index}"] = columns[f"f{index}"].cast(pa.timestamp("us", "UTC"))
    table = pa.table(
        {"key": [f"k{i}" for i in range(len(rows))], **columns, "event_timestamp": moment, "known_at": moment}
    )
    packed = pack_batch(layout, table)
    codec = RowCodec(layout)
    for (key, event, known, blob), row, index in zip(packed, rows, range(len(rows)), strict=True):
        assert (key, event, known) == (f"k{index}".encode(), 1_000_000, 1_000_000)
        assert all(map(same, codec.unpack(blob), row))


@given(st.lists(st.tuples(st.text(max_size=4), st.integers(-5, 5), st.text(max_size=4)), max_size=8, unique=True))
@settings(max_examples=60, deadline=None)
def test_different_keys_have_different_bytes(keys: list[tuple[str, int, str]]) -> None:
    layout = ViewLayout(entities=(("a", "string"), ("b", "int64"), ("c", "string")), features=())
    assert len({encode_key(layout, key) for key in keys}) == len(keys)


def test_a_key_with_a_null_part_has_no_bytes() -> None:
    layout = ViewLayout(entities=(("a", "string"), ("b", "int64")), features=())
    assert encode_key(layout, ("x", None)) is None


@pytest.mark.parametrize("key", [("x",), ("x", 1, 2), (1, 1), ("x", "1"), ("x", 1.0)])
def test_a_key_of_another_shape_is_refused_by_name(key: tuple[object, ...]) -> None:
    layout = ViewLayout(entities=(("a", "string"), ("b", "int64")), features=())
    with pytest.raises(FeatureError) as caught:
        encode_key(layout, key)
    assert caught.value.remedy


def test_a_layout_survives_its_text_form() -> None:
    layout = ViewLayout(entities=(("a", "string"),), features=(("x", "float64"), ("y", "string")), ttl_us=5)
    assert ViewLayout.from_json(layout.to_json()) == layout


def test_a_kind_the_store_cannot_hold_is_refused() -> None:
    with pytest.raises(FeatureError, match="list"):
        ViewLayout(entities=(), features=(("x", "list"),))


def test_rows_without_a_declared_column_are_refused() -> None:
    table = pa.table({"key": ["a"], "event_timestamp": pa.array(np.array([0]), pa.timestamp("us", "UTC"))})
    with pytest.raises(FeatureError, match="f0"):
        pack_batch(layout_of(["float64"]), table)
