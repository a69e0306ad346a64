"""A domain, `plant`, whose feature tables a test writes itself: what materialization is tried on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace.document import write_atomically
from millrace.features.base import INSTANT
from millrace.lake import Table
from millrace.lake.digest import content_digest
from millrace.online.address import open_reader
from millrace.settings import Settings
from millrace.spec import DomainSpec
from tests.contract.online_stores import patience

KEYS = ["a", "b", "c", "d"]
PARTITIONS = ["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"]
START = datetime(2020, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema({"key": pa.string(), "event_timestamp": INSTANT, "known_at": INSTANT, "level": pa.float64()})
_SQL = "SELECT key, ts AS event_timestamp, ts AS known_at, level FROM readings WHERE ts >= $start AND ts < $end"
_STATIC = "SELECT key, max(ts) AS event_timestamp, max(ts) AS known_at, max(level) AS level FROM readings GROUP BY key"
Fact = tuple[str, float, float, float]
"""Key, hours after START that it happened and became known at, level."""


def make_plant(folder: Path, *, ttl_hours: int = 30, features: Mapping[str, str] | None = None) -> DomainSpec:
    """The domain: view `short` whose values expire, `long` whose values do not, and `fixed`, which is static.

    Args:
        folder: folder of the domains' YAML, which the SQL goes to.
        ttl_hours: of `short`.
        features: of `short` and `long`, where they are others than `level`.
    """
    columns = dict(features or {"level": "float64"})
    extra = {name: kind for name, kind in columns.items() if name != "level"}
    added = "".join(f", CAST(level AS {kind}) AS {name}" for name, kind in extra.items())
    for name, text in (("level", _SQL.replace(" FROM", f"{added} FROM")), ("fixed", _STATIC)):
        # At once: tests make the same plant in several processes.
        write_atomically(folder / "plant" / f"{name}.sql", text.encode())
    table = {
        "description": "levels",
        "tags": {"subject": "level"},
        "entities": ["key"],
        "sql": "plant/level.sql",
        "features": columns,
        "freshness_hours": 24,
    }
    fixed = {**table, "sql": "plant/fixed.sql", "static": True, "features": {"level": "float64"}, "freshness_hours": 0}
    source = {
        "uri": "nowhere.csv",
        "columns": {"key": "string", "ts": "timestamp", "level": "float64"},
        "key": ["key", "ts"],
    }
    return DomainSpec.model_validate(
        {
            "name": "plant",
            "description": "tanks",
            "owners": ["admin"],
            "grain": "day",
            "first": PARTITIONS[0],
            "sources": {"readings": source},
            "feature_tables": {"short": {**table, "ttl_hours": ttl_hours}, "long": table, "fixed": fixed},
        }
    )


def write_facts(settings: Settings, domain: DomainSpec, view: str, partition: str, facts: Sequence[Fact]) -> None:
    """Replace a partition of a feature table."""
    rows = pa.Table.from_pylist(
        [
            {
                "key": key,
                "event_timestamp": START + timedelta(hours=happened),
                "known_at": START + timedelta(hours=known),
                "level": level,
            }
            for key, happened, known, level in facts
        ],
        schema=SCHEMA,
    )
    for name in domain.feature_tables[view].features:
        if name not in rows.column_names:
            rows = rows.append_column(name, rows.column("level").cast(pa.int64()))
    target = Table(settings.lake, domain.feature_table(view))
    target.replace(rows, partition=partition, digest=content_digest(rows), evolve=True)


def answers(settings: Settings, view: str, keys: Sequence[str] = KEYS) -> Any:
    """What the online store answers for all keys, and as of when."""
    with patience(), contextlib.closing(open_reader(settings.online_store)) as reader:
        return reader.high_water_mark(view), reader.read_rows(view, [(key,) for key in keys])
