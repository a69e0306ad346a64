"""A small domain, `parcels`, in files by month, and a use case on it: what lineage is walked over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

MONTHS = ["2021-01", "2021-02", "2021-03", "2021-04"]
HEADER = "parcel,depot,weight,sent_at,took,colour\n"
_SQL = """
SELECT depot, known_at AS event_timestamp, known_at, avg(took) OVER week AS depot_hours
FROM parcels
WHERE known_at IS NOT NULL
WINDOW week AS (PARTITION BY depot ORDER BY known_at RANGE BETWEEN INTERVAL 7 DAYS PRECEDING AND CURRENT ROW)
QUALIFY known_at >= $start AND known_at < $end
"""
DOMAIN: dict[str, Any] = {
    "name": "post",
    "description": "Parcels and the depots they go through.",
    "owners": ["admin"],
    "first": MONTHS[0],
    "last": MONTHS[-1],
    "sources": {
        "parcels": {
            "kind": "file",
            "columns": {
                "parcel": "string",
                "depot": "string",
                "weight": "float64",
                "sent_at": "timestamp",
                "took": "float64",
                "colour": "string",
            },
            "key": ["parcel"],
            "known_late": ["took", "known_at"],
            "cleanup": [{"derive": {"known_at": "sent_at + to_minutes(CAST(took * 60 AS BIGINT))"}}],
            "contract": [
                {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "sent_at"}},
                {
                    "type": "expect_column_values_to_be_between",
                    "kwargs": {"column": "weight", "min_value": 0, "max_value": 40},
                    "on_failure": "quarantine",
                },
                {
                    "type": "expect_column_values_to_be_in_set",
                    "kwargs": {"column": "colour", "value_set": ["brown", "white"]},
                    "on_failure": "warn",
                },
            ],
        }
    },
    "feature_tables": {
        "depot_pace": {
            "sql": "post/pace.sql",
            "entities": ["depot"],
            "features": {"depot_hours": "float64"},
            "look_back_days": 7,
            "ttl_hours": 240,
            "tags": {"of": "depot"},
            "description": "How long parcels took of late.",
        }
    },
}
USE_CASE: dict[str, Any] = {
    "name": "parcel_late",
    "domain": "post",
    "description": "Will a parcel take more than two days?",
    "owners": ["admin"],
    "tier": "low",
    "problem": "binary",
    "entity": {"source": "parcels", "key": "parcel", "timestamp": "sent_at"},
    "label": {
        "expression": "CASE WHEN took IS NULL THEN NULL WHEN took > 48 THEN 1.0 ELSE 0.0 END",
        "known_at": "known_at",
    },
    "features": {"name": "parcel_late_v1", "row": {"weight": "number"}, "views": {"depot_pace": ["depot_hours"]}},
    "leaks": ["took", "known_at"],
    "candidates": {
        "xgboost": {"trainer": "xgboost", "params": {"rounds": 15, "max_depth": 3, "threads": 1}},
        "baseline": {"trainer": "baseline"},
    },
    "evaluation": {"metric": "auc", "bootstrap": 50},
}
POLICY: dict[str, Any] = {
    "tier": "low",
    "description": "Gates decide.",
    "approvals": 0,
    "dirty_tree": "note",
    "min_candidates": 2,
    "gates": {"all": [{"kind": "beats_baseline"}]},
}


def write_specs(dags: Path, files: Path, *, use_cases: tuple[str, ...] = ("parcel_late",)) -> None:
    """Domain, use cases and policy in place of all others."""
    for folder in ("domains", "use_cases", "policies"):
        (dags / folder).mkdir(parents=True, exist_ok=True)
        for old in (dags / folder).glob("*.yaml"):
            old.unlink()
    (dags / "domains" / "post").mkdir(exist_ok=True)
    (dags / "domains" / "post" / "pace.sql").write_text(_SQL)
    source = {**DOMAIN["sources"]["parcels"], "uri": f"{files}/parcels-{{partition}}.csv"}
    write(dags / "domains" / "post.yaml", {**DOMAIN, "sources": {"parcels": source}})
    for name in use_cases:
        write(dags / "use_cases" / f"{name}.yaml", {**USE_CASE, "name": name})
    write(dags / "policies" / "low.yaml", POLICY)


def write_files(folder: Path, *, parcels: int = 600) -> None:
    """A file a month. Heavy parcels take longer; one is too heavy to be true, a few are on their way still."""
    random = np.random.default_rng(11)
    folder.mkdir(parents=True, exist_ok=True)
    for month in MONTHS:
        start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
        lines = []
        for number, minute in enumerate(np.sort(random.integers(0, 27 * 24 * 60, parcels))):
            weight = float(random.uniform(0, 30)) if number != 5 else 99.0
            took = "" if number % 50 == 7 else f"{weight * 2 + random.normal(scale=15) + 20:.2f}"
            colour = "green" if number == 9 else "brown"
            sent = (start + timedelta(minutes=int(minute))).isoformat()
            lines.append(f"P{month}-{number},D{number % 3},{weight:.2f},{sent},{took},{colour}\n")
        (folder / f"parcels-{month}.csv").write_text(HEADER + "".join(lines))


def write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=False))
