"""A small domain with a use case of each problem and training sets in a lake, for tests of packages and trainers."""

from __future__ import annotations

from typing import Any

from millrace.artifact import DatasetRef, iso
from millrace.lake import Table
from millrace.package import FeatureSpec
from millrace.spec import UseCaseSpec
from millrace.training import sample
from millrace.training.sample import make_domain, make_job, make_rows, training_rows

__all__ = [
    "QUICK",
    "features_of",
    "make_domain",
    "make_job",
    "make_rows",
    "make_use_case",
    "training_rows",
    "write_training_set",
]

QUICK: dict[str, dict[str, Any]] = {
    "xgboost": {"rounds": 20, "max_depth": 4, "learning_rate": 0.2, "subsample": 0.8, "colsample_bytree": 0.8},
    "lightgbm": {"rounds": 20, "num_leaves": 15, "learning_rate": 0.2, "feature_fraction": 0.8},
    "torch": {"epochs": 4, "hidden": [32, 16], "embedding": 4, "batch_size": 256, "learning_rate": 0.02},
    "baseline": {},
}


def make_use_case(problem: str = "binary", **candidates: dict[str, Any]) -> UseCaseSpec:
    """Will it sell, how well, or for how much: one candidate a trainer unless given."""
    chosen = candidates or {name: {"trainer": name, "params": params} for name, params in QUICK.items()}
    return sample.make_use_case(problem, chosen)


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


def features_of(use_case: UseCaseSpec) -> FeatureSpec:
    """Feature spec of a use case on the domain."""
    return FeatureSpec.of(use_case, make_domain())
