"""Feast repositories to test offline stores on: views with one key, two keys and none, on files that tests rewrite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64, String

OURS = "millrace.features.feast_offline_store.LakeOfflineStore"
INSTANT = pa.timestamp("us", "UTC")
# An hour before clocks in New York go back: wall times from here on occur twice.
START = datetime(2013, 11, 3, 5, tzinfo=UTC)
STEP = timedelta(minutes=30)
TTL_STEPS = {"one": 3, "two": 0, "none": 4}
FACTS = pa.schema(
    [("k", pa.string()), ("number", pa.int64()), ("at", INSTANT), ("made", INSTANT), ("v_", pa.float64()),
     ("w", pa.string())]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact, with times in steps since `START`."""

    k: str | None
    number: int | None
    at: int
    made: int | None
    v: float | None
    w: str | None


def moment(steps: int) -> datetime:
    return START + steps * STEP


def write_facts(path: Path, facts: list[Fact]) -> None:
    columns = {
        "k": [fact.k for fact in facts],
        "number": [fact.number for fact in facts],
        "at": [moment(fact.at) for fact in facts],
        "made": [None if fact.made is None else moment(fact.made) for fact in facts],
        "v_": [fact.v for fact in facts],
        "w": [fact.w for fact in facts],
    }
    arrays = [pa.array(columns[field.name], field.type, from_pandas=False) for field in FACTS]
    pq.write_table(pa.table(arrays, schema=FACTS), path)


def views(folder: Path) -> list[Any]:
    """Entities and the views `one` (by k), `two` (by k and number) and `none`, on one file of facts each."""
    k = Entity(name="k", join_keys=["k"], value_type=ValueType.STRING)
    number = Entity(name="number", join_keys=["number"], value_type=ValueType.INT64)
    made = []
    for name, entities in (("one", [k]), ("two", [k, number]), ("none", [])):
        source = FileSource(
            path=str(folder / f"{name}.parquet"),
            timestamp_field="at",
            created_timestamp_column="made",
            field_mapping={"v_": "v"},
        )
        kinds = {"k": String, "number": Int64}
        made.append(
            FeatureView(
                name=name,
                entities=entities,
                schema=[
                    *(Field(name=entity.name, dtype=kinds[entity.name]) for entity in entities),
                    Field(name="v", dtype=Float64),
                    Field(name="w", dtype=String),
                ],
                source=source,
                ttl=TTL_STEPS[name] * STEP,
            )
        )
    return [k, number, *made]


def repo(folder: Path, **offline_store: Any) -> FeatureStore:
    """A store on the registry of a folder; ours unless `type` says otherwise."""
    config = RepoConfig(
        project="trial",
        provider="local",
        registry=str(folder / "registry.db"),
        offline_store={"type": OURS, **offline_store},
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        entity_key_serialization_version=3,
        coerce_tz_aware=False,
    )
    config.repo_path = folder
    return FeatureStore(config=config)


def expected(
    facts: list[Fact], view: str, k: str | None, number: int | None, at: int, *, bound: bool
) -> tuple[float | None, str | None]:
    """What a row gets, by looking at every fact."""
    usable = [
        fact
        for fact in facts
        if (view == "none" or (fact.k == k and k is not None))
        and (view != "two" or (fact.number == number and number is not None))
        and fact.at <= at
        and (not bound or fact.made is None or fact.made <= at)
    ]
    best = max(usable, key=_newness, default=None)
    ttl = TTL_STEPS[view]
    if best is None or (ttl and at - best.at > ttl):
        return None, None
    return best.v, best.w


def _newness(fact: Fact) -> tuple[Any, ...]:
    v = (0, 0.0) if fact.v is None else (2, 0.0) if math.isnan(fact.v) else (1, fact.v)
    return fact.at, fact.at if fact.made is None else fact.made, v, (fact.w is not None, fact.w or "")
