"""A small domain with two use cases and training sets in a lake, for tests of packages and trainers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.artifact import DatasetRef, iso
from millrace.lake import Table
from millrace.package import FeatureSpec
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.training import TrainingJob, assemble_partition

QUICK: dict[str, dict[str, Any]] = {
    "xgboost": {"rounds": 20, "max_depth": 4, "learning_rate": 0.2, "subsample": 0.8, "colsample_bytree": 0.8},
    "lightgbm": {"rounds": 20, "num_leaves": 15, "learning_rate": 0.2, "feature_fraction": 0.8},
    "torch": {"epochs": 4, "hidden": [32, 16], "embedding": 4, "batch_size": 256, "learning_rate": 0.02},
    "baseline": {},
}


def make_domain() -> DomainSpec:
    """Shops that sell, by month."""
    return DomainSpec.model_validate(
        {
            "name": "shops",
            "description": "Sales of shops.",
            "owners": ["admin"],
            "first": "2020-01",
            "sources": {
                "sales": {
                    "uri": "sales.csv",
                    "columns": {"sale_id": "string", "sold_at": "timestamp", "town": "string", "year": "int32"},
                    "partition_columns": {"year": "%Y"},
                    "key": ["sale_id"],
                }
            },
            "feature_tables": {
                "town_weather": {
                    "sql": "x.sql",
                    "entities": ["town"],
                    "ttl_hours": 6,
                    "features": {"warmth": "float64", "sky": "string", "nothing": "float64"},
                    "tags": {"subject": "weather"},
                    "description": "Weather of a town.",
                }
            },
        }
    )


def make_use_case(problem: str = "binary", **candidates: dict[str, Any]) -> UseCaseSpec:
    """Will it sell, or for how much: one candidate a trainer unless given."""
    chosen = candidates or {name: {"trainer": name, "params": params} for name, params in QUICK.items()}
    return UseCaseSpec.model_validate(
        {
            "name": "sold" if problem == "binary" else "price",
            "domain": "shops",
            "description": "Will it sell?",
            "owners": ["admin"],
            "tier": "low",
            "problem": problem,
            "entity": {"source": "sales", "key": "sale_id", "timestamp": "sold_at"},
            "label": {"expression": "sold", "known_at": "known_at"},
            "features": {
                "name": "sold_v1",
                "row": {"size": "number", "age": "number", "kind": "category"},
                "views": {"town_weather": ["warmth", "sky", "nothing"]},
                "categorical": ["sky"],
            },
            "candidates": chosen,
            "evaluation": {"metric": "auc" if problem == "binary" else "rmse"},
        }
    )


def make_rows(use_case: UseCaseSpec, partition: str, count: int = 400, *, seed: int = 0) -> pa.Table:
    """Rows of one month, features and label, in the layout of the training set."""
    domain = make_domain()
    start = domain.partition(partition).start
    rng = np.random.default_rng([seed, *partition.encode()])
    size, age = rng.normal(size=count), rng.exponential(3.0, size=count)
    kinds = np.array(["chair", "lamp", "table", "ünique", ""])[rng.integers(0, 5, count)]
    sky = np.array(["clear", "rain"])[rng.integers(0, 2, count)]
    warmth = rng.normal(15, 8, size=count)
    score = 1.5 * size + (kinds == "lamp") * 2.0 - 0.1 * warmth + (sky == "rain") - 0.2 * age
    noisy = score + rng.normal(0, 0.5, size=count)
    label = (noisy > np.median(score)).astype(float) if use_case.problem == "binary" else 100 + 20 * noisy
    holes = rng.random((3, count)) < 0.1
    at = [start + timedelta(minutes=int(minute)) for minute in rng.integers(0, 28 * 24 * 60, count)]
    rows = pa.table(
        {
            "key": [f"{partition}-{number:06d}" for number in range(count)],
            "event_timestamp": pa.array(at, pa.timestamp("us", tz="UTC")),
            "label": label,
            "label_known_at": pa.array([moment + timedelta(days=2) for moment in at], pa.timestamp("us", tz="UTC")),
            "size": pa.array(size, mask=holes[0]),
            "age": pa.array(age),
            "kind": pa.array(kinds.tolist(), pa.string(), mask=holes[1]),
            "warmth": pa.array(warmth, mask=holes[2]),
            "sky": pa.array(sky.tolist(), pa.string()),
            "nothing": pa.nulls(count, pa.float64()),
        }
    )
    return assemble_partition(use_case, rows)


def training_rows(use_case: UseCaseSpec, partitions: list[str], count: int = 400) -> pa.Table:
    """Rows of several months with their partition, as `load_training_set` gives them."""
    tables = []
    for key in partitions:
        rows = make_rows(use_case, key, count)
        tables.append(rows.append_column("partition", pa.array([key] * rows.num_rows)))
    return pa.concat_tables(tables)


def write_training_set(use_case: UseCaseSpec, lake: str, partitions: list[str], count: int = 400) -> DatasetRef:
    """A training set in the lake, up to the last of the partitions."""
    table = Table(lake, use_case.service_table("training_set"))
    written = [table.replace(make_rows(use_case, key, count), partition=key) for key in partitions]
    return DatasetRef(
        table=table.name,
        version=written[-1].version,
        rows=sum(ref.rows for ref in written),
        digest="0" * 64,
        known_until=iso(make_domain().partition(partitions[-1]).end),
    )


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


def features_of(use_case: UseCaseSpec) -> FeatureSpec:
    """Feature spec of a use case on the domain."""
    return FeatureSpec.of(use_case, make_domain())
