"""Writers that meet at one table: each row stands once, whoever wins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from millrace.lake import Table

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
