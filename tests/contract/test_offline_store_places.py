"""Our offline store where data lie elsewhere: Parquet and Delta, on disk and on S3, read, pushed to and saved to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from feast.data_format import DeltaFormat, ParquetFormat
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from tests.contract.object_store import bucket
from tests.contract.offline_stores import FACTS, Fact, moment, repo, write_facts

from millrace.errors import FeatureError

pytestmark = pytest.mark.integration
HELD = [Fact("a", 1, 0, 0, 0.5, "x"), Fact("a", 1, 2, 2, float("nan"), None), Fact("b", 2, 1, 1, None, "y")]
WANTED = [0.5, "nan", None, None]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket, found by the environment as in an installation."""
    with bucket("features") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment["AWS_ENDPOINT_URL"]


def source(kind: str, root: str, endpoint: str = "") -> Any:
    from feast import FileSource

    path = f"{root}/facts" if kind != "file" else f"{root}/facts.parquet"
    return FileSource(
        path=path,
        file_format=DeltaFormat() if kind == "delta" else ParquetFormat(),
        timestamp_field="at",
        created_timestamp_column="made",
        field_mapping={"v_": "v"},
        s3_endpoint_override=endpoint or None,
    )


def put(kind: str, root: str, endpoint: str, scratch: Path) -> None:
    """Place the facts at a source, with the libraries alone."""
    write_facts(scratch / "held.parquet", HELD)
    table = pq.read_table(scratch / "held.parquet")
    if kind == "delta":
        from deltalake import write_deltalake

        write_deltalake(f"{root}/facts", table)
        return
    files, path = (None, root)
    if endpoint:
        from pyarrow.fs import S3FileSystem

        files, path = S3FileSystem(endpoint_override=endpoint), root.removeprefix("s3://")
    if kind == "file":
        pq.write_table(table, f"{path}/facts.parquet", filesystem=files)
    else:
        pads.write_dataset(table, f"{path}/facts", filesystem=files, format="parquet")


def store_on(kind: str, root: str, endpoint: str, folder: Path) -> Any:
    from feast import Entity, FeatureView, Field, PushSource, ValueType
    from feast.types import Float64, String

    k = Entity(name="k", join_keys=["k"], value_type=ValueType.STRING)
    view = FeatureView(
        name="one",
        entities=[k],
        schema=[Field(name="k", dtype=String), Field(name="v", dtype=Float64), Field(name="w", dtype=String)],
        source=PushSource(name="pushed", batch_source=source(kind, root, endpoint)),
    )
    store = repo(folder, lake=str(folder / "lake"))
    store.apply([k, view])
    return store


def ask(store: Any, rows: list[tuple[str, int]]) -> Any:
    frame = pa.table(
        {
            "k": [k for k, _ in rows],
            "event_timestamp": pa.array([moment(at) for _, at in rows], pa.timestamp("us", "UTC")),
        }
    )
    return store.get_historical_features(frame, ["one:v", "one:w"])


def told(found: Any) -> list[Any]:
    return ["nan" if value != value else value for value in found.to_pylist()]


ROWS = [("a", 1), ("a", 2), ("b", 1), ("c", 5)]


