"""Reading facts of several files: every way of reading numbers them alike."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from feast import FileSource

from millrace.errors import FeatureError, SettingsError
from millrace.features.asof import limit_bytes
from millrace.features.feast_scan import Scan, scan_source

INSTANT = pa.timestamp("us", "UTC")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """Five files of 40 rows in groups of 7, of which the facts from minute 10 to 150 are meant."""
    folder = tmp_path_factory.mktemp("facts")
    for index in range(5):
        first = index * 40
        at = pa.array(range(first, first + 40), pa.int64()).cast(INSTANT)
        rows = pa.table({"at": at, "value": pa.array(range(first, first + 40), pa.int32())})
        pq.write_table(rows, folder / f"{9 - index}.parquet", row_group_size=7)
    source = FileSource(path=str(folder), timestamp_field="at")
    return scan_source(source, pads.dataset(folder, format="parquet"), ["value"], earliest=10, latest=150)


def test_a_stream_and_a_table_hold_the_same_facts_in_one_order(scan: Scan) -> None:
    table = scan.read(["value"])
    batches = list(scan.stream(["value"]))
    assert pa.Table.from_batches([batch for _, batch in batches]).combine_chunks().equals(table)
    assert [first for first, _ in batches] == np.cumsum([0, *(batch.num_rows for _, batch in batches)])[:-1].tolist()
    assert sorted(table.column("value").to_pylist()) == list(range(10, 151))
    assert scan.rows_at_most() >= table.num_rows


@pytest.mark.parametrize("numbers", [[], [0], [140], [3, 4, 90, 91, 139], list(range(141))])
def test_facts_are_found_again_by_their_numbers(scan: Scan, numbers: list[int]) -> None:
    table = scan.read(["value"])
    for _ in range(2):  # before and after the rows of each file are known
        assert scan.gather(["value"], np.array(numbers, np.int64)).equals(table.take(pa.array(numbers, pa.int64())))
        list(scan.stream(["value"]))


def test_facts_come_in_the_order_they_are_asked_for(scan: Scan) -> None:
    numbers = np.array([90, 3, 3, 140, 0])
    assert scan.take(["value"], numbers).equals(scan.read(["value"]).take(numbers))


def test_a_column_that_is_not_there_is_named(scan: Scan) -> None:
    source = FileSource(path="facts", timestamp_field="at")
    with pytest.raises(FeatureError, match="no column 'speed'"):
        scan_source(source, scan.dataset, ["speed"])


def test_a_memory_limit_is_a_number_and_a_unit() -> None:
    assert (limit_bytes("2GB"), limit_bytes("1.5 MB")) == (2_000_000_000, 1_500_000)
    with pytest.raises(SettingsError, match="'much' is no size"):
        limit_bytes("much")
