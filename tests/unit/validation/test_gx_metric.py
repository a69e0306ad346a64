from __future__ import annotations

import json
from typing import Any

import pytest
from great_expectations import expectations as gxe

from millrace.spec import ExpectationSpec
from millrace.validation.duckdb_column import Column
from millrace.validation.duckdb_metric import RowCount, Shown
from millrace.validation.duckdb_row import row_check
from millrace.validation.gx_metric import (
    conceal,
    empty_engine,
    make_document,
    make_finding,
    make_result,
    make_suite_result,
    row_metrics,
)

SPEC = ExpectationSpec(type="expect_column_values_to_be_between", kwargs={"column": "x", "max_value": 5, "mostly": 0.5})


def between(failing: int, considered: int, *, domain: int = 10) -> Any:
    expectation = gxe.ExpectColumnValuesToBeBetween(**SPEC.kwargs)
    check = row_check(expectation, {"x": Column("x", "double")})
    shown = Shown(rows=list(range(failing)), values=[{"x": 9.5}] * failing)
    metrics = row_metrics(expectation, check, RowCount(domain=domain, considered=considered, failing=failing), shown)
    return make_result(expectation, metrics, empty_engine())


@pytest.mark.parametrize(("failing", "considered", "holds"), [(0, 8, True), (4, 8, True), (5, 8, False), (0, 0, True)])
def test_great_expectations_makes_the_result_of_our_counts(failing: int, considered: int, holds: bool) -> None:
    result = between(failing, considered)
    assert result.success is holds
    assert result.result["element_count"] == 10
    assert result.result["missing_count"] == 10 - considered
    assert result.result["unexpected_count"] == failing
    assert result.result["unexpected_percent"] == (100 * failing / considered if considered else None)
    assert result.result["partial_unexpected_list"] == [9.5] * failing


def test_an_exception_in_great_expectations_becomes_a_result_and_an_error() -> None:
    expectation = gxe.ExpectColumnMaxToBeBetween(column="x", min_value=3)
    result = make_result(expectation, {"column.max": "text"}, empty_engine())
    spec = ExpectationSpec(type="expect_column_max_to_be_between", kwargs={"column": "x"})
    finding = make_finding(spec, result, None)
    assert not finding.holds
    assert "not supported between" in finding.error


def test_a_metric_that_was_not_counted_is_an_error_not_a_pass() -> None:
    result = make_result(gxe.ExpectColumnMaxToBeBetween(column="x"), {}, empty_engine())
    assert not result.success
    assert result.exception_info["raised_exception"]


def test_a_finding_tells_counts_and_examples() -> None:
    assert make_finding(SPEC, between(5, 8), None).observed == "5 of 10 rows fail, such as 9.5"


def test_nothing_of_a_private_column_is_left() -> None:
    result = between(5, 8)
    conceal(result, SPEC, frozenset({"y"}))
    assert result.result["partial_unexpected_list"]
    conceal(result, SPEC, frozenset({"x"}))
    assert "9.5" not in json.dumps(make_document(make_suite_result([result], "suite")))
    assert make_finding(SPEC, result, None).observed == "5 of 10 rows fail"


def test_the_document_of_a_suite_counts_what_held() -> None:
    document = make_document(make_suite_result([between(0, 8), between(8, 8)], "orders"))
    assert document["suite_name"] == "orders"
    assert document["success"] is False
    assert document["statistics"]["successful_expectations"] == 1
    assert "unexpected_index_query" not in document["results"][0]["result"]
