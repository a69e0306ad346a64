"""Great Expectations on its pandas engine: whole contract in one validation, failing rows by position.

Importing this module costs some seconds (Great Expectations'), so steps import it when they run.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

for _name in ("great_expectations", "great_expectations.data_context.types.base"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # some 300 lines while it is imported

import great_expectations as gx  # noqa: E402
import numpy as np  # noqa: E402
import orjson  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402
from great_expectations.data_context.types.base import (  # noqa: E402
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.exceptions import ExpectationNotFoundError  # noqa: E402
from great_expectations.expectations.expectation import (  # noqa: E402
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    MulticolumnMapExpectation,
)
from great_expectations.expectations.registry import (  # noqa: E402
    get_expectation_impl,
    list_registered_expectation_implementations,
)
from pydantic.v1 import ValidationError  # noqa: E402

from millrace.artifact import digest_of  # noqa: E402
from millrace.errors import SpecError  # noqa: E402
from millrace.spec.domain import ExpectationSpec  # noqa: E402
from millrace.validation.base import ROW, Finding, Validation  # noqa: E402

_ROW_LEVEL = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
_COLUMN_KEYS = ("column", "column_A", "column_B")
_UNBOUNDED = ("unexpected_list", "unexpected_index_list", "unexpected_index_query")


@dataclass(frozen=True, slots=True)
class GXValidator:
    """Judges with Great Expectations itself; nothing leaves the process and nothing is written."""

    def validate(self, rows: pa.Table, contract: Sequence[ExpectationSpec], *, suite: str) -> Validation:
        """Judge all expectations in one validation.

        Raises:
            SpecError: an expectation is unknown, refuses its arguments, or names a column that is not there.
        """
        context = open_context()
        columns = [name for name in rows.column_names if name != ROW]
        wanted = gx.ExpectationSuite(name=suite)
        for item in {_identity(item): item for item in contract}.values():
            expectation = build_expectation(item, columns)
            expectation.meta = {"identity": _identity(item), "name": item.name, "on_failure": item.on_failure}
            wanted.add_expectation(expectation)
        asset = context.data_sources.add_pandas("millrace").add_dataframe_asset(suite)
        batch = asset.add_batch_definition_whole_dataframe("partition").get_batch(
            {"dataframe": _frame(rows, needed_columns(contract, columns))}
        )
        result = batch.validate(wanted, result_format={"result_format": "COMPLETE"})
        found = {item.expectation_config.meta["identity"]: item for item in result.results}
        findings = [_finding(item, found[_identity(item)]) for item in contract]
        return Validation(findings=findings, document=_document(result))


def open_context() -> Any:
    """A context in memory: no telemetry, no progress bars, no folder of its own for pages."""
    return gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )


def build_expectation(item: ExpectationSpec, columns: Sequence[str]) -> Any:
    """The `great_expectations` expectation of a spec.

    Args:
        item: type, arguments and what a failure does.
        columns: names of the columns it may be about.

    Raises:
        SpecError: unknown type, refused arguments, unknown column, or a quarantine of a type that knows no rows.
    """
    try:
        kind = get_expectation_impl(item.type)
    except ExpectationNotFoundError as error:
        near = difflib.get_close_matches(item.type, list_registered_expectation_implementations(), n=3)
        raise SpecError(
            f"unknown expectation {item.type!r}",
            where=f"contract, {item.name}",
            remedy=f"did you mean {' or '.join(near)}?" if near else "use a type of Great Expectations' gallery",
        ) from error
    try:
        expectation = kind(**item.kwargs)
    except (ValidationError, TypeError, ValueError) as error:
        raise SpecError(
            f"{item.type} refuses its arguments: {_refusal(error)}",
            where=f"contract, {item.name}, kwargs",
            remedy=f"correct them; it takes: {', '.join(_arguments(kind))}",
        ) from error
    if item.on_failure == "quarantine" and not issubclass(kind, _ROW_LEVEL):
        raise SpecError(
            f"{item.type} judges the table as a whole and names no rows to quarantine",
            where=f"contract, {item.name}, on_failure",
            remedy="use on_failure: block or warn",
        )
    if item.type != "expect_column_to_exist":
        for name in _named_columns(item):
            if name not in columns:
                near = difflib.get_close_matches(name, columns, n=1)
                raise SpecError(
                    f"{item.type} names column {name!r}, which clean rows do not have",
                    where=f"contract, {item.name}, kwargs",
                    remedy=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(columns)}",
                )
    return expectation


def needed_columns(contract: Sequence[ExpectationSpec], columns: Sequence[str]) -> list[str]:
    """The columns pandas must see: those named; all where an expectation is about the set of columns or a condition."""
    whole = any(
        "row_condition" in item.kwargs
        or item.type == "expect_column_to_exist"
        or item.type.startswith(("expect_table_column", "expect_query", "unexpected_rows"))
        for item in contract
    )
    named = {name for item in contract for name in _named_columns(item)}
    return [name for name in columns if whole or name in named]


def _named_columns(item: ExpectationSpec) -> list[str]:
    return [str(item.kwargs[key]) for key in _COLUMN_KEYS if key in item.kwargs] + [
        str(name) for name in item.kwargs.get("column_list") or []
    ]


def _identity(item: ExpectationSpec) -> str:
    """Great Expectations drops an expectation equal to one in the suite; two of ours may share one of its."""
    return digest_of([item.type, item.kwargs])


def _frame(rows: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    """The columns in pandas, indexed by `row#`; whole numbers with nulls stay whole, floats would blur large ones."""
    data = {}
    for name in columns:
        values = rows[name]
        whole = pa.types.is_int64(values.type) and values.null_count > 0
        data[name] = values.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get) if whole else values.to_pandas()
    index = pd.Index(rows[ROW].to_numpy())
    return pd.DataFrame({name: values.set_axis(index) for name, values in data.items()}, index=index)


def _finding(item: ExpectationSpec, result: Any) -> Finding:
    detail: Mapping[str, Any] = result.result or {}
    failing = detail.get("unexpected_index_list")
    return Finding(
        expectation=item,
        holds=bool(result.success),
        rows=None if failing is None else np.unique(np.asarray(failing, dtype=np.int64)),
        observed=_observed(detail),
        error=_error(result.exception_info),
    )


def _observed(detail: Mapping[str, Any]) -> str:
    if detail.get("unexpected_count"):
        examples = ", ".join(dict.fromkeys(str(value) for value in detail.get("partial_unexpected_list", [])[:3]))
        return f"{detail['unexpected_count']} of {detail['element_count']} rows fail, such as {_short(examples)}"
    return f"observed {_short(str(detail.get('observed_value')))}"


def _error(info: Mapping[str, Any] | None) -> str:
    """The message of an exception inside Great Expectations, which nests it by metric or not at all."""
    for part in [info, *(info or {}).values()]:
        if isinstance(part, Mapping) and part.get("raised_exception"):
            return _short(str(part.get("exception_message")))
    return ""


def _document(result: Any) -> dict[str, Any]:
    """The result as JSON types. Lists of all failing rows stay out: the quarantine has them."""
    for item in result.results:
        for name in _UNBOUNDED:
            item.result.pop(name, None)
    plain = result.to_json_dict()
    document: dict[str, Any] = orjson.loads(
        orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=str)
    )
    return document


def _arguments(kind: Any) -> list[str]:
    common = {"id", "meta", "notes", "result_format", "description", "catch_exceptions", "rendered_content"}
    return sorted(set(kind.__fields__) - common - {"batch_id", "windows", "severity"})


def _refusal(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    told = (f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
    return "; ".join(dict.fromkeys(told))


def _short(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "…"
