"""Our counts as Great Expectations' metrics: its own code makes a result of them, as if its engine had counted."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from millrace.spec.contract import ExpectationSpec
from millrace.validation.base import Finding
from millrace.validation.duckdb_metric import RowCount, Shown
from millrace.validation.duckdb_row import RowCheck
from millrace.validation.gx_expectation import named_columns

import great_expectations as gx  # isort: skip
import pandas as pd
from great_expectations.core.expectation_validation_result import (
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
)
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.validator.exception_info import ExceptionInfo
from great_expectations.validator.validator import calc_validation_statistics

_FORMAT = {"result_format": "SUMMARY"}
_UNBOUNDED = ("unexpected_list", "unexpected_index_list", "unexpected_index_query")
_VALUES = ("partial_unexpected_list", "partial_unexpected_counts", "partial_missing_list", "details")
_TELLING = ("_proportion_", "_unique_value_count_", "_of_type", "_in_type_list", "_type_to_be")
"""Types of expectations whose observed value is none of the column's own."""
_LONGEST = 1000
_HIDDEN = "not told: it may quote a private column"


def empty_engine(frame: pd.DataFrame | None = None) -> Any:
    """Great Expectations' pandas engine, which its code asks what kind of engine counted."""
    return PandasExecutionEngine(batch_data_dict={"": pd.DataFrame() if frame is None else frame})


def row_metrics(expectation: Any, check: RowCheck, count: RowCount, shown: Shown) -> dict[str, Any]:
    """Metrics of a row-level expectation, by name."""
    metric = expectation.map_metric
    return {
        f"{metric}.unexpected_values": _values(check, shown),
        f"{metric}.unexpected_index_list": list(shown.rows),
        f"{metric}.unexpected_index_query": None,
        f"{metric}.filtered_row_count": count.considered,
        "column_values.nonnull.unexpected_count": count.domain - count.considered,
        f"{metric}.unexpected_count": count.failing,
        "table.row_count": count.domain,
    }


def make_result(expectation: Any, metrics: Mapping[str, Any], engine: Any) -> Any:
    """The `ExpectationValidationResult` that Great Expectations makes of metrics, an exception in it included."""
    try:
        wanted = expectation.get_validation_dependencies(
            execution_engine=engine, runtime_configuration={"result_format": dict(_FORMAT)}
        )
        given = {each.id: metrics[each.metric_name] for each in wanted.get_metric_configurations()}
        return expectation.metrics_validate(
            given, runtime_configuration={"result_format": dict(_FORMAT)}, execution_engine=engine
        )
    except Exception as error:  # noqa: BLE001 what its validator does with any exception of an expectation
        return ExpectationValidationResult(
            success=False,
            exception_info=ExceptionInfo(exception_traceback=traceback.format_exc(), exception_message=str(error)),
            expectation_config=expectation.configuration,
        )


def make_suite_result(results: Sequence[Any], suite: str) -> Any:
    """The `ExpectationSuiteValidationResult` of several results."""
    statistics = calc_validation_statistics(list(results))
    return ExpectationSuiteValidationResult(
        results=list(results),
        success=statistics.success,
        suite_name=suite,
        statistics={
            "evaluated_expectations": statistics.evaluated_expectations,
            "successful_expectations": statistics.successful_expectations,
            "unsuccessful_expectations": statistics.unsuccessful_expectations,
            "success_percent": statistics.success_percent,
        },
        meta={"great_expectations_version": gx.__version__},
    )


def mark(result: Any, engine: str) -> Any:
    """The result, saying in its meta which engine counted."""
    result.meta = {**result.meta, "engine": engine}
    return result


def conceal(result: Any, item: ExpectationSpec, private: frozenset[str]) -> None:
    """Take all values out of a result that may be those of a private column."""
    if not private.intersection(named_columns(item)):
        return
    for name in (*_VALUES, *_UNBOUNDED):
        result.result.pop(name, None)
    if not any(word in item.type for word in _TELLING) and "observed_value" in result.result:
        result.result["observed_value"] = None
    for part in [result.exception_info, *result.exception_info.values()]:
        if isinstance(part, dict) and part.get("raised_exception"):
            part["exception_message"] = _HIDDEN
            part["exception_traceback"] = _HIDDEN


def make_finding(item: ExpectationSpec, result: Any, rows: npt.NDArray[np.int64] | None) -> Finding:
    """What a result says, in our words.

    Args:
        item: the expectation.
        result: Great Expectations' result, without private values.
        rows: positions of failing rows, sorted.
    """
    error = _error(result.exception_info)
    return Finding(
        expectation=item,
        holds=bool(result.success),
        rows=rows if item.on_failure == "quarantine" and not error else None,
        observed=_observed(result.result or {}),
        error=error,
    )


def make_document(result: Any) -> dict[str, Any]:
    """The result of a suite as JSON types. Lists of all failing rows stay out: the quarantine has them."""
    for item in result.results:
        for name in _UNBOUNDED:
            item.result.pop(name, None)
        observed = item.result.get("observed_value")
        if isinstance(observed, list) and len(observed) > _LONGEST:
            item.result["observed_value"] = observed[:_LONGEST]
    plain = result.to_json_dict()
    document: dict[str, Any] = orjson.loads(
        orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=str)
    )
    return document


def _values(check: RowCheck, shown: Shown) -> list[Any]:
    rows = [{name: _as_pandas(value) for name, value in row.items()} for row in shown.values]
    if check.shape == "record":
        return rows
    if check.shape == "pair":
        return [tuple(row.values()) for row in rows]
    return [next(iter(row.values())) for row in rows]


def _as_pandas(value: Any) -> Any:
    return pd.Timestamp(value) if isinstance(value, datetime) else value


def as_metrics(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers by metric, instants as pandas has them."""
    return {name: _as_pandas(value) for name, value in numbers.items()}


def _observed(detail: Mapping[str, Any]) -> str:
    if "element_count" in detail and not detail.get("unexpected_count"):
        return "no row fails"
    if "element_count" in detail:
        told = f"{detail['unexpected_count']} of {detail['element_count']} rows fail"
        examples = ", ".join(dict.fromkeys(str(value) for value in detail.get("partial_unexpected_list", [])[:3]))
        return f"{told}, such as {_short(examples)}" if examples else told
    if "unexpected_count" in detail or "missing_count" in detail:
        beyond, missing = detail.get("unexpected_count", 0), detail.get("missing_count", 0)
        return f"{beyond} values beyond the set, {missing} of it missing"
    observed = detail.get("observed_value")
    return "no value observed" if observed is None else f"observed {_short(str(observed))}"


def _error(info: Mapping[str, Any] | None) -> str:
    """The message of an exception inside Great Expectations, which nests it by metric or not at all."""
    for part in [info, *(info or {}).values()]:
        if isinstance(part, Mapping) and part.get("raised_exception"):
            return _short(str(part.get("exception_message"))) or "an exception without a message"
    return ""


def _short(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "…"
