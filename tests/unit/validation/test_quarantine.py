from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pyarrow as pa

from millrace.artifact import DatasetRef
from millrace.lake import Table
from millrace.validation.base import ROW
from millrace.validation.contract import Reason
from millrace.validation.quarantine import SCHEMA, count_open, quarantine_rows, store_quarantine

MONDAY, TUESDAY = datetime(2020, 1, 6, tzinfo=UTC), datetime(2020, 1, 7, tzinfo=UTC)


def rows(values: list[float | None], positions: list[int], *, now: datetime = MONDAY, version: int = 3) -> pa.Table:
    raw = pa.table(
        {"at": pa.array([MONDAY] * len(values), pa.timestamp("us", "UTC")), "x": pa.array(values, pa.float64())}
    )
    cleaned = raw.append_column("half", pa.array([value and value / 2 for value in values]))
    cleaned = cleaned.append_column(ROW, pa.array(range(len(values)), pa.int64()))
    reasons = [Reason(row=position, expectation="e", columns=("half",)) for position in positions]
    snapshot = DatasetRef(table="shop/raw/orders", version=version, partition="2020-01")
    return quarantine_rows(raw, cleaned, reasons, source="shop/raw/orders", snapshot=snapshot, now=now)


def test_a_row_is_kept_as_it_came_with_its_reasons() -> None:
    (row,) = rows([1.0, 3.0], [1]).to_pylist()
    assert orjson.loads(row["raw"]) == {"at": "2020-01-06T00:00:00Z", "x": 3.0}
    assert orjson.loads(row["reasons"]) == [{"expectation": "e", "column": "half", "value": 1.5}]
    assert (row["status"], row["raw_version"], row["partition"], row["first_seen"]) == ("open", 3, "2020-01", MONDAY)


def test_infinity_keeps_its_name() -> None:
    (row,) = rows([float("inf")], [0]).to_pylist()
    assert orjson.loads(row["raw"])["x"] == "inf"


def test_ids_depend_on_content_alone_and_equal_rows_are_told_apart() -> None:
    one, other = rows([1.0, 2.0, 2.0], [0, 1, 2]), rows([2.0, 9.0, 1.0, 2.0], [0, 2, 3], version=8)
    assert one["row_id"].to_pylist() == other["row_id"].to_pylist()
    assert len(set(one["row_id"].to_pylist())) == 3


def test_storing_again_commits_nothing_and_keeps_when_a_row_was_first_seen(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "quarantine")
    first = store_quarantine(table, rows([1.0, 2.0], [0]), "2020-01")
    again = store_quarantine(table, rows([1.0, 2.0], [0], now=TUESDAY, version=4), "2020-01")
    assert first is not None
    assert again is not None
    assert (again.version, again.digest, again.changed) == (first.version, first.digest, False)
    store_quarantine(table, rows([1.0, 2.0], [0, 1], now=TUESDAY), "2020-01")
    seen = {orjson.loads(row["raw"])["x"]: row["first_seen"] for row in table.read().to_pylist()}
    assert seen == {1.0: MONDAY, 2.0: TUESDAY}
    assert count_open(table) == 2


def test_a_partition_that_was_mended_leaves_the_quarantine(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "quarantine")
    assert store_quarantine(table, SCHEMA.empty_table(), "2020-01") is None
    assert not table.exists()
    store_quarantine(table, rows([1.0], [0]), "2020-01")
    emptied = store_quarantine(table, SCHEMA.empty_table(), "2020-01")
    assert emptied is not None
    assert (emptied.rows, count_open(table)) == (0, 0)
