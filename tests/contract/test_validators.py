"""Every validator passes this suite: Great Expectations' verdicts, and the rows behind them."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import SpecError
from millrace.lake import duck
from millrace.spec import ExpectationSpec
from millrace.validation.base import ROW, Finding, Validation, Validator
from millrace.validation.gx_page import render_page
from millrace.validation.gx_validator import GXPandasValidator, GXValidator


@pytest.fixture(params=[GXValidator, GXPandasValidator], ids=lambda kind: kind.__name__, scope="module")
def validator(request: pytest.FixtureRequest) -> Validator:
    made: Validator = request.param()
    return made


def expect(kind: str, on_failure: str = "quarantine", **kwargs: Any) -> ExpectationSpec:
    return ExpectationSpec.model_validate({"type": f"expect_{kind}", "kwargs": kwargs, "on_failure": on_failure})


def table(**columns: Any) -> pa.Table:
    rows = pa.table(columns)
    return rows.append_column(ROW, pa.array(np.arange(100, 100 + rows.num_rows)))


def validate(validator: Validator, rows: pa.Table, contract: Sequence[ExpectationSpec]) -> Validation:
    connection = duck.connect(external=False)
    connection.register("rows", rows)
    try:
        return validator.validate(connection, "rows", contract, suite="suite")
    finally:
        connection.close()


def judge(validator: Validator, rows: pa.Table, *contract: ExpectationSpec) -> list[Finding]:
    return list(validate(validator, rows, contract).findings)


def failing(finding: Finding) -> list[int]:
    assert finding.rows is not None
    assert finding.rows.dtype == np.int64
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
        (expect("column_values_to_match_regex", column="name", regex="^(?=[a-z]+$)"), [4]),
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
        (expect("column_to_exist", "block", column=ROW), False),
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


def test_only_what_quarantines_names_rows(validator: Validator) -> None:
    kwargs = {"column": "x", "max_value": 50}
    aside, warned = judge(
        validator,
        table(x=X),
        expect("column_values_to_be_between", **kwargs),
        expect("column_values_to_be_between", "warn", **kwargs),
    )
    assert failing(aside) == [3]
    assert (warned.holds, warned.rows) == (False, None)


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
        ExpectationSpec(
            type="expect_column_values_to_not_be_null", kwargs={"column": "x"}, id="one", on_failure="warn"
        ),
        expect("column_to_exist", "block", column="x"),
        ExpectationSpec(
            type="expect_column_values_to_not_be_null", kwargs={"column": "x"}, id="two", on_failure="quarantine"
        ),
        expect("column_values_to_not_be_null", "warn", column="x", mostly=1.0),
    ]
    found = judge(validator, table(x=X, y=Y), *contract)
    assert [finding.expectation for finding in found] == contract
    assert failing(found[3]) == [2]
    assert found[1].rows is None
    assert not any(finding.holds for finding in (found[1], found[3], found[4]))


def test_large_whole_numbers_beside_a_null_are_not_blurred(validator: Validator) -> None:
    rows = table(x=pa.array([2**60, 2**60 + 1, None], pa.int64()))
    (finding,) = judge(validator, rows, expect("column_values_to_be_unique", column="x"))
    assert finding.holds


def test_not_a_number_is_null(validator: Validator) -> None:
    rows = table(x=pa.array([1.0, math.nan, math.nan]))
    unique, present = judge(
        validator,
        rows,
        expect("column_values_to_be_unique", column="x"),
        expect("column_values_to_not_be_null", column="x"),
    )
    assert unique.holds
    assert failing(present) == [1, 2]


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
    assert finding.rows is None


def test_the_document_is_json_and_small_however_many_rows_fail(validator: Validator) -> None:
    rows = table(x=pa.array([None] * 20_000, pa.float64()), y=pa.array(range(20_000)))
    contract = [
        expect("column_values_to_not_be_null", column="x"),
        expect("column_most_common_value_to_be_in_set", "warn", column="y", value_set=[7], ties_okay=True),
    ]
    validation = validate(validator, rows, contract)
    assert len(validation.findings[0].rows if validation.findings[0].rows is not None else []) == 20_000
    assert validation.findings[1].holds
    assert len(orjson.dumps(validation.document)) < 20_000


def test_shown_rows_are_the_first_by_position(validator: Validator) -> None:
    order = random.Random(3).sample(range(1000), 1000)
    rows = pa.table({"x": pa.array([float(place) for place in order]), ROW: pa.array(order, pa.int64())})
    validation = validate(
        validator,
        rows,
        [
            expect("column_values_to_be_between", "warn", column="x", max_value=9),
            expect("column_values_to_be_between", column="x", max_value=989),
        ],
    )
    first, second = (item["result"] for item in validation.document["results"])
    assert first["partial_unexpected_list"] == list(range(10, 30))
    assert first["partial_unexpected_index_list"] == list(range(10, 30))
    assert second["partial_unexpected_list"] == list(range(990, 1000))
    assert validation.findings[1].rows is not None
    assert validation.findings[1].rows.tolist() == list(range(990, 1000))


def test_values_of_private_columns_are_in_no_document_and_no_finding(validator: Validator) -> None:
    rows = table(name=pa.array(["secret-a", "secret-b", "secret-b", None]), x=pa.array([41923, 41924, 41925, None]))
    contract = [
        expect("column_values_to_be_in_set", column="name", value_set=["else"]),
        expect("column_values_to_match_regex", column="name", regex="(?=z)"),
        expect("column_values_to_be_unique", column="name"),
        expect("column_values_to_be_between", column="x", max_value=5),
        expect("column_max_to_be_between", "warn", column="x", max_value=5),
        expect("column_median_to_be_between", "warn", column="x", max_value=5),
        expect("column_most_common_value_to_be_in_set", "warn", column="name", value_set=["else"]),
        expect("column_distinct_values_to_be_in_set", "warn", column="name", value_set=["else"]),
        expect("column_distinct_values_to_equal_set", "warn", column="x", value_set=[1]),
        expect("compound_columns_to_be_unique", column_list=["name", "y"]),
        expect("column_pair_values_to_be_equal", column_A="y", column_B="x"),
        expect("column_mean_to_be_between", "warn", column="name", min_value=1),
        expect("column_unique_value_count_to_be_between", "warn", column="name", max_value=1),
    ]
    rows = rows.append_column("y", pa.array([1, 1, 1, 1]))
    kind = type(validator)
    told = validate(kind(private=frozenset({"name", "x"})), rows, contract)  # type: ignore[call-arg]
    text = (
        repr(told.findings)
        + orjson.dumps(told.document).decode()
        + render_page(told.document, title="t", line="l", home=".")
    )
    assert not re.findall("secret-.|4192.", text)
    plain = validate(validator, rows, contract)
    assert [finding.holds for finding in told.findings] == [finding.holds for finding in plain.findings]
    assert [finding.rows is None for finding in told.findings] == [finding.rows is None for finding in plain.findings]
    assert told.findings[-1].observed == "observed 2"


def test_neither_connection_nor_table_is_changed(validator: Validator) -> None:
    connection = duck.connect(threads=1, memory_limit="512MB", external=False)
    connection.register("rows", table(x=X, name=NAMES))
    before = connection.execute("SELECT * FROM duckdb_settings() ORDER BY name").fetchall()
    contract = [expect("column_values_to_be_unique", column="name"), expect("column_values_to_be_null", column="x")]
    validator.validate(connection, "rows", contract, suite="suite")
    assert connection.execute("SELECT * FROM duckdb_settings() ORDER BY name").fetchall() == before
    assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]


def test_a_page_shows_expectations_and_what_was_seen(validator: Validator) -> None:
    validation = validate(
        validator,
        table(x=X, name=NAMES),
        [
            expect("column_values_to_be_between", column="x", max_value=50),
            expect("column_mean_to_be_between", "warn", column="x", min_value=0, max_value=30),
            expect("column_distinct_values_to_equal_set", "warn", column="name", value_set=["aa", "b", "zz"]),
        ],
    )
    page = render_page(validation.document, title="shop / orders", line="1 row", home="../index.html")
    text = re.sub(r"<[^>]+>|\s+", " ", page)
    assert "values must be less than or equal to 50" in re.sub(" +", " ", text).replace(" .", ".")
    assert "100.0" in text or "100" in text
    assert "26.25" in text
    assert "1 values beyond the set: c9; 1 values missing from the column: zz" in text
    assert "exception" not in text


def test_quantiles_of_a_column_asked_for_twice_are_not_mixed_up(validator: Validator) -> None:
    def quantiles(*shares: float) -> ExpectationSpec:
        ranges = {"quantiles": shares, "value_ranges": [[0, 9]] * len(shares)}
        return expect("column_quantile_values_to_be_between", "warn", column="x", quantile_ranges=ranges)

    found = judge(validator, table(x=pa.array([1.0, 2.0, 3.0])), quantiles(0.0, 0.5), quantiles(1.0, 0.5))
    assert "'values': [1.0, 2.0]" in found[0].observed
    assert "'values': [3.0, 2.0]" in found[1].observed


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


def test_what_duckdb_does_not_count_runs_on_pandas_and_says_so() -> None:
    contract = [
        expect("column_values_to_not_be_null", column="x"),
        expect("column_values_to_be_increasing", column="x"),
        expect("column_values_to_match_regex", column="name", regex=r"\bb"),
    ]
    validation = validate(GXValidator(), table(x=X, name=NAMES), contract)
    assert validation.by_engine == {"duckdb": 1, "pandas": 2}
    engines = [item["meta"]["engine"] for item in validation.document["results"]]
    assert engines == ["duckdb", "pandas", "pandas"]
    assert [failing(finding) for finding in validation.findings] == [[2], [4], [0, 4]]


@settings(max_examples=8, deadline=None)
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


# Agreement: over every type that DuckDB counts, on awkward columns, our result is Great Expectations' own on pandas.

KINDS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "small": (pa.int32(), [0, 1, 2, 3, -1, 2**31 - 1, -(2**31)]),
    "big": (pa.int64(), [0, 1, 2, -5, 2**53, 2**53 + 1, 2**60, 2**60 + 1, -(2**62)]),
    "whole": (pa.int64(), [0, 1, 2, 3, -5]),
    "single": (pa.float32(), [0.0, 1.5, 0.1, -2.25, 3e7]),
    "real": (pa.float64(), [0.0, -0.0, 1.5, 0.1, 2.0, -3.25, 1e9]),
    "infinite": (pa.float64(), [0.0, math.inf, -math.inf, 2.5]),
    "text": (pa.string(), ["a", "b", "bb", "", "é", "日本語", "a\n", "a\nb", "A1", "x'y", 'q"', "👍🏽", " a", "٣"]),
    "flag": (pa.bool_(), [True, False]),
    "at": (pa.timestamp("us", "UTC"), [datetime(2013, 1, day, hour, tzinfo=UTC) for day in (1, 2) for hour in (0, 5)]),
    "day": (pa.date32(), [date(2013, 1, day) for day in (1, 2, 3)]),
}
COLUMNS = [f"{kind}_{side}" for kind in KINDS for side in "ab"]
REGEXES = [r"^[a-z]+$", "a$", r"\d", r"^\w+$", r"\s", "^.$", "^a|b$", "(?i)A", "(?=a)", "[^a]", r"^.{1,2}\Z", "x'y"]
REGEXES += [r"\bb", "(a|b){2}", "([unclosed", "^$", "", r"\W", "(?s)a.b", "a.b", "é", r"^a$\n?"]
ROW_CONDITIONS: list[Any] = [
    {"type": "comparison", "column": {"name": name}, "operator": operator, "parameter": value}
    for name, operator, value in [
        ("real_a", ">", 0),
        ("small_a", "!=", 1),
        ("whole_a", "!=", 1),
        ("whole_a", "NOT_IN", [1, 2]),
        ("text_a", "==", "a"),
        ("text_a", "!=", "a"),
        ("text_a", "IN", ["a", "b"]),
        ("text_a", ">", "a"),
        ("flag_a", "==", True),
    ]
]
ROW_CONDITIONS += [
    {"type": "nullity", "column": {"name": "text_a"}, "is_null": False},
    {"type": "or", "conditions": ROW_CONDITIONS[:2]},
    {"type": "and", "conditions": ROW_CONDITIONS[2:4]},
]
SPANS: dict[str, list[Any]] = {
    "at": [
        ("2013-01-01T05:00:00Z", "2013-01-02T05:00:00+00:00"),
        (datetime(2013, 1, 2, tzinfo=UTC), None),
        ("2013-01-01", None),
        (None, "2013-01-02T00:00:00"),
        (None, datetime(2013, 1, 2, 7, tzinfo=timezone(timedelta(hours=2)))),
    ],
    "day": [("2013-01-02", None), (date(2013, 1, 1), date(2013, 1, 2)), (0, 1)],
    "other": [(0, 2), (None, 1.5), (-1, None), (0.1, 100), (3, 1), (2**53 + 1, 2**60)],
}


class Drawer:
    """Draws a column and arguments that make trouble."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.one = self.random.choice

    def column(self, *kinds: str) -> str:
        return f"{self.one(kinds or list(KINDS))}_{self.one('ab')}"

    def few(self, column: str) -> list[Any]:
        values = KINDS[column[:-2]][1]
        return self.random.sample(values, min(len(values), self.one([1, 2, 3])))

    def span(self, column: str) -> dict[str, Any]:
        low, high = self.one(SPANS.get(column[:-2], SPANS["other"]))
        return {"min_value": low, "max_value": high, **self.strict()}

    def strict(self) -> dict[str, Any]:
        return {"strict_min": self.one([True, False, False]), "strict_max": self.one([True, False, False])}

    def mostly(self) -> dict[str, Any]:
        return self.one([{}, {}, {"mostly": 0.5}, {"mostly": 0.9}, {"mostly": 1.0}])

    def condition(self) -> dict[str, Any]:
        return self.one([{}, {}, {}, {"row_condition": self.one(ROW_CONDITIONS)}])

    def several(self) -> dict[str, Any]:
        if self.random.random() < 0.6:
            kind = self.one(list(KINDS))
            names = [f"{kind}_a", f"{kind}_b"]
        else:
            names = self.random.sample(COLUMNS, self.one([2, 3]))
        missing = self.one(["all_values_are_missing", "any_value_is_missing", "never"])
        return {"column_list": names, "ignore_row_if": missing}

    def pair(self) -> dict[str, Any]:
        first, second = self.several()["column_list"][:2]
        missing = self.one(["both_values_are_missing", "either_value_is_missing", "neither"])
        return {"column_A": first, "column_B": second, "ignore_row_if": missing}


