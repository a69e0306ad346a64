from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import FeatureError
from millrace.package import Encoder

KINDS = {"amount": "number", "town": "category", "rate": "number"}
numbers = st.one_of(
    st.none(),
    st.floats(width=64),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.booleans(),
    st.sampled_from([np.inf, -np.inf, np.nan, 1e300, 2**53 + 1, 0.1, -0.0]),
)
texts = st.one_of(
    st.none(), st.sampled_from(["", "a", "b", "ß", "0", "nan", "None"]), st.text(max_size=4), st.just(float("nan"))
)
rows = st.lists(st.tuples(numbers, texts, numbers), min_size=1, max_size=30)


def columns_of(found: list[tuple[Any, Any, Any]]) -> dict[str, list[Any]]:
    return {name: [row[i] for row in found] for i, name in enumerate(KINDS)}


@settings(max_examples=150, deadline=None)
@given(learned=rows, asked=rows, scaled=st.booleans())
def test_a_row_is_encoded_bit_for_bit_as_in_its_batch(learned: Any, asked: Any, scaled: bool) -> None:
    encoder = Encoder.learn(columns_of(learned), KINDS, scaled=scaled)
    batch = encoder.encode(columns_of(asked))
    alone = [encoder.encode({name: [value] for name, value in zip(KINDS, row, strict=True)}) for row in asked]
    assert batch.tobytes() == np.concatenate(alone).tobytes()
    dense = [encoder.standardise(row) for row in alone]
    assert encoder.standardise(batch).tobytes() == np.concatenate(dense).tobytes()
    assert np.isfinite(encoder.standardise(batch)).all()
    assert not np.isinf(batch).any()


@settings(max_examples=60, deadline=None)
@given(asked=rows)
def test_lists_numpy_and_arrow_are_encoded_the_same(asked: Any) -> None:
    plain = [(None if a is None else float(a), b if isinstance(b, str) else None, c) for a, b, c in asked]
    columns = columns_of(plain)
    columns["rate"] = [None if value is None else float(value) for value in columns["rate"]]
    encoder = Encoder.learn(columns, KINDS, scaled=False)
    arrow = {
        "amount": pa.chunked_array(
            [pa.array(columns["amount"][:3], pa.float64()), columns["amount"][3:]], pa.float64()
        ),
        "town": pa.chunked_array([columns["town"][:2], columns["town"][2:]], pa.string()),
        "rate": pa.array(columns["rate"], pa.float64()),
    }
    arrays = {name: np.array([None, *values], object)[1:] for name, values in columns.items()}
    expected = encoder.encode(columns).tobytes()
    assert encoder.encode(arrow).tobytes() == expected
    assert encoder.encode(arrays).tobytes() == expected
    assert Encoder.learn(arrow, KINDS, scaled=True).to_bytes() == Encoder.learn(arrays, KINDS, scaled=True).to_bytes()


@settings(max_examples=60, deadline=None)
@given(learned=rows, asked=rows, scaled=st.booleans())
def test_an_encoder_read_from_its_json_encodes_the_same(learned: Any, asked: Any, scaled: bool) -> None:
    encoder = Encoder.learn(columns_of(learned), KINDS, scaled=scaled)
    again = Encoder.from_bytes(encoder.to_bytes())
    assert again.to_bytes() == encoder.to_bytes()
    matrix = encoder.encode(columns_of(asked))
    assert again.encode(columns_of(asked)).tobytes() == matrix.tobytes()
    assert again.standardise(matrix).tobytes() == encoder.standardise(matrix).tobytes()


def test_vocabulary_is_sorted_and_unseen_and_missing_have_codes_of_their_own() -> None:
    encoder = Encoder.learn({"town": ["b", None, "a", "", "b"]}, {"town": "category"}, scaled=False)
    assert encoder.columns[0].vocabulary == ["", "a", "b"]
    assert encoder.encode({"town": ["", "a", "b", "z", None, float("nan")]})[:, 0].tolist() == [0, 1, 2, 3, 4, 4]


def test_whole_numbers_truth_and_utf8_bytes_are_categories_as_sql_writes_them() -> None:
    encoder = Encoder.learn({"c": ["1", "true", "é"]}, {"c": "category"}, scaled=False)
    assert encoder.encode({"c": [1, True, "é".encode(), np.int64(1), np.True_]})[:, 0].tolist() == [0, 1, 2, 0, 1]


def test_order_of_training_rows_does_not_change_the_encoder() -> None:
    towns = ["x", "y", None, "z"] * 5
    first = Encoder.learn({"town": towns}, {"town": "category"}, scaled=False)
    assert Encoder.learn({"town": towns[::-1]}, {"town": "category"}, scaled=False).to_bytes() == first.to_bytes()


def test_scaling_gives_mean_zero_and_an_indicator_where_training_had_missing_numbers() -> None:
    values = [1.0, 2.0, 3.0, None, 6.0]
    encoder = Encoder.learn({"a": values, "b": [1.0] * 5}, {"a": "number", "b": "number"}, scaled=True)
    dense = encoder.standardise(encoder.encode({"a": values, "b": [1.0] * 5}))
    assert dense.shape == (5, 3)
    assert dense[[0, 1, 2, 4], 0].mean() == pytest.approx(0, abs=1e-6)
    assert dense[:, 2].tolist() == [0, 0, 0, 1, 0]
    assert dense[3, 0] == 0
    assert (dense[:, 1] == 0).all()


