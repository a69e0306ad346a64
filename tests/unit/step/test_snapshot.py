from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from tests.unit.shop import make_domain, write_orders
from tests.unit.step import store as stores
from tests.unit.step.store import Store

from millrace.lake import Table
from millrace.settings import Settings
from millrace.step.features import build_features
from millrace.step.ingestion import PLACES, ingest_partition
from millrace.step.snapshot import Snapshots, clean_versions, unique


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Store:
    made = stores.make(tmp_path / "store", settings)
    made.clean()
    return made


def behind(store: Store, version: int, through: str = "2020-03") -> list[tuple[str, int]]:
    found = Snapshots(store.domain, store.settings).behind_features("spending", version, through)
    return [(item.partition, item.clean.version) for item in unique(list(found))]


def test_a_raw_write_notes_the_files_it_was_read_from(tmp_path: Path, settings: Settings) -> None:
    path = write_orders(tmp_path)
    domain = make_domain(path)
    raw = ingest_partition(domain, "orders", "2020-01", settings=settings).raw
    found = Table(settings.lake, raw.table).note("2020-01")
    assert found is not None
    assert found[1][PLACES] == str(path)


def test_features_note_the_version_of_the_clean_rows_they_are_made_of(store: Store) -> None:
    ref = build_features(store.domain, "2020-02", settings=store.settings)[0]
    (write,) = Table(store.settings.lake, ref.table).writes()
    assert (write.ref.version, clean_versions(write.notes)) == (ref.version, {"orders": 2})


def test_a_later_write_of_the_clean_rows_is_not_behind_earlier_features(store: Store) -> None:
    store.table(look_back_days=40)
    first = build_features(store.domain, "2020-02", settings=store.settings)[0]
    table = Table(store.settings.lake, "store/clean/orders")
    changed = table.read(partitions=["2020-02"]).drop_columns(["partition"]).slice(1)
    table.replace(changed, partition="2020-02")
    assert behind(store, first.version) == [("2020-01", 1), ("2020-02", 2)]
    second = build_features(store.domain, "2020-02", settings=store.settings)[0]
    assert second.version > first.version
    assert behind(store, second.version) == [("2020-01", 1), ("2020-02", 4)]
    assert behind(store, first.version) == [("2020-01", 1), ("2020-02", 2)]
    assert behind(store, second.version, "2020-01") == []


def test_clean_rows_lead_back_to_the_raw_snapshot_that_their_writer_notes(store: Store) -> None:
    lake = store.settings.lake
    raw = Table(lake, "store/raw/orders")
    for value in (1, 2):
        raw.replace(pa.table({"order": [value]}), partition="2020-04", note={PLACES: f"/in/{value}.csv"})
    Table(lake, "store/clean/orders").replace(
        Table(lake, "store/clean/orders").read(partitions=["2020-01"]).drop_columns(["partition"]),
        partition="2020-04",
        note={"raw": "1"},
    )
    found = Snapshots(store.domain, store.settings).source_partition("orders", "2020-04")
    assert found is not None
    assert found.raw is not None
    assert (found.raw.version, found.places) == (1, ["/in/1.csv"])


def test_rows_whose_writer_notes_nothing_are_shown_without_raw_rows(store: Store) -> None:
    found = Snapshots(store.domain, store.settings).source_partition("orders", "2020-01")
    assert found is not None
    assert (found.raw, found.places) == (None, [])
    assert Snapshots(store.domain, store.settings).source_partition("orders", "2020-09") is None
