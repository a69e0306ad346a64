"""A training set of the shape of a year of flights in a lake, with its use case: what training benchmarks read."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.artifact import DatasetRef, iso
from millrace.lake import Table
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.training import TrainingJob, assemble_partition

ROWS, HOLDOUT_ROWS = 336_776, 20_000
MONTHS = [f"2013-{month:02d}" for month in range(1, 13)]
HOLDOUT = "2014-01"
NUMBERS = [f"x{number:02d}" for number in range(20)]
CATEGORIES = {"carrier": 16, "origin": 3, "dest": 105, "tail": 4_000}
XGBOOST = {"rounds": 200, "max_depth": 6, "learning_rate": 0.1, "threads": 2}


def make_domain() -> DomainSpec:
    """Flights by month."""
    columns = {"id": "string", "at": "timestamp", "known_at": "timestamp", "late": "float64"}
    return DomainSpec.model_validate(
        {
            "name": "year",
            "description": "A year.",
            "owners": ["admin"],
            "first": MONTHS[0],
            "feature_tables": {},
            "sources": {
                "rows": {
                    "uri": "rows.csv",
                    "columns": columns,
                    "partition_columns": {"at": "%Y-%m"},
                    "key": ["id"],
                }
            },
        }
    )


def make_use_case(trainer: str = "xgboost", params: dict[str, Any] | None = None) -> UseCaseSpec:
    """Will it be late?"""
    return UseCaseSpec.model_validate(
        {
            "name": "late",
            "domain": "year",
            "description": "Late?",
            "owners": ["admin"],
            "tier": "low",
            "problem": "binary",
            "entity": {"source": "rows", "key": "id", "timestamp": "at"},
            "label": {"expression": "late", "known_at": "known_at"},
            "features": {
                "name": "late_v1",
                "row": {**dict.fromkeys(NUMBERS, "number"), **dict.fromkeys(CATEGORIES, "category")},
                "views": {},
            },
            "candidates": {trainer: {"trainer": trainer, "params": XGBOOST if params is None else params}},
        }
    )


def make_rows(key: str, count: int) -> pa.Table:
    """Rows of a month: numbers of several shapes with holes, categories of several sizes, a noisy label."""
    start = make_domain().partition(key).start
    rng = np.random.default_rng([7, *key.encode()])
    numbers = rng.normal(size=(len(NUMBERS), count))
    numbers[5:10] = np.round(numbers[5:10] * 20)
    numbers[10:13] = np.exp(numbers[10:13])
    codes = {name: np.minimum(rng.zipf(1.3, count) - 1, size - 1) for name, size in CATEGORIES.items()}
    score = numbers[0] + np.sin(2 * numbers[1]) + numbers[5] / 40 + 0.3 * (codes["dest"] % 7) - 0.5 * (codes["origin"])
    label = (score + rng.normal(0, 1.5, count) > 1.5).astype(float)
    at = [start + timedelta(seconds=int(second)) for second in np.sort(rng.integers(0, 27 * 86_400, count))]
    columns: dict[str, Any] = {
        "key": [f"{key}-{number:07d}" for number in range(count)],
        "event_timestamp": pa.array(at, pa.timestamp("us", tz="UTC")),
        "label": label,
        "label_known_at": pa.array([moment + timedelta(hours=5) for moment in at], pa.timestamp("us", tz="UTC")),
    }
    for i, name in enumerate(NUMBERS):
        columns[name] = pa.array(numbers[i], mask=rng.random(count) < (0.05 if i % 3 else 0.0))
    for name, places in codes.items():
        names = np.array([f"{name} {number}" for number in range(CATEGORIES[name])])
        columns[name] = pa.array(names[places].tolist(), pa.string())
    return assemble_partition(make_use_case(), pa.table(columns))


def write_training_set(lake: str, rows: int = ROWS) -> DatasetRef:
    """Twelve months, then a holdout."""
    use_case = make_use_case()
    table = Table(lake, use_case.service_table("training_set"))
    written = [table.replace(make_rows(key, rows // len(MONTHS)), partition=key) for key in MONTHS]
    written.append(table.replace(make_rows(HOLDOUT, HOLDOUT_ROWS), partition=HOLDOUT))
    return DatasetRef(
        table=table.name,
        version=written[-1].version,
        rows=sum(ref.rows for ref in written),
        digest="0" * 64,
        known_until=iso(make_domain().partition(HOLDOUT).end),
    )


def make_job(use_case: UseCaseSpec, candidate: str) -> TrainingJob:
    """A job on all months before the holdout."""
    return TrainingJob(
        use_case=use_case,
        domain=make_domain(),
        candidate=candidate,
        table=use_case.service_table("training_set"),
        holdout=HOLDOUT,
        known_until=iso(make_domain().partition(HOLDOUT).start),
    )


if __name__ == "__main__":
    import sys

    write_training_set(sys.argv[1], *(int(word) for word in sys.argv[2:3]))
    Path(sys.argv[1], "ready").touch()
