"""Every lake passes this suite, wherever its tables lie."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pytest
from tests.contract.object_store import bucket
from tests.unit.shop import ROWS as ROWS_OF_ORDERS
from tests.unit.shop import make_domain, write_orders

from millrace.errors import LakeError
from millrace.lake import Table
from millrace.lake.staging import StagedFile, StagedWriter
from millrace.settings import Settings
from millrace.step.ingestion import ingest_partition
from millrace.step.replay import replay
from millrace.step.validation import count_rows, validate_partition

ROWS = pa.table({"a": [3, 1, 2], "b": ["x", None, "ü"], "at": pa.array([1, 2, None], pa.timestamp("us", "UTC"))})


@pytest.fixture(scope="module")
def store() -> Iterator[Mapping[str, str]]:
    with bucket() as found:
        yield found


@pytest.fixture(params=["folder", "file", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        return str(tmp_path / "a lake")
    if request.param == "file":
        return f"file://{tmp_path}/lake"
    environment: Mapping[str, str] = request.getfixturevalue("store")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://lake/{uuid.uuid4().hex}"


def stage(rows: pa.Table, folder: Path) -> StagedFile:
    with StagedWriter(folder / f"{uuid.uuid4().hex}.parquet", rows.schema) as writer:
        for batch in rows.to_batches():
            writer.write(batch)
        return writer.close()


def test_a_staged_file_becomes_the_partition_in_one_commit(lake: str, tmp_path: Path) -> None:
    table = Table(lake, "shop/raw/orders")
    first = table.replace_file(stage(ROWS, tmp_path), partition="2020-01", note={"stamp": "s"})
    other = table.replace_file(stage(ROWS.slice(1), tmp_path), partition="2020-02")
    again = table.replace_file(stage(ROWS.slice(2), tmp_path), partition="2020-01")
    assert (first.rows, first.changed, other.rows, again.rows) == (3, True, 2, 1)
    assert [first.version, other.version, again.version] == [1, 2, 3]
    assert table.read(partitions=["2020-01"]).select(ROWS.schema.names).equals(ROWS.slice(2).combine_chunks())
    assert table.read(version=first.version, partitions=["2020-01"])["a"].to_pylist() == [3, 1, 2]
    assert table.partitions() == ["2020-01", "2020-02"]
    assert int(table.open().count()) == 3


def test_equal_content_commits_nothing_and_leaves_no_file(lake: str, tmp_path: Path) -> None:
    table = Table(lake, "orders")
    first = table.replace_file(stage(ROWS, tmp_path), partition="2020-01", note={"stamp": "s"})
    again = table.replace_file(stage(ROWS, tmp_path), partition="2020-01", note={"stamp": "t"})
    assert again.digest == first.digest
    assert (again.version, again.changed) == (first.version, False)
    assert len(table.files()) == 1
    found = table.note("2020-01")
    assert found is not None
    assert found[1] == {"stamp": "s"}
    assert table.note("2020-02") is None


def test_rows_by_table_and_by_file_have_one_digest(lake: str, tmp_path: Path) -> None:
    table = Table(lake, "orders")
    first = table.replace(ROWS, partition="2020-01")
    assert not table.replace_file(stage(ROWS, tmp_path), partition="2020-01").changed
    assert first.digest == stage(ROWS, tmp_path).digest


@pytest.mark.parametrize("partition", ["", "2020-01"])
def test_a_partition_can_become_empty_and_full_again(lake: str, tmp_path: Path, partition: str) -> None:
    table = Table(lake, "orders")
    table.replace_file(stage(ROWS, tmp_path), partition=partition)
    assert table.replace_file(stage(ROWS.slice(0, 0), tmp_path), partition=partition).rows == 0
    assert table.read().num_rows == 0
    assert table.replace_file(stage(ROWS, tmp_path), partition=partition).changed
    assert sorted(table.read()["a"].to_pylist()) == [1, 2, 3]


def test_fetched_files_hold_the_rows_of_a_snapshot(lake: str, tmp_path: Path) -> None:
    from pyarrow import parquet

    table = Table(lake, "orders")
    first = table.replace_file(stage(ROWS, tmp_path), partition="2020-01")
    table.replace_file(stage(ROWS.slice(1), tmp_path), partition="2020-01")
    into = tmp_path / "into"
    into.mkdir()
    (path,) = table.fetch(into, version=first.version, partitions=["2020-01"])
    assert parquet.ParquetFile(path).read().equals(ROWS)
    assert table.fetch(into, partitions=["2021-01"]) == []


def test_an_added_column_is_null_in_older_partitions(lake: str, tmp_path: Path) -> None:
    table = Table(lake, "orders")
    table.replace_file(stage(ROWS, tmp_path), partition="2020-01")
    wider = ROWS.append_column("c", pa.array([1.5, 2.5, None]))
    table.replace_file(stage(wider, tmp_path), partition="2020-02", evolve=True)
    assert table.read(partitions=["2020-01"])["c"].to_pylist() == [None] * 3
    assert table.read(partitions=["2020-02"])["c"].to_pylist() == [1.5, 2.5, None]


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (ROWS.drop_columns(["b"]), "'b' is missing"),
        (ROWS.set_column(0, "a", pa.array([1.0, 2.0, 3.0])), "'a' is long there and double here"),
    ],
)
def test_a_dropped_or_retyped_column_is_refused_with_the_difference(
    lake: str, tmp_path: Path, changed: pa.Table, difference: str
) -> None:
    table = Table(lake, "orders")
    before = table.replace_file(stage(ROWS, tmp_path), partition="2020-01")
    with pytest.raises(LakeError, match=difference):
        table.replace_file(stage(changed, tmp_path), partition="2020-02", evolve=True)
    with pytest.raises(LakeError, match="'c' is new"):
        table.replace_file(stage(ROWS.append_column("c", ROWS["a"]), tmp_path), partition="2020-02")
    assert table.version() == before.version
    assert len(table.files()) == 1


def test_a_column_that_is_said_to_be_dropped_stays_in_older_partitions_and_is_null_in_later_ones(
    lake: str, tmp_path: Path
) -> None:
    table = Table(lake, "orders")
    table.replace_file(stage(ROWS, tmp_path), partition="2020-01")
    narrow = ROWS.drop_columns(["b"])
    table.prepare(narrow.schema, partitioned=True, dropped=["b", "never there"])
    table.replace_file(stage(narrow, tmp_path), partition="2020-02", evolve=True, dropped=["b"])
    assert table.read(partitions=["2020-01"])["b"].equals(ROWS["b"])
    assert table.read(partitions=["2020-02"])["b"].to_pylist() == [None] * 3
    assert table.read(partitions=["2020-02"])["a"].equals(ROWS["a"])


def replace_in_turn(lake: str, folder: str, partition: str, rows: list[int]) -> None:
    """What one of several writing processes does."""
    table = Table(lake, "orders")
    table.replace_file(stage(pa.table({"a": rows}), Path(folder)), partition=partition)


def test_processes_that_replace_at_once_leave_each_partition_once(lake: str, tmp_path: Path) -> None:
    jobs = [("2020-01", [1, 2, 3]), ("2020-01", [1, 2, 3]), ("2020-02", [4]), ("2020-03", [5, 6])]
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(replace_in_turn, lake, str(tmp_path), *job) for job in jobs]:
            done.result()
    table = Table(lake, "orders")
    found = table.read().sort_by("a").to_pydict()
    assert found == {"a": [1, 2, 3, 4, 5, 6], "partition": ["2020-01"] * 3 + ["2020-02"] + ["2020-03"] * 2}


AMOUNT = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "amount", "min_value": 0, "max_value": 35},
    "on_failure": "quarantine",
    "id": "amount",
}


def test_a_partition_goes_from_source_to_clean_rows_and_back_from_quarantine(
    lake: str, tmp_path: Path, settings: Settings
) -> None:
    here = dataclasses.replace(settings, lake=lake)
    path = write_orders(tmp_path, ROWS_OF_ORDERS + "x,2020-01,eve,1,2020-01-09T00:00:00Z\n")
    domain = make_domain(path, contract=[AMOUNT], derive={"double": "amount * 2"})
    taken = ingest_partition(domain, "orders", "2020-01", settings=here)
    assert (taken.rows, taken.rows_rejected) == (3, 1)
    found = validate_partition(domain, "orders", "2020-01", settings=here)
    assert (found.rows_in, found.rows_clean, found.rows_quarantined) == (4, 2, 2)
    merged = replay(
        domain, "orders", settings=here, reasons=["amount"], action="waive", by="ann", reason="they are right"
    )
    assert merged.to_dict()["merged"] == 1
    assert count_rows(domain, "orders", settings=here) == {"source": 4, "clean": 3, "quarantined": 1}
    again = ingest_partition(domain, "orders", "2020-01", settings=here)
    assert (again.raw.version, again.changed) == (taken.raw.version, False)
    after = validate_partition(domain, "orders", "2020-01", settings=here)
    assert (after.rows_clean, after.clean.changed) == (3, False)
    rows = Table(lake, "shop/clean/orders").read().sort_by("order").to_pydict()
    assert (rows["order"], rows["double"]) == ([1, 2, 4], [21.0, None, 80.0])
