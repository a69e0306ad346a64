"""Great Expectations decides, DuckDB counts.

A type or argument whose count has no exact translation runs on Great Expectations' own pandas engine, over the columns
it needs; every result says which engine counted. Importing this module costs some seconds, so steps import it when
they run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from millrace.spec.contract import ExpectationSpec
from millrace.validation.base import ROW, Validation
from millrace.validation.duckdb_aggregate import TableCheck
from millrace.validation.duckdb_column import Column, UncountedError, read_columns
from millrace.validation.duckdb_metric import Counter, Rows, Shown
from millrace.validation.duckdb_row import RowCheck, all_or_none, row_check
from millrace.validation.duckdb_table import table_check
from millrace.validation.gx_expectation import (
    build_expectation,
    build_suite,
    identity,
    needed_columns,
    open_context,
)
from millrace.validation.gx_metric import (
    as_metrics,
    conceal,
    empty_engine,
    make_document,
    make_finding,
    make_result,
    make_suite_result,
    mark,
    row_metrics,
)
from millrace.validation.gx_pandas import PANDAS, GXPandasValidator, failing_rows, read_frame, validate_frame
from millrace.validation.gx_type import TYPES, TypeSample, type_check

__all__ = ["GXPandasValidator", "GXValidator", "build_expectation", "needed_columns", "open_context"]

log = logging.getLogger(__name__)
DUCKDB = "duckdb"


@dataclass(frozen=True, slots=True, kw_only=True)
class GXValidator:
    """Judges by DuckDB's counts where they are exactly those of Great Expectations, else with its own engine.

    Attributes:
        private: columns whose values no document and no finding shows.
    """

    private: frozenset[str] = frozenset()

    def validate(self, connection: Any, table: str, contract: Sequence[ExpectationSpec], *, suite: str) -> Validation:
        """Judge all expectations in one go; neither the connection nor the table is changed.

        Raises:
            SpecError: an expectation is unknown, refuses its arguments, or names a column that is not there.
        """
        columns = {name: column for name, column in read_columns(connection, table).items() if name != ROW}
        expectations = build_suite(contract, list(columns))
        items = {identity(item): item for item in contract}
        aside = {identity(item) for item in contract if item.on_failure == "quarantine"}
        counter = Counter(connection=connection, table=table)
        results, rows = _judge_counted(counter, columns, expectations, aside)
        rest = {key: expectation for key, expectation in expectations.items() if key not in results}
        if rest:
            frame = read_frame(connection, table, needed_columns([items[key] for key in rest], list(columns)))
            for key, result in validate_frame(frame, rest, suite).items():
                results[key], rows[key] = result, failing_rows(result)
        findings = []
        for item in contract:
            key = identity(item)
            conceal(results[key], item, self.private)
            findings.append(make_finding(item, results[key], rows.get(key)))
        on_pandas = sum(identity(item) in rest for item in contract)
        return Validation(
            findings=findings,
            document=make_document(make_suite_result([results[key] for key in expectations], suite)),
            by_engine={DUCKDB: len(contract) - on_pandas, PANDAS: on_pandas},
        )


def _judge_counted(
    counter: Counter, columns: Mapping[str, Column], expectations: Mapping[str, Any], aside: set[str]
) -> tuple[dict[str, Any], dict[str, Rows | None]]:
    """Results of the expectations that DuckDB counts, and the failing rows of those that set rows aside."""
    rows, tables, types = _checks(counter.table, columns, expectations)
    counted = counter.count(rows, tables)
    engine = empty_engine()
    results: dict[str, Any] = {}
    sample = None
    if typed := {key: counted.tables.pop(key) for key in types if key in counted.tables}:
        sample = TypeSample.take(counter, columns, {key: expectations[key] for key in typed}, typed)
        results |= sample.settled()
        more = {key: all_or_none(expectations[key], columns, fails=fails) for key, fails in sample.by_value().items()}
        counted.rows |= counter.count(more, {}).rows
        rows |= more
    results |= {
        key: make_result(expectations[key], as_metrics(numbers), engine) for key, numbers in counted.tables.items()
    }
    failing = {key: rows[key] for key, count in counted.rows.items() if count.failing}
    shown = counter.shown(failing)
    for key, count in counted.rows.items():
        metrics = row_metrics(expectations[key], rows[key], count, shown.get(key, Shown()))
        if sample and key in typed:
            metrics["table.column_types"] = sample.types
        results[key] = make_result(expectations[key], metrics, sample.engine if sample and key in typed else engine)
    for key, reason in counted.uncounted.items():
        log.debug("%s is left to pandas: %s", expectations[key].expectation_type, reason)
    found: dict[str, Rows | None] = {key: np.empty(0, np.int64) for key in counted.rows}
    found |= counter.failing_rows({key: check for key, check in failing.items() if key in aside})
    return {key: mark(result, DUCKDB) for key, result in results.items()}, found


def _checks(
    table: str, columns: Mapping[str, Column], expectations: Mapping[str, Any]
) -> tuple[dict[str, RowCheck], dict[str, TableCheck], list[str]]:
    """Checks of rows, of the table, and which of these are on types; what has none is left out."""
    rows: dict[str, RowCheck] = {}
    tables: dict[str, TableCheck] = {}
    types = []
    for key, expectation in expectations.items():
        try:
            if _is_special(expectation):
                raise UncountedError("arguments that Great Expectations fills in")
            if expectation.expectation_type in TYPES:
                tables[key] = type_check(expectation, columns)
                types.append(key)
            elif hasattr(expectation, "map_metric"):
                rows[key] = row_check(expectation, columns)
            else:
                tables[key] = table_check(expectation, columns, table)
        except UncountedError as error:
            log.debug("%s is left to pandas: %s", expectation.expectation_type, error)
    return rows, tables, types


def _is_special(expectation: Any) -> bool:
    """Whether arguments are parameters of a suite, or windows over earlier results."""
    given = expectation.configuration.kwargs
    return "windows" in given or any(isinstance(value, dict) and "$PARAMETER" in value for value in given.values())
