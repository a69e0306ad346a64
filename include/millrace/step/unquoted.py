"""Texts that YAML took for something else, found by the columns they are asked of."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from millrace.cleanup import check_cleanup, clean_schema
from millrace.errors import SpecError
from millrace.lake.schema import arrow_schema
from millrace.spec import SourceSpec
from millrace.spec.contract import ExpectationSpec


def find_unquoted(spec: SourceSpec, items: Sequence[ExpectationSpec], where: str) -> list[SpecError]:
    """Values that YAML made truths of (`yes`, `no`, `on`, `off`), asked of a column of texts, which holds none."""
    clean = None if check_cleanup(spec, where) else clean_schema(spec)
    raw = arrow_schema(spec.raw_columns)
    faults = []
    for item in items:
        schema = raw if item.stage == "raw" else clean
        column = str(item.kwargs.get("column", ""))
        if schema is None or column not in schema.names or not pa.types.is_string(schema.field(column).type):
            continue
        for key, given in item.kwargs.items():
            if key.endswith("_set") and isinstance(given, list) and any(isinstance(value, bool) for value in given):
                faults.append(
                    SpecError(
                        f"{item.name}: {key} has {given}, and {column!r} holds texts: YAML reads yes, no, on, off, "
                        "true and false without quotes as truths",
                        where=f"{where}.contract",
                        remedy=f'quote them: {key}: ["yes", "no"]',
                    )
                )
    return faults
