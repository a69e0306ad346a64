"""A small domain whose files are dropped into a folder, one a month: specs and DAG file of a test."""

from __future__ import annotations

from pathlib import Path

_SPEC = """
name: drops
description: Readings dropped into a folder, a file a month.
owners: [admin]
timezone: America/New_York
first: "2024-01"
last: "2024-06"
sources:
  readings:
    uri: {folder}/{{partition}}.csv
    watch: true
    poll_seconds: 0.5
    settle_seconds: 3
    columns: {{device: string, at: timestamp, value: float64}}
    key: [device, at]
    contract:
      - type: expect_column_values_to_be_between
        kwargs: {{column: value, min_value: 0, max_value: 100}}
        on_failure: quarantine
    max_quarantined_share: 0.5
feature_tables:
  device_level:
    description: Mean of the readings that a device gave on the day before.
    tags: {{subject: level}}
    sql: drops/device_level.sql
    entities: [device]
    look_back_days: 2
    features: {{device_level: float64}}
"""
_SQL = """
SELECT device, day AS event_timestamp, day AS known_at, avg(value) AS device_level
FROM generate_series($start, $end - INTERVAL 1 DAY, INTERVAL 1 DAY) AS series (day)
JOIN readings ON readings."at" >= day - INTERVAL 1 DAY AND readings."at" < day
GROUP BY ALL
"""
_DAGS = '''
"""Readings dropped into a folder: a month of data a run."""

from millrace_airflow.groups import DomainDags

drops = DomainDags("drops")

with drops.data():
    drops.sources() >> drops.build_features() >> drops.materialize_features()

with drops.replay():
    drops.recompute(drops.list_stale_partitions(drops.replay_quarantine()))

with drops.arrivals():
    drops.request_partitions(drops.find_arrivals())
'''


def write_drops(dags: Path, folder: Path) -> None:
    """Put the domain's spec, SQL and DAG file into a folder of DAG files."""
    (dags / "domains" / "drops").mkdir(parents=True, exist_ok=True)
    (dags / "domains" / "drops.yaml").write_text(_SPEC.format(folder=folder), encoding="utf-8")
    (dags / "domains" / "drops" / "device_level.sql").write_text(_SQL, encoding="utf-8")
    (dags / "drops.py").write_text(_DAGS, encoding="utf-8")


def write_readings(path: Path, *, days: int = 28, bad: int = 0) -> int:
    """A month's file, complete in one step: three devices, a reading a day each; returns its rows.

    Args:
        path: `<folder>/<key>.csv`.
        days: of the month.
        bad: readings of the first device that break the contract.
    """
    lines = ["device,at,value"]
    for day in range(1, days + 1):
        for number, device in enumerate("abc"):
            value = 400 if number == 0 and day <= bad else day + number
            lines.append(f"{device},{path.stem}-{day:02d}T12:00:00Z,{value}")
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(".part")
    made.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made.rename(path)
    return len(lines) - 1
