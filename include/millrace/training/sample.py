"""Made-up rows to try trainers on: a small domain of shops, and a use case of each problem.

The label rises with `size`, falls with `age` and `warmth`, and hangs on the categories `kind` and `sky`; a tenth of
`size`, `kind` and `warmth` is missing, and `nothing` always is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.artifact import iso
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.training.data.training_set import assemble_partition
from millrace.training.job import TrainingJob

CLASSES = ["low", "middle", "high"]
KINDS = ["chair", "lamp", "table", "ünique", ""]
_INSTANT = pa.timestamp("us", tz="UTC")
_METRIC = {"binary": "auc", "multiclass": "log_loss", "regression": "rmse"}
_NAME = {"binary": "sold", "multiclass": "demand", "regression": "price"}


def make_domain() -> DomainSpec:
    """Shops that sell, by month."""
    sale = {"sale_id": "string", "sold_at": "timestamp", "town": "string", "year": "int32"}
    weather = {"warmth": "float64", "sky": "string", "nothing": "float64"}
    return DomainSpec.model_validate(
        {
            "name": "shops",
            "description": "Sales of shops.",
            "owners": ["admin"],
            "first": "2020-01",
            "sources": {
                "sales": {
                    "uri": "sales.csv",
                    "columns": sale,
                    "partition_columns": {"year": "%Y"},
                    "key": ["sale_id"],
                }
            },
            "feature_tables": {
                "town_weather": {
                    "sql": "x.sql",
                    "entities": ["town"],
                    "ttl_hours": 6,
                    "features": weather,
                    "tags": {"subject": "weather"},
                    "description": "Weather of a town.",
                }
            },
        }
    )


def make_use_case(problem: str, candidates: Mapping[str, Mapping[str, Any]], **changes: Any) -> UseCaseSpec:
    """Will it sell, how well, or for how much.

    Args:
        problem: `binary`, `multiclass` or `regression`.
        candidates: name → values of a `CandidateSpec`.
        changes: further keys of the use case.
    """
    return UseCaseSpec.model_validate(
        {
            "name": _NAME[problem],
            "domain": "shops",
            "description": "Will it sell?",
            "owners": ["admin"],
            "tier": "low",
            "problem": problem,
            "classes": CLASSES if problem == "multiclass" else [],
            "entity": {"source": "sales", "key": "sale_id", "timestamp": "sold_at"},
            "label": {"expression": "sold", "known_at": "known_at"},
            "features": {
                "name": "sold_v1",
                "row": {"size": "number", "age": "number", "kind": "category"},
                "views": {"town_weather": ["warmth", "sky", "nothing"]},
                "categorical": ["sky"],
            },
            "candidates": candidates,
            "evaluation": {"metric": _METRIC[problem]},
            **changes,
        }
    )


def make_rows(use_case: UseCaseSpec, partition: str, count: int = 400, *, seed: int = 0) -> pa.Table:
    """Rows of one month, features and label, in the layout of the training set."""
    start = make_domain().partition(partition).start
    rng = np.random.default_rng([seed, *partition.encode()])
    size, age = rng.normal(size=count), rng.exponential(3.0, size=count)
    kinds = np.array(KINDS)[rng.integers(0, 5, count)]
    sky = np.array(["clear", "rain"])[rng.integers(0, 2, count)]
    warmth = rng.normal(15, 8, size=count)
    score = 1.5 * size + (kinds == "lamp") * 2.0 - 0.1 * warmth + (sky == "rain") - 0.2 * age
    noisy = score + rng.normal(0, 0.5, size=count)
    holes = rng.random((3, count)) < 0.1
    at = [start + timedelta(minutes=int(minute)) for minute in rng.integers(0, 28 * 24 * 60, count)]
    columns: dict[str, Any] = {
        "key": [f"{partition}-{number:06d}" for number in range(count)],
        "event_timestamp": pa.array(at, _INSTANT),
        "label": _label(use_case.problem, noisy, score),
        "label_known_at": pa.array([moment + timedelta(days=2) for moment in at], _INSTANT),
        "size": pa.array(size, mask=holes[0]),
        "age": pa.array(age),
        "kind": pa.array(kinds.tolist(), pa.string(), mask=holes[1]),
        "warmth": pa.array(warmth, mask=holes[2]),
        "sky": pa.array(sky.tolist(), pa.string()),
        "nothing": pa.nulls(count, pa.float64()),
    }
    if use_case.label.weight:
        columns["label_weight"] = rng.uniform(0.1, 3.0, size=count)
    return assemble_partition(use_case, pa.table(columns))


def training_rows(use_case: UseCaseSpec, partitions: Sequence[str], count: int = 400) -> pa.Table:
    """Rows of several months with their partition, as training takes them."""
    tables = []
    for key in partitions:
        rows = make_rows(use_case, key, count)
        tables.append(rows.append_column("partition", pa.array([key] * rows.num_rows)))
    return pa.concat_tables(tables)


def make_job(use_case: UseCaseSpec, candidate: str, *, holdout: str, table: str = "") -> TrainingJob:
    """A job on rows of `training_rows`."""
    return TrainingJob(
        use_case=use_case,
        domain=make_domain(),
        candidate=candidate,
        table=table or use_case.service_table("training_set"),
        holdout=holdout,
        known_until=iso(make_domain().partition(holdout).start),
    )


def _label(problem: str, noisy: NDArray[np.float64], score: NDArray[np.float64]) -> NDArray[np.float64]:
    if problem == "binary":
        return (noisy > np.median(score)).astype(float)
    if problem == "multiclass":
        return np.searchsorted(np.quantile(score, [1 / 3, 2 / 3]), noisy).astype(float)
    return 100 + 20 * noisy
