"""Writers that meet at one table: each row stands once, whoever wins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from millrace.lake import Table, commits

ROWS = pa.table({"a": [1, 2, 3, 4]})


@pytest.mark.parametrize("partition", ["", "2020-02"])
@pytest.mark.parametrize("before", [None, 0, 3], ids=["no table", "no rows", "rows"])
def test_equal_writers_at_once_leave_every_row_once(tmp_path: Path, partition: str, before: int | None) -> None:
    table = Table(str(tmp_path), "table")
    if before is not None:
        table.replace(pa.table({"a": pa.array([9] * before, pa.int64())}), partition=partition)
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(lambda _: table.replace(ROWS, partition=partition), range(5)))
    assert sorted(table.read()["a"].to_pylist()) == [1, 2, 3, 4]
    assert len({item.digest for item in found}) == 1


def test_replacing_a_whole_table_leaves_nothing_of_the_old_rows(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "table")
    table.replace(pa.table({"a": pa.array([None, 1, 2], pa.int64())}))
    table.replace(ROWS)
    assert table.read().equals(ROWS)
    table.replace(ROWS.schema.empty_table())
    assert table.read().num_rows == 0


def test_appenders_with_one_marker_at_once_append_once(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "log")
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: table.append(ROWS, partition="2020-02", marker="m"), range(5)))
    assert table.read().num_rows == 4


def test_a_commit_made_after_a_table_was_opened_does_not_shift_the_versions_of_the_others(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "table")
    first, second = (table.replace(ROWS.slice(n), partition=f"2020-0{n}") for n in (1, 2))
    opened = table.open()
    third = table.replace(ROWS.slice(3), partition="2020-03")
    table.replace(ROWS, partition="2020-02")
    found = {commits.partition_of(commit): commit["version"] for commit in commits.of_partitions(opened)}
    assert found == {"2020-01": first.version, "2020-02": second.version}
    assert third.version == table.newest()["2020-03"].version


def test_references_given_to_writers_at_once_hold_the_rows_they_wrote(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "table")
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: table.replace(pa.table({"a": [n]}), partition=f"2020-{n:02}"), range(1, 13)))
    for ref in found:
        rows = table.read(version=ref.version, partitions=[ref.partition], columns=["a"])
        assert rows["a"].to_pylist() == [int(ref.partition[-2:])], ref
