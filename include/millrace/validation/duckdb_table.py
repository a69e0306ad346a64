"""Which aggregates an expectation on a column or table as a whole needs, by its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from millrace.validation import duckdb_aggregate, duckdb_distribution
from millrace.validation.duckdb_aggregate import Subject, TableCheck
from millrace.validation.duckdb_column import Column, UncountedError
from millrace.validation.duckdb_domain import row_domain


def table_check(expectation: Any, columns: Mapping[str, Column], table: str) -> TableCheck:
    """The check of an expectation on a column or table as a whole.

    Args:
        expectation: built by Great Expectations.
        columns: name → column of the table.
        table: its name.

    Raises:
        UncountedError: its type or arguments have no exact translation.
    """
    kind = expectation.expectation_type
    if kind in _OF_TABLE:
        return duckdb_aggregate.of_table(expectation, columns)
    if kind not in _OF_COLUMN:
        raise UncountedError(f"type {kind}")
    column = columns[expectation.column]
    if column.kind == "other":
        raise UncountedError(f"type of column {column.name!r}")
    domain = row_domain(expectation, columns)
    return _OF_COLUMN[kind](Subject(table=table, column=column, domain=domain, expectation=expectation))


_OF_TABLE = {
    "expect_table_row_count_to_be_between",
    "expect_table_row_count_to_equal",
    "expect_table_column_count_to_be_between",
    "expect_table_column_count_to_equal",
    "expect_table_columns_to_match_set",
    "expect_table_columns_to_match_ordered_list",
    "expect_column_to_exist",
}
_OF_COLUMN: dict[str, Callable[[Subject], TableCheck]] = {
    "expect_column_max_to_be_between": duckdb_aggregate.extreme("max"),
    "expect_column_min_to_be_between": duckdb_aggregate.extreme("min"),
    "expect_column_mean_to_be_between": duckdb_aggregate.mean,
    "expect_column_sum_to_be_between": duckdb_aggregate.sum,
    "expect_column_stdev_to_be_between": duckdb_aggregate.deviation,
    "expect_column_median_to_be_between": duckdb_distribution.median,
    "expect_column_quantile_values_to_be_between": duckdb_distribution.quantiles,
    "expect_column_unique_value_count_to_be_between": duckdb_distribution.distinct_count,
    "expect_column_proportion_of_unique_values_to_be_between": duckdb_distribution.distinct_count,
    "expect_column_proportion_of_non_null_values_to_be_between": duckdb_distribution.not_null_share,
    "expect_column_most_common_value_to_be_in_set": duckdb_distribution.most_common,
    "expect_column_distinct_values_to_be_in_set": duckdb_distribution.distinct_set,
    "expect_column_distinct_values_to_contain_set": duckdb_distribution.distinct_set,
    "expect_column_distinct_values_to_equal_set": duckdb_distribution.distinct_set,
}
