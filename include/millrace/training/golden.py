"""Choosing golden rows: real training rows over the whole window, then the same with what is hard about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from millrace.package import Column, FeatureSpec, GoldenRows, OnDemandFunctions, Predictor
from millrace.package.value import listed

_SPREAD = 20
_HOLED = 4
_UNSEEN = "never seen in training"


def choose_golden(
    rows: pa.Table, features: FeatureSpec, functions: OnDemandFunctions, predictor: Predictor
) -> GoldenRows:
    """Golden rows with the predictions of the package's own predictor.

    They are 20 rows spread over the training rows in time, the 4 with the most missing inputs, then the first of
    them with each category unseen, with each category missing, and with every number missing. What functions compute
    is computed of these inputs, so that the rows prove the functions too.
    """
    inputs = features.inputs
    real = rows.select([column.name for column in inputs]).take(pa.array(_positions(rows, inputs)))
    columns: dict[str, list[Any]] = {column.name: real.column(column.name).to_pylist() for column in inputs}

    def vary(changes: dict[str, Any]) -> None:
        for name, values in columns.items():
            values.append(changes[name] if name in changes else values[0])

    for name in (column.name for column in inputs if column.kind == "category"):
        vary({name: _UNSEEN})
        vary({name: None})
    vary({column.name: None for column in inputs if column.kind == "number"})
    found = functions.add(columns, len(columns[inputs[0].name]))
    columns |= {name: list(listed(found[name])) for name in features.computed}
    return GoldenRows(columns=columns, predictions=predictor.predict(columns).tolist())


def _positions(rows: pa.Table, inputs: list[Column]) -> list[int]:
    missing = np.zeros(rows.num_rows, np.int64)
    for column in inputs:
        missing += rows.column(column.name).is_null(nan_is_null=True).to_numpy()
    spread = np.linspace(0, rows.num_rows - 1, min(_SPREAD, rows.num_rows)).astype(np.int64).tolist()
    holed = np.argsort(-missing, kind="stable")[:_HOLED].tolist()
    return list(dict.fromkeys([*spread, *holed]))