def _set(draw: Drawer, *, sound: bool = True) -> dict[str, Any]:
    column = draw.column()
    odd = [[1, 2.5], ["a", 1], [None, "a"], [True], ["1"], [1, None], [0.1, 2**53 + 1]]
    return {
        "column": column,
        "value_set": draw.few(column) if sound or draw.one([True, True, False]) else draw.one(odd),
    }


def _aggregate(draw: Drawer) -> dict[str, Any]:
    column = draw.column("small", "whole", "real", "real", *KINDS)
    return {"column": column, **draw.span(column), **draw.condition()}


def _share(draw: Drawer) -> dict[str, Any]:
    bounds = {"min_value": draw.one([0.1, 0.5]), "max_value": draw.one([0.8, 1.0])}
    return {"column": draw.column(), **bounds, **draw.strict(), **draw.condition()}


TYPES = [
    "int",
    "float",
    "str",
    "int64",
    "int32",
    "float64",
    "object",
    "bool",
    "datetime64",
    "Timestamp",
    "Int64",
    "nonsense",
    "date",
    "float32",
]
ROW_TYPES: dict[str, Any] = {
    "column_values_to_not_be_null": lambda draw: {"column": draw.column()},
    "column_values_to_be_null": lambda draw: {"column": draw.column()},
    "column_values_to_be_unique": lambda draw: {"column": draw.column()},
    "column_values_to_be_in_set": lambda draw: _set(draw, sound=False),
    "column_values_to_not_be_in_set": lambda draw: _set(draw, sound=False),
    "column_values_to_be_between": lambda draw: {"column": (name := draw.column()), **draw.span(name)},
    "column_values_to_match_regex": lambda draw: {"column": draw.column("text"), "regex": draw.one(REGEXES)},
    "column_values_to_not_match_regex": lambda draw: {"column": draw.column("text"), "regex": draw.one(REGEXES)},
    "column_values_to_match_regex_list": lambda draw: {
        "column": draw.column("text"),
        "regex_list": draw.random.sample(REGEXES, 2),
        "match_on": draw.one(["any", "all"]),
    },
    "column_value_lengths_to_be_between": lambda draw: {
        "column": draw.column("text", "text", "text", "small"),
        "min_value": draw.one([None, 0, 1]),
        "max_value": draw.one([1, 2]),
        **draw.strict(),
    },
    "column_value_lengths_to_equal": lambda draw: {"column": draw.column("text"), "value": draw.one([1, 2, 1.5])},
    "column_pair_values_to_be_equal": Drawer.pair,
    "column_pair_values_a_to_be_greater_than_b": lambda draw: {**draw.pair(), "or_equal": draw.one([None, True])},
    "compound_columns_to_be_unique": Drawer.several,
    "select_column_values_to_be_unique_within_record": Drawer.several,
    "multicolumn_sum_to_equal": lambda draw: {**draw.several(), "sum_total": draw.one([0, 3, 1.6])},
    "column_values_to_be_of_type": lambda draw: {"column": draw.column(), "type_": draw.one(TYPES)},
    "column_values_to_be_in_type_list": lambda draw: {
        "column": draw.column(),
        "type_list": draw.random.sample(TYPES, 2),
    },
}
TABLE_TYPES: dict[str, Any] = {
    **{f"column_{name}_to_be_between": _aggregate for name in ("mean", "min", "max", "median", "sum")},
    "column_stdev_to_be_between": lambda draw: {
        "column": draw.column("small", "whole", "real", "big", "single", "infinite"),
        "min_value": draw.one([0, 1]),
        "max_value": draw.one([2, 1e12]),
        **draw.condition(),
    },
    "column_quantile_values_to_be_between": lambda draw: {
        "column": draw.column("small", "whole", "real", "real", "big", "text"),
        "quantile_ranges": {
            "quantiles": sorted(draw.random.sample([0.0, 0.1, 0.25, 0.333, 0.5, 0.75, 1.0], 3)),
            "value_ranges": [[None, 2], [0, None], [0, 5]],
        },
        "allow_relative_error": draw.one([False, False, "lower", "higher", "linear"]),
    },
    "column_type_to_be": lambda draw: {"column": draw.column(), "type_": draw.one([*TYPES, "datetime64[us, UTC]"])},
    "column_unique_value_count_to_be_between": lambda draw: {
        "column": draw.column(),
        "min_value": draw.one([0, 3]),
        "max_value": 5,
        **draw.condition(),
    },
    "column_proportion_of_unique_values_to_be_between": _share,
    "column_proportion_of_non_null_values_to_be_between": _share,
    "column_most_common_value_to_be_in_set": lambda draw: {**_set(draw), "ties_okay": draw.one([True, False])},
    "column_distinct_values_to_be_in_set": _set,
    "column_distinct_values_to_contain_set": _set,
    "column_distinct_values_to_equal_set": _set,
    "table_row_count_to_be_between": lambda draw: {"min_value": 1, "max_value": 40, **draw.condition()},
    "table_row_count_to_equal": lambda draw: {"value": draw.one([1, 40]), **draw.condition()},
    "table_column_count_to_equal": lambda draw: {"value": draw.one([20, 5])},
    "table_column_count_to_be_between": lambda draw: {"min_value": draw.one([1, 21]), "max_value": draw.one([5, 50])},
    "table_columns_to_match_set": lambda draw: {
        "column_set": draw.one([COLUMNS, COLUMNS[:3], [*COLUMNS, "more"]]),
        "exact_match": draw.one([True, False]),
    },
    "table_columns_to_match_ordered_list": lambda draw: {"column_list": draw.one([COLUMNS, COLUMNS[::-1]])},
    "column_to_exist": lambda draw: {"column": draw.one(["small_a", "no"]), "column_index": draw.one([None, 0, 1, 99])},
}
FRAMES = [(0, 0.0), (1, 0.5), (40, 0.0), (60, 0.3)]


