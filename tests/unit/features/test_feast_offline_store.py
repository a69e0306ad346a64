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
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
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
            "url": str(folder / "online.db"),
        },
        entity_key_serialization_version=3,
        coerce_tz_aware=False,
    )
    made = FeatureStore(config=config)
    made.apply([entity, view, *on_demand(view), FeatureService(name="trial_v1", features=[view, *on_demand(view)])])
    return made


def on_demand(view: Any) -> list[Any]:
    """One view in each mode, of the rate and of what a request brings."""
    from feast import Field, RequestSource
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.types import Float64

    request = RequestSource(name="asked", schema=[Field(name="factor", dtype=Float64)])

    @on_demand_feature_view(sources=[view, request], schema=[Field(name="scaled", dtype=Float64)], mode="pandas")
    def in_pandas(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"scaled": inputs["rate"] * inputs["factor"]})

    @on_demand_feature_view(sources=[view, request], schema=[Field(name="raised", dtype=Float64)], mode="python")
    def in_python(inputs: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(inputs["rate"], inputs["factor"], strict=True)
        return {"raised": [None if rate is None else rate + factor for rate, factor in pairs]}

    return [in_pandas, in_python]


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
    with pytest.raises(FeatureError, match="something is there already"):
        job.persist(SavedDatasetFileStorage(path=str(tmp_path / "saved.parquet")))


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"driver": [1, 3], "event_timestamp": [NOON, NOON], "factor": [10.0, 10.0], **columns})


def test_a_feature_service_brings_on_demand_features_of_both_modes(store: Any) -> None:
    for entities in (frame(), pa.Table.from_pandas(frame(), preserve_index=False)):
        found = store.get_historical_features(entities, store.get_feature_service("trial_v1")).to_df()
        assert found["scaled"].tolist()[0] == 1.0
        assert found["raised"].tolist()[0] == 10.1
        assert found[["scaled", "raised"]].isna().to_numpy()[1].all()


def test_full_names_carry_the_view_and_other_names_the_alias(store: Any) -> None:
    view = store.get_feature_view("stats")
    from feast import FeatureService

    renamed = store.get_feature_view("stats").with_name("first").with_join_key_map({"driver": "lead"})
    entities = frame(lead=[3, 1])
    service = FeatureService(name="both", features=[view.with_name("stats"), renamed])
    store.apply([service])
    found = store.get_historical_features(entities, service, full_feature_names=True).to_arrow()
    assert found.column("stats__rate").to_pylist() == [0.1, None]
    assert found.column("first__rate").to_pylist() == [None, 0.1]


def test_a_range_of_time_gives_every_key_as_of_its_end(store: Any) -> None:
    job = store.get_historical_features(features=["stats:rate"], start_date=NOON, end_date=NOON + timedelta(hours=1))
    found = job.to_arrow().sort_by("driver")
    assert found.column("driver").to_pylist() == [1, 2]
    assert repr(found.column("rate").to_pylist()) == "[0.3, nan]"
    assert set(found.column("event_timestamp").to_pylist()) == {NOON + timedelta(hours=1)}


def test_a_range_of_time_in_which_nothing_happened_has_no_rows_and_one_that_ends_first_is_refused(store: Any) -> None:
    before = {"start_date": NOON - timedelta(days=9), "end_date": NOON - timedelta(days=8)}
    found = store.get_historical_features(features=["stats:rate"], **before).to_arrow()
    assert (found.num_rows, sorted(found.column_names)) == (0, ["driver", "event_timestamp", "rate"])
    with pytest.raises(FeatureError, match="before it starts"):
        store.get_historical_features(
            features=["stats:rate"], start_date=NOON, end_date=NOON - timedelta(days=1)
        ).to_arrow()


def test_a_column_of_the_frame_that_an_on_demand_feature_would_stand_beside_is_refused(store: Any) -> None:
    frame = pd.DataFrame({"driver": [1], "event_timestamp": [NOON], "factor": [2.0], "scaled": [1.0]})
    with pytest.raises(FeatureError, match="'scaled' of on-demand view 'in_pandas' is already a column"):
        store.get_historical_features(frame, ["in_pandas:scaled"])
    found = store.get_historical_features(frame, ["in_pandas:scaled"], full_feature_names=True).to_arrow()
    assert found.column("in_pandas__scaled").to_pylist() == [0.2]


def test_a_key_of_another_width_or_of_floats_is_the_same_key(store: Any) -> None:
    for keys in (pa.array([1, None], pa.int8()), pa.array([1.0, 1.5]), pa.array([1, 2**63], pa.uint64())):
        entities = pa.table({"driver": keys, "event_timestamp": pa.array([NOON, NOON], pa.timestamp("ns", "UTC"))})
        found = store.get_historical_features(entities, ["stats:rate"]).to_arrow()
        assert found.column("rate").to_pylist() == [0.1, None]
        assert found.schema.field("driver").type == keys.type


def test_no_rows_give_no_rows_with_all_columns(store: Any) -> None:
    entities = pa.Table.from_pandas(frame(), preserve_index=False).slice(0, 0)
    found = store.get_historical_features(entities, ["stats:rate"]).to_arrow()
    assert (found.num_rows, found.column_names[-1]) == (0, "rate")