def test_ten_thousand_categories_are_coded_exactly() -> None:
    towns = [f"town {number:05d}" for number in range(10_000)]
    encoder = Encoder.learn({"town": towns}, {"town": "category"}, scaled=False)
    assert encoder.encode({"town": pa.array(towns)})[:, 0].tolist() == list(range(10_000))


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("amount", ["12"], "'12'"),
        ("amount", np.array(["12"]), "12"),
        ("amount", pa.array(["x"]), "'x'"),
        ("amount", [dt.datetime(2013, 1, 1)], "datetime"),
        ("amount", np.array(["2013-01-01"], "datetime64[us]"), "2013"),
        ("amount", [[1.0]], r"\[1.0\]"),
        ("amount", [10**400], "1000"),
        ("amount", [1j], "1j"),
        ("town", [1.5], "1.5"),
        ("town", [b"\xff\xfe"], "UTF-8"),
        ("town", [["a"]], r"\['a'\]"),
    ],
)
def test_what_a_kind_cannot_hold_is_refused_by_name(column: str, values: Any, says: str) -> None:
    encoder = Encoder.learn({"amount": [1.0], "town": ["a"], "rate": [0.5]}, KINDS, scaled=False)
    asked = {"amount": [1.0], "town": ["a"], "rate": [0.5], column: values}
    with pytest.raises(FeatureError, match=says) as raised:
        encoder.encode(asked)
    assert column in raised.value.what
    assert raised.value.remedy


def test_a_missing_or_short_column_is_refused_by_name_and_an_extra_one_ignored() -> None:
    encoder = Encoder.learn({"amount": [1.0], "town": ["a"], "rate": [0.5]}, KINDS, scaled=False)
    with pytest.raises(FeatureError, match="'rate' is missing"):
        encoder.encode({"amount": [1.0], "town": ["a"]})
    with pytest.raises(FeatureError, match="'town' has 1 values"):
        encoder.encode({"amount": [1.0, 2.0], "town": ["a"], "rate": [1.0, 2.0]})
    assert encoder.encode({"amount": [1.0], "town": ["a"], "rate": [1.0], "other": [object()]}).shape == (1, 3)
    assert encoder.encode({"amount": [], "town": [], "rate": []}).shape == (0, 3)


@settings(max_examples=80, deadline=None)
@given(
    asked=st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
            st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
            st.one_of(st.none(), st.booleans()),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_whole_numbers_of_arrow_are_encoded_as_one_row_of_them(asked: Any) -> None:
    kinds = {"count": "number", "code": "category", "flag": "category"}
    types = {"count": pa.int64(), "code": pa.int64(), "flag": pa.bool_()}
    columns = {name: pa.array([row[i] for row in asked], types[name]) for i, name in enumerate(kinds)}
    encoder = Encoder.learn(columns, kinds, scaled=False)
    alone = [encoder.encode({name: [value] for name, value in zip(kinds, row, strict=True)}) for row in asked]
    assert encoder.encode(columns).tobytes() == np.concatenate(alone).tobytes()


@settings(max_examples=60, deadline=None)
@given(moments=st.lists(st.one_of(st.none(), st.datetimes()), min_size=1, max_size=5))
@pytest.mark.parametrize("kind", ["number", "category"])
def test_instants_are_refused_alike_in_a_batch_and_in_one_row(kind: str, moments: Any) -> None:
    encoder = Encoder.learn({"at": [1.0 if kind == "number" else "a"]}, {"at": kind}, scaled=False)
    batch = pa.array(moments, pa.timestamp("us"))
    if all(moment is None for moment in moments) and kind == "category":
        assert (encoder.encode({"at": batch}) == encoder.columns[0].missing).all()
        return
    if any(moment is not None for moment in moments):
        with pytest.raises(FeatureError, match="'at' is a"):
            encoder.encode({"at": batch})
    for moment in moments:
        if moment is not None:
            with pytest.raises(FeatureError, match="'at' is a"):
                encoder.encode({"at": [moment]})


def test_text_of_arrow_that_is_not_utf8_is_refused_in_training_and_after() -> None:
    texts = pa.array([b"a", b"\xff"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 2, texts.buffers())
    encoder = Encoder.learn({"town": ["a"]}, {"town": "category"}, scaled=False)
    for refused in (
        lambda: encoder.encode({"town": broken}),
        lambda: Encoder.learn({"town": broken}, {"town": "category"}, scaled=False),
    ):
        with pytest.raises(FeatureError, match="not UTF-8"):
            refused()


def test_a_dictionary_gives_only_the_categories_that_rows_have() -> None:
    coded = pa.array(["a", "b", "c"]).dictionary_encode().slice(0, 2)
    encoder = Encoder.learn({"town": coded}, {"town": "category"}, scaled=False)
    assert encoder.columns[0].vocabulary == ["a", "b"]
    assert encoder.encode({"town": pa.array(["c", "a"]).dictionary_encode()})[:, 0].tolist() == [2, 0]


def test_half_a_character_is_refused_where_it_would_be_sealed_and_unseen_elsewhere() -> None:
    with pytest.raises(FeatureError, match="not Unicode"):
        Encoder.learn({"town": ["\ud800"]}, {"town": "category"}, scaled=False)
    encoder = Encoder.learn({"town": ["a"]}, {"town": "category"}, scaled=False)
    assert encoder.encode({"town": ["\ud800"]})[0, 0] == encoder.columns[0].unseen
