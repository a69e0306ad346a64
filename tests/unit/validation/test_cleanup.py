from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import ContractError, SpecError
from millrace.spec import SourceSpec
from millrace.validation.base import ROW
from millrace.validation.cleanup import clean_columns, clean_rows, compile_fault, empty_raw, isolated

COLUMNS = {"id": "int32", "text": "string", "value": "float64", "seen": "timestamp"}


def spec(derive: Mapping[str, str] | None = None, key: Sequence[str] = ("id",), drop: Sequence[str] = ()) -> SourceSpec:
    return SourceSpec.model_validate(
        {
            "uri": "x.csv",
            "columns": COLUMNS,
            "key": list(key),
            "cleanup": {"derive": dict(derive or {}), "drop": list(drop)},
        }
    )


def raw(ids: Sequence[int | None], **columns: Any) -> pa.Table:
    count = len(ids)
    values = {
        "id": pa.array(ids, pa.int32()),
        "text": pa.array(columns.get("text", ["t"] * count), pa.string()),
        "value": pa.array(columns.get("value", [1.5] * count), pa.float64()),
        "seen": pa.array(columns.get("seen", [datetime(2020, 1, 1, tzinfo=UTC)] * count), pa.timestamp("us", "UTC")),
    }
    return pa.table(values)


def derived(expressions: Mapping[str, str], **columns: Any) -> pa.Table:
    return clean_rows(raw([1, 2], **columns), spec(expressions), where="here").rows


def test_an_expression_may_rest_on_columns_derived_before_it() -> None:
    found = derived({"twice": "value * 2", "more": "twice + 1", "name": "text || '-' || more"})
    assert found["more"].to_pylist() == [4.0, 4.0]
    assert found["name"].to_pylist() == ["t-4.0", "t-4.0"]


def test_times_come_out_as_instants_in_utc() -> None:
    found = derived({"later": "seen + INTERVAL 90 MINUTE", "plain": "TIMESTAMP '2020-01-01 05:00:00'"})
    assert found.schema.field("later").type == found.schema.field("plain").type == pa.timestamp("us", "UTC")
    assert found["later"][0].as_py() == datetime(2020, 1, 1, 1, 30, tzinfo=UTC)
    assert found["plain"][0].as_py() == datetime(2020, 1, 1, 5, tzinfo=UTC)


def test_declared_columns_keep_their_types_and_not_a_number_becomes_null() -> None:
    found = derived({"gone": "'nan'::DOUBLE", "exact": "1.5", "big": "1::HUGEINT"})
    assert found.schema.field("id").type == pa.int32()
    assert found["gone"].null_count == 2
    assert found.schema.field("exact").type == pa.float64()
    assert found.schema.field("big").type == pa.int64()


def test_dropped_columns_are_left_out_though_others_rest_on_them() -> None:
    wanted = spec({"twice": "value * 2"}, drop=["value"])
    found = clean_rows(raw([1]), wanted, where="here").rows
    assert found.column_names == [*clean_columns(wanted), ROW] == ["id", "text", "seen", "twice", ROW]


def test_rows_come_in_the_order_of_their_key_with_their_raw_position() -> None:
    found = clean_rows(raw([3, None, 1, 2]), spec(), where="here").rows
    assert found["id"].to_pylist() == [1, 2, 3, None]
    assert found[ROW].to_pylist() == [2, 3, 0, 1]


def test_a_wrong_expression_names_the_derived_column() -> None:
    with pytest.raises(SpecError, match=r"clean-up of 'b'.*valeu") as caught:
        clean_rows(raw([1]), spec({"a": "value", "b": "valeu * 2"}), where="shop/raw/orders")
    assert caught.value.where == "shop/raw/orders"
    assert caught.value.remedy == "correct cleanup.derive.b"


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("avg(value)", "GROUP BY"),
        ("value)) FROM raw; DROP TABLE raw; --", "syntax"),
        ("[value]", "a column cannot hold"),
        ("(SELECT max(column0) FROM read_csv('/etc/passwd'))", "disabled by configuration"),
    ],
)
def test_expressions_that_are_no_column_are_refused(expression: str, fault: str) -> None:
    with isolated() as connection:
        wanted = spec({"a": expression})
        connection.register("raw", empty_raw(wanted))
        assert fault.lower() in compile_fault(connection, wanted, "a").lower()


def test_a_derived_column_may_not_hide_a_declared_one() -> None:
    with pytest.raises(SpecError, match="there is a declared column of this name"):
        clean_rows(raw([1]), spec({"value": "1"}), where="here")


def test_a_value_an_expression_fails_on_names_column_and_raw_row() -> None:
    texts = ["1"] * 700 + ["one"] + ["1"] * 300 + ["two"]
    rows = raw(range(len(texts)), text=texts)
    with pytest.raises(ContractError, match="clean-up of 'number' fails on a value") as caught:
        clean_rows(rows, spec({"fine": "value", "number": "CAST(text AS INTEGER)"}), where="here")
    assert caught.value.where == "here, raw row 701, column number"


def test_an_expression_that_multiplies_rows_is_refused() -> None:
    with pytest.raises(SpecError, match="clean-up makes 4 rows of 2"):
        clean_rows(raw([1, 2]), spec({"a": "unnest([1, 2])"}), where="here")


def test_of_equal_copies_the_first_stays() -> None:
    assert clean_rows(raw([5, 6, 5, 5]), spec(), where="here").duplicates.tolist() == [2, 3]


def test_rows_that_share_a_key_and_differ_are_all_duplicates() -> None:
    rows = raw([5, 6, 5], value=[1.0, 1.0, 2.0])
    assert clean_rows(rows, spec(), where="here").duplicates.tolist() == [0, 2]


def test_rows_without_a_key_are_nobodys_duplicates() -> None:
    assert clean_rows(raw([None, None]), spec(), where="here").duplicates.tolist() == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, 1, 2, 3]), st.sampled_from([None, 0.5, 1.5])), max_size=12))
def test_duplicates_equal_those_of_a_plain_loop(pairs: list[tuple[int | None, float | None]]) -> None:
    rows = raw([key for key, _ in pairs], value=[value for _, value in pairs])
    expected = []
    for position, (key, value) in enumerate(pairs):
        same_key = [other for other in pairs if other[0] == key is not None]
        differ = len({other[1] for other in same_key}) > 1
        if key is not None and (differ or (key, value) in pairs[:position]):
            expected.append(position)
    assert clean_rows(rows, spec(), where="here").duplicates.tolist() == expected
