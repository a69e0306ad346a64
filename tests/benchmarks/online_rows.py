"""What the benchmarks of online stores write and read: entities with eight numbers each, by Feast, by us, and raw."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NOON = datetime(2013, 3, 10, 12, tzinfo=UTC)
START, END = NOON - timedelta(days=1), NOON
FEATURES = [f"f{number}" for number in range(8)]
REFS = [f"stats:{name}" for name in FEATURES]
OURS = {"type": "millrace.features.feast_online_store.PackedOnlineStore"}
_RAW_ROW = struct.Struct("<8d")
_RAW_STAMP = struct.Struct(">q")
_UPSERT = (
    "INSERT INTO raw VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET at = excluded.at, row = excluded.row "
    "WHERE excluded.at >= raw.at"
)
_CHUNK = 5_000


def write_facts(path: Path, entities: int) -> None:
    """A Parquet file with one fact an entity, in no order."""
    random = np.random.default_rng(7)
    at = int(NOON.timestamp() * 1e6) - random.integers(1, 3_600_000_000, entities)
    columns = {"driver": pa.array(random.permutation(entities), pa.int64())}
    columns["at"] = pa.array(at, pa.int64()).cast(pa.timestamp("us", "UTC"))
    columns |= {name: pa.array(random.normal(size=entities)) for name in FEATURES}
    pq.write_table(pa.table(columns), path)


def open_repo(folder: Path, facts: Path, online: dict[str, Any], *, ours: bool) -> Any:
    """A feature store on the facts: as Feast ships it, or with what is ours."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    folder.mkdir(parents=True, exist_ok=True)
    driver = Entity(name="driver", join_keys=["driver"], value_type=ValueType.INT64)
    stats = FeatureView(
        name="stats",
        entities=[driver],
        ttl=timedelta(days=7),
        schema=[Field(name=name, dtype=Float64) for name in FEATURES],
        source=FileSource(name="facts", path=str(facts), timestamp_field="at"),
    )
    offline = "millrace.features.feast_offline_store.LakeOfflineStore" if ours else "duckdb"
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / "registry.db"),
        offline_store={"type": offline},
        online_store=online,
        batch_engine={"type": "millrace.features.feast_engine.ColumnarEngine" if ours else "local"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    store.apply([driver, stats])
    return store


def sums(rows: Iterable[Sequence[float]]) -> list[float]:
    """What was read, in short: a sum a feature, the same whatever wrote it."""
    return [round(float(value), 9) for value in np.asarray(list(rows), dtype="<f8").sum(axis=0)]


def ask_feast(store: Any, drivers: Sequence[int]) -> list[Sequence[float]]:
    """Rows by Feast's SDK."""
    answer = store.get_online_features(REFS, [{"driver": driver} for driver in drivers]).to_dict()
    return list(zip(*(answer[name] for name in FEATURES), strict=True))


def raw_rows(facts: Path) -> Iterator[tuple[bytes, int, bytes]]:
    """Key, instant and packed values of each fact."""
    table = pq.read_table(facts)
    keys = [key.to_bytes(8, "little") for key in table.column("driver").to_pylist()]
    at = table.column("at").cast(pa.int64()).to_pylist()
    values = zip(*(table.column(name).to_pylist() for name in FEATURES), strict=True)
    return zip(keys, at, (_RAW_ROW.pack(*row) for row in values), strict=True)


def write_raw_sqlite(path: Path, facts: Path) -> None:
    """The least that writes the facts into SQLite so that a newer one wins."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE IF NOT EXISTS raw (key BLOB PRIMARY KEY, at INTEGER, row BLOB) WITHOUT ROWID")
        connection.execute("BEGIN")
        connection.executemany(_UPSERT, raw_rows(facts))
        connection.execute("COMMIT")
    connection.close()


def read_raw_sqlite(connection: sqlite3.Connection, drivers: Sequence[int]) -> list[Sequence[float]]:
    """The least that reads them."""
    sql = "SELECT row FROM raw WHERE key = ?"
    found = (connection.execute(sql, (driver.to_bytes(8, "little"),)).fetchone() for driver in drivers)
    return [_RAW_ROW.unpack(row[0]) for row in found]


def write_raw_redis(client: Any, facts: Path) -> None:
    """The least that writes the facts into Redis; an older one may overwrite a newer."""
    rows = raw_rows(facts)
    while piece := {b"raw:" + key: _RAW_STAMP.pack(at) + row for key, at, row in islice(rows, _CHUNK)}:
        client.mset(piece)


def read_raw_redis(client: Any, drivers: Sequence[int]) -> list[Sequence[float]]:
    """The least that reads them."""
    found = client.mget([b"raw:" + driver.to_bytes(8, "little") for driver in drivers])
    return [_RAW_ROW.unpack_from(row, _RAW_STAMP.size) for row in found]
