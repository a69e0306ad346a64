from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from great_expectations import expectations as gxe

from millrace.lake import duck
from millrace.validation.base import ROW
from millrace.validation.duckdb_column import UncountedError, literal, read_columns
from millrace.validation.duckdb_metric import Counted, Counter
from millrace.validation.duckdb_row import RowCheck, row_check
from millrace.validation.duckdb_table import table_check


def counter(rows: pa.Table) -> Counter:
    connection = duck.connect(external=False)
    connection.register("odd name", rows)
    return Counter(connection=connection, table="odd name")


def numbered(**columns: Any) -> pa.Table:
    rows = pa.table(columns)
    return rows.append_column(ROW, pa.array(range(rows.num_rows), pa.int64()))


def check(given: Counter, expectation: Any) -> RowCheck:
    return row_check(expectation, read_columns(given.connection, given.table))


def count(given: Counter, *expectations: Any) -> Counted:
    columns = read_columns(given.connection, given.table)
    tables = {str(place): table_check(item, columns, given.table) for place, item in enumerate(expectations)}
    return given.count({}, tables)


def test_rows_are_told_apart_by_more_conditions_than_one_number_holds_flags() -> None:
    values = list(range(150))
    random.Random(1).shuffle(values)
    given = counter(numbered(x=pa.array(values, pa.int32())))
    checks = {
        str(bound): check(given, gxe.ExpectColumnValuesToBeBetween(column="x", max_value=bound)) for bound in range(150)
    }
    found = given.failing_rows(checks)
    for bound in range(150):
        assert found[str(bound)].dtype == np.int64
        assert found[str(bound)].tolist() == [place for place, value in enumerate(values) if value > bound]


def test_keys_that_stand_more_than_once_are_found_with_nulls_being_equal() -> None:
    draw = random.Random(2)
    pairs = [(draw.choice([1, 2, 3, None]), draw.choice(["a", "b", None])) for _ in range(12)]
    given = counter(numbered(x=pa.array([x for x, _ in pairs], pa.int64()), y=pa.array([y for _, y in pairs])))
    both = check(given, gxe.ExpectCompoundColumnsToBeUnique(column_list=["x", "y"], ignore_row_if="never"))
    expected = [place for place, pair in enumerate(pairs) if pairs.count(pair) > 1]
    assert given.count({"k": both}, {}).rows["k"].failing == len(expected)
    assert given.failing_rows({"k": both})["k"].tolist() == expected
    assert given.shown({"k": both})["k"].values[0] == dict(zip("xy", pairs[expected[0]], strict=True))


def test_no_more_than_the_first_twenty_failing_rows_are_shown() -> None:
    given = counter(numbered(x=pa.array([None] * 50 + [1.0])))
    null = check(given, gxe.ExpectColumnValuesToNotBeNull(column="x"))
    shown = given.shown({"null": null})["null"]
    assert list(shown.rows) == list(range(20))
    assert list(shown.values) == [{"x": None}] * 20


@pytest.mark.parametrize("size", [1, 2, 3, 10, 101, 1000])
@pytest.mark.parametrize("rule", ["nearest", "lower", "higher"])
def test_quantiles_are_those_of_pandas(size: int, rule: str) -> None:
    values = np.random.default_rng(size).normal(size=size)
    shares = [0.0, 0.1, 0.123, 0.25, 1 / 3, 0.5, 0.75, 0.9, 0.999, 1.0]
    ranges = {"quantiles": shares, "value_ranges": [[None, None]] * len(shares)}
    expectation = gxe.ExpectColumnQuantileValuesToBeBetween(
        column="x", quantile_ranges=ranges, allow_relative_error=False if rule == "nearest" else rule
    )
    counted = count(counter(numbered(x=values)), expectation)
    found = counted.tables["0"]["column.quantile_values"]
    assert found == pd.Series(values).quantile(shares, interpolation=rule).tolist()


@pytest.mark.parametrize("size", [0, 1, 2, 7, 500, 501])
def test_median_sum_mean_and_deviation_are_those_of_pandas(size: int) -> None:
    values = np.random.default_rng(size).normal(1e6, 3.0, size=size)
    series = pd.Series(values)
    names = {"median": "Median", "sum": "Sum", "mean": "Mean", "standard_deviation": "Stdev"}
    expectations = [getattr(gxe, f"ExpectColumn{name}ToBeBetween")(column="x", min_value=5) for name in names.values()]
    counted = count(counter(numbered(x=pa.array(values, pa.float64()))), *expectations)
    found = [counted.tables[str(place)][f"column.{name}"] for place, name in enumerate(names)]
    assert found == pytest.approx([series.median(), series.sum(), series.mean(), series.std()], rel=1e-12, nan_ok=True)
    assert math.isnan(found[0]) if not size else found[0] == series.median()


@pytest.mark.parametrize(
    ("values", "kwargs"),
    [
        ([0.1] * 10, {"min_value": 0.1}),
        ([1.0, math.inf], {"min_value": 0}),
        ([1.0, 1e200], {"min_value": 0}),
    ],
)
def test_a_mean_that_hinges_on_the_last_digit_or_overflows_is_left_to_pandas(
    values: list[float], kwargs: dict[str, Any]
) -> None:
    counted = count(counter(numbered(x=values)), gxe.ExpectColumnMeanToBeBetween(column="x", **kwargs))
    assert counted.tables == {}
    assert "'x'" in counted.uncounted["0"]


def test_a_check_that_duckdb_cannot_work_out_does_not_take_the_others_with_it() -> None:
    given = counter(numbered(x=[1, 2]))
    bad = RowCheck(domain="true", considered="true", failing="error('no') IS NULL", columns=[])
    good = check(given, gxe.ExpectColumnValuesToBeBetween(column="x", max_value=1))
    counted = given.count({"bad": bad, "good": good}, {})
    assert counted.rows["good"].failing == 1
    assert list(counted.uncounted) == ["bad"]


def test_the_most_common_values_are_bounded_and_keep_those_asked_for() -> None:
    given = counter(numbered(x=[f"{place:05}" for place in range(3000)]))
    counted = count(given, gxe.ExpectColumnMostCommonValueToBeInSet(column="x", value_set=["02999"], ties_okay=True))
    found = counted.tables["0"]["column.most_common_value"]
    assert (len(found), found[0], found[-1]) == (1001, "00000", "02999")


@pytest.mark.parametrize("value", [math.nan, "a\0b", 2**63, b"bytes", object()])
def test_a_constant_without_an_exact_form_is_refused(value: Any) -> None:
    with pytest.raises(UncountedError):
        literal(value)


@pytest.mark.parametrize("value", [True, -(2**63), 2**63 - 1, 0.1, -0.0, math.inf, 5e-324, 'it\'s "odd"\n', ""])
def test_a_constant_is_read_back_as_it_was(value: Any) -> None:
    (found,) = duck.connect().execute(f"SELECT {literal(value)}").fetchone()
    assert (type(found), repr(found)) == (type(value), repr(value))
