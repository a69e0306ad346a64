"""Great Expectations on its pandas engine: what DuckDB does not count, and the measure of what it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.lake import duck
from millrace.spec.contract import ExpectationSpec
from millrace.validation.base import ROW, Validation
from millrace.validation.duckdb_column import read_columns
from millrace.validation.gx_expectation import build_suite, identity, needed_columns, open_context
from millrace.validation.gx_metric import conceal, make_document, make_finding, make_suite_result, mark

import great_expectations as gx  # isort: skip
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

PANDAS = "pandas"
_QUANTILES = "expect_column_quantile_values_to_be_between"


@dataclass(frozen=True, slots=True, kw_only=True)
class GXPandasValidator:
    """Judges with Great Expectations alone, whose engine sees the columns that the contract names.

    Attributes:
        private: columns whose values no document and no finding shows.
    """

    private: frozenset[str] = frozenset()

    def validate(self, connection: Any, table: str, contract: Sequence[ExpectationSpec], *, suite: str) -> Validation:
        """Judge all expectations in one validation.

        Raises:
            SpecError: an expectation is unknown, refuses its arguments, or names a column that is not there.
        """
        columns = [name for name in read_columns(connection, table) if name != ROW]
        expectations = build_suite(contract, columns)
        frame = read_frame(connection, table, needed_columns(contract, columns))
        results = validate_frame(frame, expectations, suite)
        rows = {key: failing_rows(result) for key, result in results.items()}
        findings = []
        for item in contract:
            conceal(results[identity(item)], item, self.private)
            findings.append(make_finding(item, results[identity(item)], rows[identity(item)]))
        return Validation(
            findings=findings,
            document=make_document(make_suite_result(list(results.values()), suite)),
            by_engine={PANDAS: len(contract)},
        )


def read_frame(connection: Any, table: str, columns: Iterable[str]) -> pd.DataFrame:
    """Columns of a table in pandas, in the order of its positions and indexed by them."""
    names = ", ".join(duck.quoted(name) for name in (ROW, *columns))
    rows = duck.arrow(connection.sql(f"SELECT {names} FROM {duck.quoted(table)} ORDER BY {duck.quoted(ROW)}"))
    return make_frame(rows)


def make_frame(rows: pa.Table) -> pd.DataFrame:
    """The columns in pandas, indexed by `row#`; whole numbers with nulls stay whole, floats would blur large ones."""
    data = {}
    for name in rows.column_names:
        if name == ROW:
            continue
        values = rows[name]
        whole = pa.types.is_int64(values.type) and values.null_count > 0
        data[name] = values.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get) if whole else values.to_pandas()
    index = pd.Index(rows[ROW].to_numpy())
    return pd.DataFrame({name: values.set_axis(index) for name, values in data.items()}, index=index)


def validate_frame(frame: pd.DataFrame, expectations: Mapping[str, Any], suite: str) -> dict[str, Any]:
    """Identity → `ExpectationValidationResult` with all failing rows, from Great Expectations' own engine."""
    if not expectations:
        return {}
    asset = open_context().data_sources.add_pandas("millrace").add_dataframe_asset(suite)
    batch = asset.add_batch_definition_whole_dataframe("partition").get_batch({"dataframe": frame})
    found = {}
    for some in _rounds(expectations.values()):
        # handed to the suite as they are: adding one drops an equal one, and 1 equals True
        wanted = gx.ExpectationSuite(name=suite, expectations=some)
        for each in batch.validate(wanted, result_format={"result_format": "COMPLETE"}).results:
            found[each.expectation_config.meta["identity"]] = mark(each, PANDAS)
    return {key: found[key] for key in expectations}


def _rounds(expectations: Iterable[Any]) -> list[list[Any]]:
    """Apart, quantiles of the same column: Great Expectations 1.24 takes those of the first for all of a suite."""
    rounds: list[list[Any]] = []
    met: Counter[str] = Counter()
    for expectation in expectations:
        number = 0
        if expectation.expectation_type == _QUANTILES:
            number, met[expectation.column] = met[expectation.column], met[expectation.column] + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(expectation)
    return rounds


def failing_rows(result: Any) -> npt.NDArray[np.int64] | None:
    """Positions of the rows that fail, sorted; None where the result names none."""
    failing = (result.result or {}).get("unexpected_index_list")
    return None if failing is None else np.unique(np.asarray(failing, dtype=np.int64))
