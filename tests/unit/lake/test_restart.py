"""A table that begins anew with other columns: what was there is gone from what is read now, and from nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from millrace.lake import Table

OLD, NEW = pa.table({"x": [1, 2]}), pa.table({"x": ["a"], "y": [1.0]})


def test_a_restart_empties_the_table_for_new_columns_and_keeps_the_past(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "t")
    for key in ("2020-01", "2020-02"):
        table.replace(OLD, partition=key)
    before = table.version()
    assert table.restart(NEW.schema, partitioned=True)
    assert (table.partitions(), table.newest(), table.note("2020-01")) == ([], {}, None)
    assert table.read(version=before).num_rows == 4
    written = table.replace(NEW, partition="2020-01")
    assert table.read().select(["x", "y"]).equals(NEW)
    assert table.newest() == {"2020-01": table.find(written.digest, "2020-01")}


def test_the_same_columns_and_a_table_that_is_not_there_are_left_alone(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "t")
    assert not table.restart(OLD.schema, partitioned=True)
    assert not table.exists()
    table.replace(NEW, partition="2020-01")
    assert not table.restart(pa.schema([NEW.schema.field("y"), NEW.schema.field("x")]), partitioned=True)
    assert table.partitions() == ["2020-01"]


def test_content_that_was_there_before_a_restart_is_written_again(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "t")
    first = table.replace(OLD, partition="2020-01")
    table.restart(NEW.schema, partitioned=True)
    table.restart(OLD.schema, partitioned=True)
    again = table.replace(OLD, partition="2020-01")
    assert (again.digest, again.changed) == (first.digest, True)
    assert table.read().num_rows == 2


def test_of_restarts_at_once_one_is_done_and_no_write_after_it_is_lost(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "t")
    table.replace(OLD, partition="2020-01")

    def change(key: str) -> None:
        table.restart(NEW.schema, partitioned=True)
        table.replace(NEW, partition=key)

    keys = [f"2020-0{number}" for number in range(1, 7)]
    with ThreadPoolExecutor(len(keys)) as pool:
        list(pool.map(change, keys))
    assert table.partitions() == keys
    assert sum("millrace.restart" in commit for commit in table.open().history()) == 1
