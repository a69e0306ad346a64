"""A small domain, `tolls`: passes of gates by month, windows over them in SQL and in Python, and a use case on both."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.lake import Table
from millrace.lake.digest import content_digest
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec

MONTHS = ["2021-01", "2021-02", "2021-03", "2021-04"]
_SQL = """
SELECT
    gate,
    passed_at AS event_timestamp,
    passed_at AS known_at,
    count(*) OVER past AS passes_1d,
    CAST(sum(CAST(weight AS BIGINT)) OVER past AS DOUBLE) AS weight_1d
FROM passes
WINDOW past AS (PARTITION BY gate ORDER BY passed_at RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW)
QUALIFY passed_at >= $start AND passed_at < $end
"""
_FUNCTION = '''
"""Heaviest pass of a gate on each day, known when the day is over."""

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc


def heaviest(sources, start, end):
    """One row a gate and day that ended in [start, end)."""
    rows = sources["passes"]
    day = pc.add(pc.floor_temporal(rows["passed_at"], unit="day"), pa.scalar(timedelta(days=1)))
    found = pa.table({"gate": rows["gate"], "event_timestamp": day, "weight": rows["weight"]})
    found = found.group_by(["gate", "event_timestamp"]).aggregate([("weight", "max")])
    found = found.filter(pc.and_(pc.greater_equal(found["event_timestamp"], pa.scalar(start)),
                                 pc.less(found["event_timestamp"], pa.scalar(end))))
    return pa.table({"gate": found["gate"], "event_timestamp": found["event_timestamp"],
                     "known_at": found["event_timestamp"], "heaviest": found["weight_max"]})
'''


def make_domain(settings: Settings, **compute: Any) -> DomainSpec:
    """The domain, with the files of its feature tables beside the installation's specs."""
    folder = settings.sql_folder / "tolls"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "load.sql").write_text(_SQL, encoding="utf-8")
    (folder / "heaviest.py").write_text(_FUNCTION, encoding="utf-8")
    (folder / "place.sql").write_text(
        "SELECT gate, TIMESTAMP '2021-01-01' AS event_timestamp, TIMESTAMP '2021-01-01' AS known_at, lanes FROM gates",
        encoding="utf-8",
    )
    described = {"tags": {"subject": "traffic"}, "description": "Traffic of a gate.", "entities": ["gate"]}
    return DomainSpec.model_validate(
        {
            "name": "tolls",
            "description": "Toll gates.",
            "owners": ["admin"],
            "first": MONTHS[0],
            "last": MONTHS[-1],
            "compute": compute,
            "sources": {
                "passes": {
                    "uri": "passes.csv",
                    "columns": {
                        "pass_id": "int64",
                        "gate": "string",
                        "passed_at": "timestamp",
                        "weight": "float64",
                        "fined": "float64",
                        "month": "string",
                    },
                    "partition_columns": {"month": "%Y-%m"},
                    "key": ["pass_id"],
                },
                "gates": {"uri": "gates.csv", "columns": {"gate": "string", "lanes": "int64"}, "key": ["gate"]},
            },
            "feature_tables": {
                "gate_load": {
                    "sql": "tolls/load.sql",
                    "look_back_days": 1,
                    "ttl_hours": 48,
                    "features": {"passes_1d": "int64", "weight_1d": "float64"},
                    **described,
                },
                "gate_heaviest": {
                    "function": "tolls/heaviest.py:heaviest",
                    "sources": ["passes"],
                    "look_back_days": 1,
                    "features": {"heaviest": "float64"},
                    **described,
                },
                "gate_place": {"sql": "tolls/place.sql", "static": True, "features": {"lanes": "int64"}, **described},
            },
        }
    )


def make_use_case() -> UseCaseSpec:
    """Will a pass be fined?"""
    return UseCaseSpec.model_validate(
        {
            "name": "toll_fine",
            "domain": "tolls",
            "description": "Will a pass be fined?",
            "owners": ["admin"],
            "tier": "low",
            "problem": "binary",
            "entity": {"source": "passes", "key": "pass_id", "timestamp": "passed_at"},
            "label": {"expression": "fined", "known_at": "passed_at"},
            "features": {
                "name": "toll_fine_v1",
                "row": {"weight": "number"},
                "views": {
                    "gate_load": ["passes_1d", "weight_1d"],
                    "gate_heaviest": ["heaviest"],
                    "gate_place": ["lanes"],
                },
            },
            "candidates": {"baseline": {"trainer": "baseline"}},
            "evaluation": {"metric": "auc"},
        }
    )


def write_clean(domain: DomainSpec, lake: str, *, passes: int = 600, gates: int = 7, seed: int = 3) -> None:
    """Clean rows of four months."""
    random = np.random.default_rng(seed)
    names = [f"G{number}" for number in range(gates)]
    for month in MONTHS:
        start = domain.partition(month).start
        minutes = np.sort(random.integers(0, 28 * 24 * 60, passes))
        rows = pa.table(
            {
                "pass_id": pa.array([int(month[-2:]) * 10_000_000 + number for number in range(passes)], pa.int64()),
                "gate": pa.array([names[index] for index in random.integers(0, gates, passes)]),
                "passed_at": pa.array(
                    [start + timedelta(minutes=int(minute)) for minute in minutes], pa.timestamp("us", tz="UTC")
                ),
                "weight": pa.array(random.integers(500, 40_000, passes).astype(float)),
                "fined": pa.array((random.random(passes) < 0.2).astype(float)),
                "month": pa.array([month] * passes),
            }
        )
        Table(lake, domain.clean_table("passes")).replace(rows, partition=month)
    Table(lake, domain.clean_table("gates")).replace(pa.table({"gate": names, "lanes": list(range(gates))}))


def contents(lake: str, name: str) -> dict[str, str]:
    """Partition → digest of its rows in one order: what must not depend on how it was computed."""
    table = Table(lake, name)
    found = {}
    for key in table.partitions():
        rows = table.read(partitions=[key])
        found[key] = content_digest(rows.sort_by([(column, "ascending") for column in rows.column_names]))
    return found


def feature_contents(domain: DomainSpec, folder: Path | str) -> dict[str, dict[str, str]]:
    """Feature table → partition → digest of its rows; a static table has one key, ""."""
    found = {}
    for name, table in domain.feature_tables.items():
        if table.static:
            rows = Table(str(folder), domain.feature_table(name)).read()
            found[name] = {"": content_digest(rows.sort_by([(column, "ascending") for column in rows.column_names]))}
        else:
            found[name] = contents(str(folder), domain.feature_table(name))
    return found