@pytest.mark.parametrize(
    ("entities", "complaint"),
    [
        (pd.DataFrame({"event_timestamp": [NOON]}), "join key 'driver' of view 'stats' is missing"),
        (pd.DataFrame({"driver": [1]}), "no timestamp column"),
        (pd.DataFrame({"driver": [1], "event_timestamp": ["noon"]}), "no timestamp column"),
        (pd.DataFrame({"driver": [1], "event_timestamp": [NOON.replace(tzinfo=None)]}), "without a time zone"),
        (pd.DataFrame({"driver": ["1"], "event_timestamp": [NOON]}), "a text in the entity frame and a whole number"),
        (pd.DataFrame({"driver": [1], "event_timestamp": [NOON], "rate": [0]}), "feature 'rate' .* already a column"),
        (pd.DataFrame({"driver": [1, "x"], "event_timestamp": [NOON, NOON]}), "mixed types"),
        (pd.DataFrame([[1, NOON, 2]], columns=["driver", "event_timestamp", "driver"]), "'driver' more than once"),
        (pd.DataFrame({"driver": [2**70], "event_timestamp": [NOON]}), "numbers beyond 64 bits"),
        (pd.DataFrame({"driver": [1], "event_timestamp": [NOON.date()]}), "'event_timestamp' is date32"),
        (pa.table([[1], [NOON], [NOON]], ["driver", "event_timestamp", "event_timestamp"]), "more than once"),
        ("SELECT 1 AS driver, 2 AS driver, now() AS event_timestamp", "'driver' more than once"),
        ([1], "cannot be a list"),
        ("nowhere/entities", "no entity rows at 'nowhere/entities'"),
        ("SELECT nothing", "query of the entity frame fails"),
        ("SELECT * FROM somewhere", "query of the entity frame fails"),
    ],
)
def test_an_entity_frame_that_cannot_be_used_is_refused_before_any_work(
    store: Any, entities: Any, complaint: str
) -> None:
    with pytest.raises(FeatureError, match=complaint) as refused:
        store.get_historical_features(entities, ["stats:rate"])
    assert refused.value.remedy


def test_views_and_features_that_are_not_there_are_named(store: Any, tmp_path: Path) -> None:
    from feast import Entity, FeatureView, Field, FileSource
    from feast.errors import FeatureViewNotFoundException
    from feast.types import Float64

    with pytest.raises(FeatureViewNotFoundException, match="nothing"):
        store.get_historical_features(frame(), ["nothing:rate"])
    with pytest.raises(Exception, match="speed"):
        store.get_historical_features(frame(), ["stats:speed"])
    with pytest.raises(FeatureError, match="needs column 'factor'"):
        store.get_historical_features(
            pa.table({"driver": [1], "event_timestamp": pa.array([NOON])}), ["in_pandas:scaled"]
        )

    driver = Entity(name="driver", join_keys=["driver"])
    path = store.get_feature_view("stats").batch_source.path
    historical = type(store._get_provider().offline_store).get_historical_features
    for source, complaint in (
        (None, "view 'bare' has no source"),
        (FileSource(path=str(tmp_path / "gone.parquet"), timestamp_field="at"), "cannot be read"),
        (FileSource(path=path), "names no timestamp"),
        (
            FileSource(path=path, timestamp_field="then"),
            "no column 'then'",
        ),
        (FileSource(path=path, timestamp_field="rate_"), "not an instant"),
    ):
        view = FeatureView(name="bare", entities=[driver], schema=[Field(name="rate_", dtype=Float64)], source=source)
        view.entity_columns = [Field(name="driver", dtype=Float64)]
        with pytest.raises(FeatureError, match=complaint) as refused:
            historical(store.config, [view], ["bare:rate_"], frame(), store.registry, "trial")
        assert refused.value.remedy


def test_a_query_can_name_the_entity_rows(store: Any) -> None:
    query = "SELECT 1::BIGINT AS driver, TIMESTAMPTZ '2013-03-10 12:00:00+00' AS event_timestamp"
    assert store.get_historical_features(query, ["stats:rate"]).to_arrow().column("rate").to_pylist() == [0.1]
    ends = query.replace("'2013-03-10 12:00:00+00'", "'infinity'")
    both = f"{query} UNION ALL {ends} UNION ALL {ends.replace('infinity', '-infinity')} -- the ends of time"
    values = store.get_historical_features(both, ["stats:rate"]).to_arrow().column("rate").to_pylist()
    assert values == [0.1, None, None]


def test_a_moment_beyond_what_nanoseconds_hold_still_finds_facts_that_are_kept_in_them(tmp_path: Path) -> None:
    import pyarrow.dataset as pads
    from feast import FileSource

    from millrace.features.feast_scan import scan_source

    pq.write_table(pa.table({"at": pa.array([NOON], pa.timestamp("ns", "UTC"))}), tmp_path / "facts.parquet")
    source = FileSource(path=str(tmp_path / "facts.parquet"), timestamp_field="at")
    ends = (-(2**63), int(datetime(9999, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000)
    scan = scan_source(source, pads.dataset(tmp_path / "facts.parquet"), ["at"], earliest=ends[0], latest=ends[1])
    assert scan.read(["at"]).num_rows == 1
