"""Choosing golden rows: real training rows over the whole window, then the same with what is hard about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from millrace.package import FeatureSpec, GoldenRows, Predictor

_SPREAD = 20
_HOLED = 4
_UNSEEN = "never seen in training"


def choose_golden(rows: pa.Table, features: FeatureSpec, predictor: Predictor) -> GoldenRows:
    """Golden rows with the predictions of the package's own predictor.

    They are 20 rows spread over the training rows in time, the 4 with the most missing features, then the first of
    them with each category unseen, with each category missing, and with every number missing.
    """
    real = rows.select(features.columns).take(pa.array(_positions(rows, features)))
    columns: dict[str, list[Any]] = {name: real.column(name).to_pylist() for name in features.columns}

    def vary(changes: dict[str, Any]) -> None:
        for name, values in columns.items():
            values.append(changes[name] if name in changes else values[0])

    for name in features.categories:
        vary({name: _UNSEEN})
        vary({name: None})
    vary({column.name: None for column in features.model if column.kind == "number"})
    return GoldenRows(columns=columns, predictions=predictor.predict(columns).tolist())


def _positions(rows: pa.Table, features: FeatureSpec) -> list[int]:
    missing = np.zeros(rows.num_rows, np.int64)
    for name in features.columns:
        missing += rows.column(name).is_null(nan_is_null=True).to_numpy()
    spread = np.linspace(0, rows.num_rows - 1, min(_SPREAD, rows.num_rows)).astype(np.int64).tolist()
    holed = np.argsort(-missing, kind="stable")[:_HOLED].tolist()
    return list(dict.fromkeys([*spread, *holed]))
