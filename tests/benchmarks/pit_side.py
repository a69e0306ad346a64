"""One side of a point-in-time join in a process of its own: `python -m tests.benchmarks.pit_side SIDE FOLDER FRAME`.

SIDE is ours or feast (Feast's duckdb store), both through Feast's API, or polars or duckdb, the raw engines. FRAME is
how the entity frame is given: pandas, arrow, or reference with a result that is saved. The folder holds
`entities.parquet` with a column `row`, `views.json` (name → key, TTL in hours) and a file of facts a view; each of its
further columns is a feature.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.process import peak_mb

OURS = "millrace.features.feast_offline_store.LakeOfflineStore"
Views = dict[str, tuple[str, int]]


def features(folder: Path, views: Views) -> dict[str, list[str]]:
    """Feature columns of each view."""
    schemas = {name: pq.read_schema(folder / f"{name}.parquet").names for name in views}
    return {name: [column for column in schemas[name] if column not in {key, "event_timestamp"}]
            for name, (key, _) in views.items()}  # fmt: skip


def through_feast(folder: Path, views: Views, kind: str, scratch: Path) -> Callable[[Any], Any]:
    """A retrieval job of Feast for an entity frame."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64, Int64

    wanted = features(folder, views)
    entities = {key: Entity(name=key, value_type=ValueType.STRING) for key, _ in views.values()}
    made = []
    for name, (key, ttl) in views.items():
        path = folder / f"{name}.parquet"
        kinds = pq.read_schema(path)
        schema = [Field(name=column, dtype=Int64 if kinds.field(column).type == pa.int64() else Float64)
                  for column in wanted[name]]  # fmt: skip
        source = FileSource(path=str(path), timestamp_field="event_timestamp")
        made.append(FeatureView(name=name, entities=[entities[key]], schema=schema, source=source,
                                ttl=timedelta(hours=ttl)))  # fmt: skip
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(scratch / "registry.db"),
            offline_store={"type": "duckdb"} if kind == "feast" else {"type": OURS, "lake": str(scratch / "lake")},
            online_store={"type": "sqlite", "path": str(scratch / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    store.apply([*entities.values(), *made])
    refs = [f"{name}:{column}" for name, columns in wanted.items() for column in columns]
    return lambda frame: store.get_historical_features(frame, refs)


def through_polars(folder: Path, views: Views) -> Callable[[Any], pa.Table]:
    """The same in polars."""
    import polars as pl

    def join(frame: pa.Table) -> pa.Table:
        rows = pl.from_arrow(frame).sort("event_timestamp")
        for name, (key, ttl) in views.items():
            facts = pl.read_parquet(folder / f"{name}.parquet").sort("event_timestamp")
            rows = rows.join_asof(facts, on="event_timestamp", by=key, tolerance=f"{ttl}h", check_sortedness=False)
        return rows.sort("row").to_arrow()

    return join


def through_duckdb(folder: Path, views: Views) -> Callable[[Any], pa.Table]:
    """The same in DuckDB."""
    import duckdb

    wanted = features(folder, views)

    def join(frame: pa.Table) -> pa.Table:
        connection = duckdb.connect(config={"threads": 2})
        connection.register("entities", frame)
        columns, joins = ["entities.*"], []
        for name, (key, ttl) in views.items():
            fresh = f"epoch_us(entities.event_timestamp) - epoch_us({name}.event_timestamp) <= {ttl * 3_600_000_000}"
            columns += [f"CASE WHEN {fresh} THEN {name}.{column} END AS {column}" for column in wanted[name]]
            joins.append(f"ASOF LEFT JOIN '{folder}/{name}.parquet' AS {name} ON entities.{key} = {name}.{key} "
                         f"AND entities.event_timestamp >= {name}.event_timestamp")  # fmt: skip
        query = f"SELECT {', '.join(columns)} FROM entities {' '.join(joins)} ORDER BY row"
        return connection.sql(query).to_arrow_table()

    return join


def digest(table: pa.Table, names: list[str]) -> str:
    """Of every value of the features, by row; the order of a result is not what is compared."""
    from millrace.lake.digest import content_digest

    table = table.sort_by("row")
    return content_digest(pa.table([table.column(name).cast(pa.float64()) for name in names], names=names))


def measure(side: str, folder: Path, given: str, scratch: Path) -> dict[str, Any]:
    """Seconds, CPU seconds (user_s: outside the kernel) and peak memory of one join, after one of a thousand rows."""
    views = {name: tuple(view) for name, view in orjson.loads((folder / "views.json").read_bytes()).items()}
    names = [column for columns in features(folder, views).values() for column in columns]
    path = folder / "entities.parquet"
    job: Any = None
    if side in {"ours", "feast"}:
        job = through_feast(folder, views, side, scratch)
        run = lambda frame: job(frame).to_arrow()  # noqa: E731
    else:
        run = {"polars": through_polars, "duckdb": through_duckdb}[side](folder, views)
    sample = next(pq.ParquetFile(path).iter_batches(1000))
    run(sample.to_pandas() if side == "feast" else pa.Table.from_batches([sample]))
    base = peak_mb()
    if given == "reference":
        from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

        started, used, user = time.perf_counter(), time.process_time(), _user_s()
        job(str(path)).persist(SavedDatasetFileStorage(path=str(scratch / "saved.parquet")))
        seconds, cpu_s, user_s = time.perf_counter() - started, time.process_time() - used, _user_s() - user
        peak = peak_mb() - base
        rows = pq.read_metadata(scratch / "saved.parquet").num_rows
        return {
            "seconds": seconds, "cpu_s": cpu_s, "user_s": user_s, "peak_mb": peak, "rows": rows, "digest": "",
        }  # fmt: skip
    frame = pq.read_table(path)
    if given == "pandas":
        frame = frame.to_pandas()
    started, used, user = time.perf_counter(), time.process_time(), _user_s()
    found = run(frame)
    seconds, cpu_s, user_s = time.perf_counter() - started, time.process_time() - used, _user_s() - user
    peak = peak_mb() - base
    told = digest(found, names) if found.num_rows <= 1_000_000 else ""
    return {
        "seconds": seconds, "cpu_s": cpu_s, "user_s": user_s, "peak_mb": peak, "rows": found.num_rows, "digest": told,
    }  # fmt: skip


def _user_s() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with TemporaryDirectory(prefix="millrace-pit-") as made:
        answer = measure(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(made))
    print(orjson.dumps(answer).decode(), flush=True)
