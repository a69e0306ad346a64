"""Features, training, tuning and scoring by the engine of an installation's connection, and what came of each.

`python -m tests.integration.ray_life WAY`: prints JSON. WAY is `local`, `here` (Ray on this machine), or `head` or
`client` (how the connection `cluster` names its cluster).
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from typing import Any

import numpy as np
from tests.unit import tolls
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.training.synthetic import make_domain, make_rows, make_use_case, write_training_set

from millrace.artifact import DatasetRef
from millrace.errors import EngineError
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import ComputeSpec, UseCaseSpec
from millrace.step.candidate import train_candidate
from millrace.step.engine import engine_for
from millrace.step.features import backfill_features
from millrace.step.scoring import _open_package
from millrace.step.training import build_training_set

COMPUTE: dict[str, Any] = {"threads": 1, "memory_limit": "300MB"}
ENGINES: dict[str, dict[str, Any]] = {
    "local": COMPUTE,
    "here": {**COMPUTE, "engine": "ray"},
    "head": {**COMPUTE, "engine": "ray", "connection": "cluster"},
    "client": {**COMPUTE, "engine": "ray", "connection": "cluster"},
}
TRAINED = {
    "local": [],
    "here": ["xgboost", "lightgbm", "torch"],
    "head": ["xgboost", "lightgbm", "torch", "tuned"],
    "client": ["xgboost", "tuned"],
}
BOOSTED = {"rounds": 20, "checkpoint_every": 10, "learning_rate": 0.2, "threads": 1}
TOGETHER: dict[str, dict[str, Any]] = {
    "xgboost": {"trainer": "xgboost", "params": {**BOOSTED, "subsample": 0.8, "max_depth": 4}},
    "lightgbm": {"trainer": "lightgbm", "params": {**BOOSTED, "num_leaves": 15}},
    "torch": {"trainer": "torch", "params": {"epochs": 3, "hidden": [16], "batch_size": 256, "threads": 1}},
}
TUNED: dict[str, Any] = {
    "trainer": "xgboost",
    "params": {"rounds": 15, "threads": 1},
    "tuning": {"space": {"max_depth": {"type": "int", "low": 2, "high": 6}}, "trials": 4, "folds": 1, "parallel": 2},
}


def use_case_of(way: str) -> UseCaseSpec:
    """Three libraries, each by two workers where the engine has any, and a candidate that is tuned."""
    workers = 1 if way == "local" else 2
    candidates = {name: {**candidate, "workers": workers} for name, candidate in TOGETHER.items()}
    use_case = make_use_case(**candidates, tuned=TUNED)
    return use_case.model_copy(update={"compute": ComputeSpec.model_validate(ENGINES[way])})


def compute_features(way: str, settings: Settings) -> dict[str, Any]:
    """Feature tables and a training set: digests of their rows."""
    domain = tolls.make_domain(settings, **ENGINES[way])
    tolls.write_clean(domain, settings.lake)
    backfill_features(domain, tolls.MONTHS, settings=settings)
    made = build_training_set(tolls.make_use_case(), domain, tolls.MONTHS[-1], settings=settings)
    return {"features": tolls.feature_contents(domain, settings.lake), "training_set": made.digest}


def train(use_case: UseCaseSpec, name: str, ref: DatasetRef, settings: Settings) -> dict[str, Any]:
    """The package of one candidate and its metrics' names; why there is none."""
    try:
        model = train_candidate(use_case, make_domain(), name, ref, settings=settings)
    except EngineError as error:
        return {"refused": error.what}
    package = Package.open(settings.packages / model.digest, model.digest)
    return {"package": model.digest, "facts": package.manifest.facts, "params": package.manifest.params}


def score(use_case: UseCaseSpec, digest: str, settings: Settings) -> str:
    """Digest of the predictions of rows in more than one slice."""
    package = Package.open(settings.packages / digest, digest)
    rows = make_rows(use_case, "2020-04", 230_001).select(package.features.columns)
    with engine_for(use_case.compute) as engine:
        found = engine.map_rows(functools.partial(_open_package, package, 1), rows)
    return hashlib.sha256(np.ascontiguousarray(found).tobytes()).hexdigest()


def live(way: str, settings: Settings) -> dict[str, Any]:
    """All of it, but for what another way shows as well."""
    lay_mlflow(settings)
    use_case = use_case_of(way)
    ref = write_training_set(use_case, settings.lake, ["2020-01", "2020-02", "2020-03"], 400)
    found: dict[str, Any] = {name: train(use_case, name, ref, settings) for name in TRAINED[way]}
    if way != "here":
        found |= compute_features(way, settings)
        alone = train(use_case_of("local"), "xgboost", ref, settings)
        found["scores"] = score(use_case, alone["package"], settings)
    return found


if __name__ == "__main__":
    told = live(sys.argv[1], Settings.load())
    print(json.dumps(told, default=str))