@pytest.mark.parametrize("kind", ["file", "folder", "delta"])
@pytest.mark.parametrize("place", ["disk", "s3"])
def test_facts_are_read_pushed_and_saved_wherever_they_lie(
    kind: str, place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    endpoint = request.getfixturevalue("s3") if place == "s3" else ""
    root = f"s3://features/{kind}" if endpoint else str(tmp_path)
    put(kind, root, endpoint, tmp_path)
    store = store_on(kind, root, endpoint, tmp_path)
    assert told(ask(store, ROWS).to_arrow().column("v")) == WANTED

    more = pd.DataFrame(
        {"w": ["new"], "k": ["c"], "number": [7], "v_": [2.5], "at": [moment(4)], "made": [moment(4)]}
    ).astype({"at": "datetime64[us, UTC]", "made": "datetime64[us, UTC]"})
    store.write_to_offline_store("one", more)
    store.write_to_offline_store("one", more.assign(k="d"))
    found = ask(store, [*ROWS, ("d", 9)]).to_arrow()
    assert told(found.column("v")) == [*WANTED[:3], 2.5, 2.5]
    assert found.column("w").to_pylist() == ["x", None, "y", "new", "new"]

    saved = SavedDatasetFileStorage(
        path=f"{root}/saved" + (".parquet" if kind == "file" else ""),
        file_format=DeltaFormat() if kind == "delta" else ParquetFormat(),
        s3_endpoint_override=endpoint or None,
    )
    dataset = store.create_saved_dataset(ask(store, ROWS), "training", saved)
    assert sorted(map(str, told(dataset.to_arrow().column("v")))) == ["0.5", "2.5", "None", "nan"]
    with pytest.raises(FeatureError, match="something is there already"):
        store.create_saved_dataset(ask(store, ROWS), "training", saved)
    store.create_saved_dataset(ask(store, ROWS[:2]), "training", saved, allow_overwrite=True)
    assert store.get_saved_dataset("training").to_arrow().num_rows == 2


def test_facts_with_other_columns_or_types_are_not_pushed(tmp_path: Path) -> None:
    put("file", str(tmp_path), "", tmp_path)
    store = store_on("file", str(tmp_path), "", tmp_path)
    view = store.get_feature_view("one")
    push = store._get_provider().offline_write_batch
    rows, held = pq.read_table(tmp_path / "facts.parquet"), (tmp_path / "facts.parquet").read_bytes()
    with pytest.raises(FeatureError, match=r"(?s)other columns.*missing: w; unknown: extra"):
        push(store.config, view, rows.drop_columns(["w"]).append_column("extra", rows.column("w")), None)
    with pytest.raises(FeatureError, match="do not fit"):
        push(store.config, view, rows.set_column(1, "number", pa.array(["x", "y", "z"])), None)
    assert (tmp_path / "facts.parquet").read_bytes() == held


def test_a_writable_table_of_the_lake_takes_the_same_facts_once(tmp_path: Path) -> None:
    from feast import Entity, FeatureView, Field, ValueType
    from feast.types import Float64

    from millrace.features.feast_source import LakeSource
    from millrace.lake import Table

    k = Entity(name="k", join_keys=["k"], value_type=ValueType.STRING)
    source = LakeSource(table="clicks/pushed", timestamp_field="at", created_timestamp_column="made", writable=True)
    schema = [Field(name="v_", dtype=Float64)]
    store = repo(tmp_path, lake=str(tmp_path / "lake"))
    store.apply([k, FeatureView(name="one", entities=[k], schema=schema, source=source)])
    Table(str(tmp_path / "lake"), "clicks/pushed").prepare(FACTS, partitioned=True)
    write_facts(tmp_path / "held.parquet", [*HELD, Fact("c", 1, 3000, 3001, 4.0, "z")])
    rows = pq.read_table(tmp_path / "held.parquet").to_pandas()
    store.write_to_offline_store("one", rows)
    store.write_to_offline_store("one", rows)
    assert Table(str(tmp_path / "lake"), "clicks/pushed").read().num_rows == 4
    assert Table(str(tmp_path / "lake"), "clicks/pushed").partitions() == ["2013-11", "2014-01"]
    frame = pa.table({"k": ["c", "c"], "event_timestamp": pa.array([moment(3000), moment(3001)])})
    frame = frame.set_column(1, "event_timestamp", frame.column(1).cast(pa.timestamp("us", "UTC")))
    assert store.get_historical_features(frame, ["one:v_"]).to_arrow().column("v_").to_pylist() == [None, 4.0]


def test_a_computed_table_is_not_written_through_feast(tmp_path: Path) -> None:
    from feast import FeatureView

    from millrace.features.feast_source import LakeSource

    view = FeatureView(name="delays", source=LakeSource(table="flights/features/delays"), schema=[], entities=[])
    with pytest.raises(FeatureError, match=r"(?s)computed of clean data.*run the domain's data DAG"):
        repo(tmp_path)._get_provider().offline_write_batch(repo(tmp_path).config, view, pa.table({"v": [1]}), None)


@pytest.mark.parametrize("form", ["lake table", "delta path", "parquet path", "sql", "dataset", "delta table"])
def test_an_entity_frame_may_be_a_reference(form: str, tmp_path: Path) -> None:
    from deltalake import DeltaTable, write_deltalake

    from millrace.lake import Table

    put("file", str(tmp_path), "", tmp_path)
    store = store_on("file", str(tmp_path), "", tmp_path)
    frame = pa.table({"k": [k for k, _ in ROWS], "event_timestamp": pa.array([moment(at) for _, at in ROWS])})
    frame = frame.set_column(1, "event_timestamp", frame.column(1).cast(pa.timestamp("us", "UTC")))
    Table(str(tmp_path / "lake"), "case/entities").replace(frame, partition="")
    write_deltalake(str(tmp_path / "frame"), frame)
    pq.write_table(frame, tmp_path / "frame.parquet")
    given: dict[str, Any] = {
        "lake table": "case/entities",
        "delta path": str(tmp_path / "frame"),
        "parquet path": str(tmp_path / "frame.parquet"),
        "sql": 'SELECT * FROM "case/entities"',
        "dataset": pads.dataset(tmp_path / "frame.parquet"),
        "delta table": DeltaTable(str(tmp_path / "frame")),
    }
    job = store.get_historical_features(given[form], ["one:v", "one:w"])
    assert told(job.to_arrow().column("v")) == WANTED
    job.persist(SavedDatasetFileStorage(path=str(tmp_path / "saved.parquet")))
    assert pq.read_table(tmp_path / "saved.parquet").column("k").to_pylist() == ["a", "a", "b", "c"]
