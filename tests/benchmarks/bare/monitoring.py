"""Scores of a month against its labels, and its features against what the release was made with."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
from sklearn.metrics import roc_auc_score

from tests.benchmarks.bare.evaluation import Draws
from tests.benchmarks.bare.models import Floats
from tests.benchmarks.bare.spec import Json, Plan

logging.getLogger("evidently").setLevel(logging.ERROR)
_BINS, _CATEGORIES, _FLOOR = 10, 20, 1e-4


class Reference:
    """What a release was made with: shares by bin of its training rows and of its predictions, rows for the report."""

    def __init__(self, plan: Plan, training: pa.Table, prediction: Floats) -> None:
        self.plan = plan
        rows = {name: training[name].combine_chunks() for name in plan.features} | {"prediction": pa.array(prediction)}
        self.bins = {name: self._learn(name, column) for name, column in rows.items()}
        self.shares = {name: self._count(name, column) for name, column in rows.items()}
        self.sample = self._sample(training, prediction)

    def psi(self, rows: pa.Table, prediction: Floats) -> dict[str, float]:
        """Population stability index of each feature and of the prediction."""
        found = {}
        for name, expected in self.shares.items():
            column = pa.array(prediction) if name == "prediction" else rows[name].combine_chunks()
            actual = self._count(name, column)
            found[name] = float(((actual - expected) * np.log(actual / expected)).sum())
        return found

    def report(self, rows: pa.Table, prediction: Floats, month: str) -> None:
        """Evidently's page on equal samples."""
        categories, rules = self.plan.categories, self.plan.use_case["monitoring"]
        numbers = [name for name in self.shares if name not in categories]
        definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
        current, expected = (
            Dataset.from_pandas(table.to_pandas(), data_definition=definition)
            for table in (self._sample(rows, prediction), self.sample)
        )
        preset = DataDriftPreset(method="psi", threshold=rules["drift_psi"])
        folder = self.plan.out / "reports" / "drift"
        folder.mkdir(parents=True, exist_ok=True)
        snapshot: Any = Report([preset]).run(current, expected)
        snapshot.save_html(str(folder / f"{month}.html"))

    def _learn(self, name: str, column: Any) -> Any:
        if name in self.plan.categories:
            counts = pc.value_counts(column.drop_null()).to_pylist()
            return pa.array([item["values"] for item in sorted(counts, key=lambda item: -item["counts"])[:_CATEGORIES]])
        values = column.to_numpy(zero_copy_only=False)
        return np.unique(np.nanquantile(values, np.linspace(0, 1, _BINS + 1)[1:-1], method="lower"))

    def _count(self, name: str, column: Any) -> Any:
        """Share of each bin; the last one is of missing values."""
        bins = self.bins[name]
        if name in self.plan.categories:
            place = pc.fill_null(pc.index_in(column, value_set=bins), len(bins))
            place = pc.if_else(pc.is_null(column), len(bins) + 1, place).to_numpy(zero_copy_only=False)
        else:
            values = column.to_numpy(zero_copy_only=False)
            place = np.where(np.isnan(values), len(bins) + 1, np.searchsorted(bins, values))
        return np.maximum(np.bincount(place, minlength=len(bins) + 2) / len(place), _FLOOR)

    def _sample(self, rows: pa.Table, prediction: Floats) -> pa.Table:
        wanted = self.plan.use_case["monitoring"]["report_rows"]
        taken = rows.select(self.plan.features).take(_spread(rows.num_rows, wanted))
        return taken.append_column("prediction", pa.array(prediction[_spread(len(prediction), wanted)]))


def measure_live(plan: Plan, rows: pa.Table, prediction: Floats, end: Any) -> Json:
    """Live AUC with its interval on the labels that had arrived by the month's end."""
    label = rows["label"].to_numpy(zero_copy_only=False)
    known_at = rows["label_known_at"].cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
    known = ~np.isnan(label) & (known_at <= np.datetime64(end.replace(tzinfo=None), "us"))
    draws = Draws.of(rows["event_timestamp"].filter(pa.array(known)), plan)
    low, high = np.percentile(draws.auc(label[known], prediction[known]), [2.5, 97.5])
    area = float(roc_auc_score(label[known], prediction[known]))
    return {"auc": area, "low": float(low), "high": float(high), "labelled": int(known.sum()), "known": known}


def _spread(count: int, wanted: int) -> Any:
    return np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)
