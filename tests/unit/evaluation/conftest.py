"""Evidence to judge: one bundle as a good model leaves it, and a way to spoil it."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.artifact import digest_of
from millrace.evaluation.evidence import Evidence
from millrace.governance.policy import policy_digest
from millrace.settings import Settings
from millrace.spec import PolicySpec, UseCaseSpec, load_policy, load_use_case


@pytest.fixture
def use_case(settings: Settings) -> UseCaseSpec:
    return load_use_case(settings.dags, "flight_delay")


@pytest.fixture
def policy(settings: Settings) -> PolicySpec:
    return load_policy(settings.dags, "low")


def estimate(value: float, width: float = 0.02) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


@pytest.fixture
def plain(use_case: UseCaseSpec, policy: PolicySpec) -> dict[str, Any]:
    columns = use_case.features.columns

    def model(name: str, auc: float, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "trainer": name,
            "package": name[0] * 64,
            "trained_through": "2013-02",
            "bytes": 2_000_000,
            "features": columns,
            "metrics": {
                "auc": estimate(auc),
                "average_precision": estimate(0.4),
                "log_loss": estimate(0.5),
                "brier": estimate(0.15),
                "ece": estimate(0.02, 0.005),
                "f_beta": estimate(0.45),
                "lift": estimate(2.5, 0.2),
            },
            **more,
        }

    return {
        "use_case": "flight_delay",
        "use_case_digest": digest_of(use_case.model_dump(mode="json")),
        "description": use_case.description,
        "owners": ["admin"],
        "tier": "low",
        "policy": policy_digest(policy),
        "problem": "binary",
        "metric": "auc",
        "label": "arr_delay > 15",
        "feature_service": use_case.features.name,
        "declared_features": columns,
        "declared_leaks": use_case.leaks,
        "seed": 7,
        "rounds": 200,
        "data": {
            "training_set": "d" * 64,
            "training_rows": 50_000,
            "holdout_digest": "e" * 64,
            "holdout_rows": 27_000,
            "holdout_days": 31,
            "known_until": "2013-04-01T04:00:00Z",
            "mean_label": 0.22,
            "training_mean_label": 0.21,
            "missing_share": {"plane_year": 0.3},
        },
        "time": {
            "training_partitions": ["2013-01", "2013-02"],
            "holdout": "2013-03",
            "training_last_event": "2013-03-01T04:30:00Z",
            "holdout_first_event": "2013-03-01T10:15:00Z",
            "holdout_last_event": "2013-04-01T03:00:00Z",
            "holdout_start": "2013-03-01T05:00:00Z",
            "cut": "2013-04-01T04:00:00Z",
            "last_label_known_at": "2013-04-01T03:59:00.5Z",
            "rows_in_both": 0,
        },
        "candidates": [model("baseline", 0.5), model("xgboost", 0.72)],
        "challenger": "xgboost",
        "champion": model("champion", 0.70, release=3),
        "versus_champion": {
            "against": "champion",
            "package": "c" * 64,
            "release": 3,
            "gain": {"value": 0.02, "low": 0.01, "high": 0.03},
        },
        "versus_baseline": {"against": "baseline", "package": "b" * 64, "gain": estimate(0.22)},
        "slices": [
            {
                "column": "origin",
                "value": value,
                "rows": rows,
                "mean_label": 0.2,
                "score": estimate(score),
                "champion": estimate(other),
            }
            for value, rows, score, other in [
                ("EWR", 9000, 0.71, 0.70),
                ("JFK", 9000, 0.68, 0.70),
                ("LGA", 50, 0.4, 0.7),
            ]
        ],
        "calibration": [{"rows": 20_000, "predicted": 0.1, "observed": 0.12}],
        "explanation": {
            "method": "contributions",
            "rows": 300,
            "features": [
                {"feature": "temp", "share": 0.6, "value": 0.3},
                {"feature": "dest", "share": 0.4, "value": 0.2},
                *({"feature": name, "share": 0.0, "value": 0.0} for name in columns if name not in {"temp", "dest"}),
            ],
        },
        "sufficiency": [{"feature": "temp", "score": 0.61}, {"feature": "dest", "score": 0.58}],
        "reference": "f" * 64,
        "stability": [
            {"change": "perturbed", "feature": "", "rows": 2000, "moved": 0.004, "metric": 0.719},
            {"change": "missing", "feature": "temp", "rows": 2000, "moved": 0.03, "metric": 0.68},
            {"change": "missing", "feature": "dest", "rows": 2000, "moved": 0.01, "metric": 0.71},
        ],
        "origin": {"commit": "1" * 40, "tree": "clean", "lock": "2" * 64, "recipe": "3" * 64},
    }


@pytest.fixture
def evidence(plain: dict[str, Any]) -> Evidence:
    return Evidence.model_validate(plain)