def awkward_rows(seed: int, count: int, nulls: float) -> pa.Table:
    draw, data = Drawer(seed), {}
    for name in COLUMNS:
        kind, values = KINDS[name[:-2]]
        share = draw.one([nulls, nulls, nulls / 3, 1.0 if nulls else 0.0])
        few = draw.one([values, values, values[:2]])
        data[name] = pa.array([None if draw.random.random() < share else draw.one(few) for _ in range(count)], kind)
    return table(**data)


def awkward_contract(seed: int, each: int) -> list[ExpectationSpec]:
    draw = Drawer(seed)
    contract = []
    for name, make in ROW_TYPES.items():
        contract += [expect(name, **make(draw), **draw.mostly(), **draw.condition()) for _ in range(each)]
    for name, make in TABLE_TYPES.items():
        contract += [expect(name, "warn", **make(draw)) for _ in range(each)]
    return contract


def plain(value: Any) -> Any:
    """A value as both engines mean it: null is null, an instant is an instant, a number a number."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if value == "NaT" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d[T ]", value):
        instant = pd.Timestamp(value)
        return instant.tz_localize("UTC") if instant.tzinfo is None else instant.tz_convert("UTC")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return pytest.approx(value, rel=1e-9, abs=1e-9)
    return value


def told(kind: str, result: Any) -> dict[str, Any]:
    """What the two must agree on. Sets have no order; how often a value fails is taken of the rows shown."""
    found = {name: plain(value) for name, value in result.items() if name != "partial_unexpected_counts"}
    if "distinct" in kind or kind.endswith("match_set"):
        for name, value in found.items():
            if isinstance(value, list):
                found[name] = sorted(value, key=str)
    return found


def differences(
    contract: Sequence[ExpectationSpec], ours: Validation, theirs: Validation
) -> Iterator[tuple[str, Any, Any]]:
    """Expectations on which the two differ, and how."""
    results, others = (
        {item["expectation_config"]["meta"]["identity"]: item for item in one.document["results"]}
        for one in (ours, theirs)
    )
    assert results.keys() == others.keys()
    for key, item in results.items():
        kind, kwargs = item["expectation_config"]["type"], item["expectation_config"]["kwargs"]
        if told(kind, item["result"]) != told(kind, others[key]["result"]):
            yield f"{kind} {kwargs}", item["result"], others[key]["result"]
    for expectation, mine, other in zip(contract, ours.findings, theirs.findings, strict=True):
        rows = [None if finding.rows is None else finding.rows.tolist() for finding in (mine, other)]
        if (mine.holds, bool(mine.error), rows[0]) != (other.holds, bool(other.error), rows[1]):
            yield str(expectation), mine, other


def agree(seed: int, count: int, nulls: float, each: int) -> Validation:
    rows, contract = awkward_rows(seed, count, nulls), awkward_contract(seed, each)
    ours, theirs = (validate(validator, rows, contract) for validator in (GXValidator(), GXPandasValidator()))
    assert list(differences(contract, ours, theirs)) == []
    return ours


def test_results_equal_those_of_great_expectations_on_pandas_for_every_type_counted() -> None:
    counted = set()
    for seed, (count, nulls) in enumerate(FRAMES):
        validation = agree(seed, count, nulls, each=3)
        counted |= {
            item["expectation_config"]["type"].removeprefix("expect_")
            for item in validation.document["results"]
            if item["meta"]["engine"] == "duckdb"
        }
        assert validation.by_engine["duckdb"] > validation.by_engine["pandas"]
    assert counted == ROW_TYPES.keys() | TABLE_TYPES.keys()


@pytest.mark.full
@pytest.mark.parametrize("seed", range(10, 28))
def test_results_equal_those_of_great_expectations_on_many_more_tables(seed: int) -> None:
    count, nulls = list(itertools.product([0, 1, 2, 7, 40, 300], [0.0, 0.3, 0.9]))[seed % 18]
    agree(seed, count, nulls, each=5)
