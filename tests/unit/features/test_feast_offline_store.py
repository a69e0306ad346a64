"""Our offline store on plain Parquet files, where Feast's own rules hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.errors import FeatureError

pytestmark = pytest.mark.integration
NOON = datetime(2013, 3, 10, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    folder = tmp_path_factory.mktemp("repo")
    facts = pd.DataFrame(
        {
            "driver": [1, 1, 1, 2],
            "at": [NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=1), NOON],
            "made": [NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=3), NOON],
            "rate_": [0.1, 0.2, 0.3, float("nan")],
        }
    )
    table = pa.Table.from_pandas(facts, preserve_index=False)
    table = table.set_column(3, "rate_", pa.array([0.1, 0.2, 0.3, float("nan")], pa.float64()))
    pq.write_table(table, folder / "facts.parquet")
    source = FileSource(
        path=str(folder / "facts.parquet"),
        timestamp_field="at",
        created_timestamp_column="made",
        field_mapping={"rate_": "rate"},
    )
    entity = Entity(name="driver", join_keys=["driver"], value_type=ValueType.INT64)
    view = FeatureView(
        name="stats",
        entities=[entity],
        schema=[Field(name="rate", dtype=Float64)],
        source=source,
        ttl=timedelta(hours=2),
    )
    config = RepoConfig(
        project="trial",
        provider="local",
        registry=str(folder / "registry.db"),
        offline_store={"type": "millrace.features.feast_offline_store.LakeOfflineStore"},
        online_store={
            "type": "millrace.features.feast_online_store.PackedOnlineStore",
            "path": str(folder / "online.db"),
        },
        entity_key_serialization_version=3,
    )
    made = FeatureStore(config=config)
    made.apply([entity, view])
    return made


def ask(store: Any, rows: list[tuple[int, datetime]], **options: Any) -> list[float | None]:
    frame = pd.DataFrame({"driver": [row[0] for row in rows], "event_timestamp": [row[1] for row in rows]})
    found = store.get_historical_features(frame, ["stats:rate"], **options).to_arrow()
    assert found.column("driver").to_pylist() == [row[0] for row in rows]
    values: list[float | None] = found.column("rate").to_pylist()
    return values


def test_a_created_timestamp_breaks_ties_and_the_ttl_includes_its_end(store: Any) -> None:
    hours = [0, 1, 3, 3.001]
    asked = [(1, NOON + timedelta(hours=hour)) for hour in hours]
    assert ask(store, asked) == [0.1, 0.3, 0.3, None]
    assert ask(store, [(3, NOON), *asked[:1], *asked[:1]]) == [None, 0.1, 0.1]


def test_filtering_by_the_created_timestamp_hides_what_was_not_known(store: Any) -> None:
    asked = [(1, NOON + timedelta(hours=hour)) for hour in (0, 1, 2.9, 3)]
    assert ask(store, asked, filter_by_created_timestamp=True) == [0.1, 0.2, 0.2, 0.3]


def test_nan_stays_nan_and_other_zones_are_the_same_instant(store: Any) -> None:
    from zoneinfo import ZoneInfo

    (value,) = ask(store, [(2, NOON.astimezone(ZoneInfo("Asia/Tokyo")))])
    assert value is not None
    assert value != value


def test_feasts_local_engine_materializes_files_into_our_online_store(store: Any) -> None:
    store.materialize(NOON - timedelta(hours=1), NOON + timedelta(hours=4))
    answer = store.get_online_features(features=["stats:rate"], entity_rows=[{"driver": 1}, {"driver": 9}]).to_dict()
    assert answer["rate"] == [0.3, None]


def test_a_result_can_be_saved_as_parquet_once(store: Any, tmp_path: Path) -> None:
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    frame = pd.DataFrame({"driver": [1], "event_timestamp": [NOON]})
    job = store.get_historical_features(frame, ["stats:rate"])
    job.persist(SavedDatasetFileStorage(path=str(tmp_path / "saved.parquet")))
    assert pq.read_table(tmp_path / "saved.parquet").column("rate").to_pylist() == [0.1]
    with pytest.raises(FeatureError, match="the file exists"):
        job.persist(SavedDatasetFileStorage(path=str(tmp_path / "saved.parquet")))


def test_entity_frames_without_key_time_or_rows_are_refused(store: Any) -> None:
    with pytest.raises(FeatureError, match="join key 'driver'"):
        store.get_historical_features(pd.DataFrame({"event_timestamp": [NOON]}), ["stats:rate"])
    with pytest.raises(FeatureError, match="no timestamp column"):
        store.get_historical_features(pd.DataFrame({"driver": [1]}), ["stats:rate"])
    with pytest.raises(FeatureError, match="without entity rows"):
        store.get_historical_features(features=["stats:rate"], start_date=NOON, end_date=NOON)


def test_a_query_can_name_the_entity_rows(store: Any) -> None:
    query = "SELECT 1::BIGINT AS driver, TIMESTAMPTZ '2013-03-10 12:00:00+00' AS event_timestamp"
    assert store.get_historical_features(query, ["stats:rate"]).to_arrow().column("rate").to_pylist() == [0.1]
