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


class GoldenSearch:
    """Finds the rows to prove a model by while all go past: 20 spread in time, and the 4 with most missing inputs.

    Args:
        rows: how many will go past.
        inputs: what comes with a request or is looked up.
    """

    def __init__(self, rows: int, inputs: list[Column]) -> None:
        self._names = [column.name for column in inputs]
        spread = np.linspace(0, rows - 1, min(_SPREAD, rows)).astype(np.int64)
        self._spread = np.unique(spread)
        self._found: dict[int, dict[str, Any]] = {}
        self._holed: list[tuple[int, int, dict[str, Any]]] = []
        self._past = 0

    def look(self, batch: pa.RecordBatch) -> None:
        """Look through the next rows."""
        inputs, start = batch.select(self._names), self._past
        self._past += batch.num_rows
        for position in self._spread[(self._spread >= start) & (self._spread < self._past)].tolist():
            self._found[position] = _plain(inputs, position - start)
        missing = np.zeros(batch.num_rows, np.int64)
        for column in inputs.columns:
            if column.null_count or column.type == pa.float64():
                missing += column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        worst = np.argsort(-missing, kind="stable")[:_HOLED].tolist()
        least = self._holed[-1][0] if len(self._holed) == _HOLED else 1
        fresh = [(-int(missing[i]), start + i, _plain(inputs, i)) for i in worst if -missing[i] < least]
        self._holed = sorted([*self._holed, *fresh], key=lambda item: item[:2])[:_HOLED]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows found: those spread, then those with most missing."""
        return list((self._found | {position: row for _, position, row in self._holed}).values())


def choose_golden(
    real: list[dict[str, Any]], features: FeatureSpec, functions: OnDemandFunctions, predictor: Predictor
) -> GoldenRows:
    """Golden rows with the predictions of the package's own predictor.

    They are the real ones, then the first of them with each category unseen, with each category missing, and with
    every number missing. What functions compute is computed of these inputs, so that the rows prove the functions too.

    Args:
        real: what `GoldenSearch` found.
        features: the package's feature spec.
        functions: its functions.
        predictor: reads the very bytes that are sealed.
    """
    inputs = features.inputs
    columns: dict[str, list[Any]] = {column.name: [row[column.name] for row in real] for column in inputs}

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


def _plain(batch: pa.RecordBatch, position: int) -> dict[str, Any]:
    """One row by itself, so that the batch it came in can be let go."""
    found: list[dict[str, Any]] = batch.slice(position, 1).to_pylist()
    return found[0]
