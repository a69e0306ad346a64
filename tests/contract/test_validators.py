"""Every validator passes this suite: Great Expectations' verdicts, and the rows behind them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import SpecError
from millrace.spec import ExpectationSpec
from millrace.validation.base import ROW, Finding, Validator
from millrace.validation.gx_validator import GXValidator


@pytest.fixture(params=[GXValidator], ids=lambda kind: kind.__name__, scope="module")
def validator(request: pytest.FixtureRequest) -> Validator:
    made: Validator = request.param()
    return made


def expect(kind: str, on_failure: str = "quarantine", **kwargs: Any) -> ExpectationSpec:
    return ExpectationSpec.model_validate({"type": f"expect_{kind}", "kwargs": kwargs, "on_failure": on_failure})


def table(**columns: Any) -> pa.Table:
    rows = pa.table(columns)
    return rows.append_column(ROW, pa.array(np.arange(100, 100 + rows.num_rows)))


def judge(validator: Validator, rows: pa.Table, *contract: ExpectationSpec) -> list[Finding]:
    return list(validator.validate(rows, contract, suite="suite").findings)


def failing(finding: Finding) -> list[int]:
    assert finding.rows is not None
    return [int(row) - 100 for row in finding.rows]


X = pa.array([1.0, 2.0, None, 100.0, 2.0])
Y = pa.array([0.0, 5.0, 1.0, None, 1.0])
NAMES = pa.array(["aa", "b", None, "b", "c9"])


@pytest.mark.parametrize(
    ("expectation", "rows"),
    [
        (expect("column_values_to_be_between", column="x", max_value=50), [3]),
        (expect("column_values_to_not_be_null", column="name"), [2]),
        (expect("column_values_to_be_unique", column="name"), [1, 3]),
        (expect("column_values_to_be_in_set", column="name", value_set=["b"]), [0, 4]),
        (expect("column_values_to_match_regex", column="name", regex="^[a-z]+$"), [4]),
        (expect("column_value_lengths_to_equal", column="name", value=1), [0, 4]),
        (expect("compound_columns_to_be_unique", column_list=["x", "name"]), []),
        (expect("column_pair_values_a_to_be_greater_than_b", column_A="x", column_B="y"), [1, 2, 3]),
    ],
    ids=lambda value: value.type if isinstance(value, ExpectationSpec) else "",
)
def test_failing_rows_are_named_by_position(
    validator: Validator, expectation: ExpectationSpec, rows: list[int]
) -> None:
    (finding,) = judge(validator, table(x=X, y=Y, name=NAMES), expectation)
    assert finding.error == ""
    assert failing(finding) == rows
    assert finding.holds is (not rows)


@pytest.mark.parametrize(
    ("expectation", "holds"),
    [
        (expect("table_row_count_to_be_between", "block", min_value=5, max_value=5), True),
        (expect("table_row_count_to_be_between", "block", min_value=6), False),
        (expect("column_mean_to_be_between", "warn", column="x", min_value=26, max_value=27), True),
        (expect("column_to_exist", "block", column="x"), True),
        (expect("column_to_exist", "block", column="z"), False),
        (expect("table_columns_to_match_set", "block", column_set=["x", "y", "name"]), True),
        (
            expect(
                "column_quantile_values_to_be_between",
                "warn",
                column="x",
                quantile_ranges={"quantiles": [0.5], "value_ranges": [[0, 10]]},
            ),
            True,
        ),
    ],
)
def test_expectations_on_the_whole_table_name_no_rows(
    validator: Validator, expectation: ExpectationSpec, holds: bool
) -> None:
    (finding,) = judge(validator, table(x=X, y=Y, name=NAMES), expectation)
    assert (finding.holds, finding.rows, finding.error) == (holds, None, "")


def test_mostly_tolerates_a_share(validator: Validator) -> None:
    rows = table(x=pa.array([*range(9), 1000]))
    strict, lenient = judge(
        validator,
        rows,
        expect("column_values_to_be_between", column="x", max_value=10),
        expect("column_values_to_be_between", column="x", max_value=10, mostly=0.9),
    )
    assert (strict.holds, lenient.holds) == (False, True)


def test_findings_come_in_the_order_of_the_contract_though_two_are_equal(validator: Validator) -> None:
    contract = [
        expect("column_mean_to_be_between", "warn", column="y", max_value=1),
        ExpectationSpec(type="expect_column_values_to_not_be_null", kwargs={"column": "x"}, id="one"),
        expect("column_to_exist", "block", column="x"),
        ExpectationSpec(
            type="expect_column_values_to_not_be_null", kwargs={"column": "x"}, id="two", on_failure="warn"
        ),
    ]
    found = judge(validator, table(x=X, y=Y), *contract)
    assert [finding.expectation for finding in found] == contract
    assert failing(found[1]) == failing(found[3]) == [2]


def test_large_whole_numbers_beside_a_null_are_not_blurred(validator: Validator) -> None:
    rows = table(x=pa.array([2**60, 2**60 + 1, None], pa.int64()))
    (finding,) = judge(validator, rows, expect("column_values_to_be_unique", column="x"))
    assert finding.holds


def test_a_table_without_rows_is_judged(validator: Validator) -> None:
    rows = table(x=pa.array([], pa.float64()))
    found = judge(
        validator,
        rows,
        expect("column_values_to_be_unique", column="x"),
        expect("table_row_count_to_be_between", "block", min_value=1),
    )
    assert [finding.holds for finding in found] == [True, False]


def test_what_cannot_be_judged_says_so_and_does_not_hold(validator: Validator) -> None:
    (finding,) = judge(
        validator, table(name=NAMES), expect("column_values_to_match_regex", column="name", regex="([unclosed")
    )
    assert not finding.holds
    assert finding.error


def test_the_document_is_json_and_small_however_many_rows_fail(validator: Validator) -> None:
    rows = table(x=pa.array([None] * 20_000, pa.float64()))
    contract = [expect("column_values_to_not_be_null", column="x")]
    validation = validator.validate(rows, contract, suite="suite")
    assert len(validation.findings[0].rows if validation.findings[0].rows is not None else []) == 20_000
    assert len(orjson.dumps(validation.document)) < 10_000


def test_an_unknown_type_names_near_matches(validator: Validator) -> None:
    with pytest.raises(SpecError, match="unknown expectation 'expect_column_values_to_be_betwen'") as caught:
        judge(validator, table(x=X), expect("column_values_to_be_betwen", column="x", max_value=1))
    assert "expect_column_values_to_be_between" in caught.value.remedy


def test_refused_arguments_name_them_and_those_it_takes(validator: Validator) -> None:
    with pytest.raises(SpecError, match="max: extra fields not permitted") as caught:
        judge(validator, table(x=X), expect("column_values_to_be_between", column="x", min_value=1, max=2))
    assert "max_value" in caught.value.remedy


def test_an_unknown_column_names_a_near_one(validator: Validator) -> None:
    with pytest.raises(SpecError, match="column 'amuont'") as caught:
        judge(validator, table(amount=X), expect("column_values_to_not_be_null", column="amuont"))
    assert caught.value.remedy == "did you mean 'amount'?"


def test_a_type_that_knows_no_rows_cannot_quarantine(validator: Validator) -> None:
    with pytest.raises(SpecError, match="names no rows to quarantine"):
        judge(validator, table(x=X), expect("column_mean_to_be_between", column="x", max_value=1))


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1, max_size=30),
    words=st.data(),
    low=st.integers(-3, 0),
    high=st.integers(1, 3),
)
def test_verdicts_equal_those_of_a_plain_loop(
    validator: Validator, values: list[int | None], words: st.DataObject, low: int, high: int
) -> None:
    texts = words.draw(st.lists(st.sampled_from(["a", "bb", "7", None]), min_size=len(values), max_size=len(values)))
    rows = table(x=pa.array(values, pa.int64()), t=pa.array(texts, pa.string()))
    between, null, unique, within, regex = judge(
        validator,
        rows,
        expect("column_values_to_be_between", column="x", min_value=low, max_value=high),
        expect("column_values_to_not_be_null", column="x"),
        expect("column_values_to_be_unique", column="x"),
        expect("column_values_to_be_in_set", column="x", value_set=[0, 1, 2]),
        expect("column_values_to_match_regex", column="t", regex="^[a-z]+$"),
    )
    at = list(enumerate(values))
    assert failing(between) == [i for i, value in at if value is not None and not low <= value <= high]
    assert failing(null) == [i for i, value in at if value is None]
    assert failing(unique) == [i for i, value in at if value is not None and values.count(value) > 1]
    assert failing(within) == [i for i, value in at if value is not None and value not in (0, 1, 2)]
    assert failing(regex) == [i for i, text in enumerate(texts) if text and not re.match("^[a-z]+$", text)]
