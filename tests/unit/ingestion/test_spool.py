"""Records set aside are kept in memory while they are few, and on disk beyond that."""

from __future__ import annotations

import pyarrow as pa

from millrace.ingestion.base import REJECTS
from millrace.ingestion.spool import Spool


def batch(start: int) -> pa.RecordBatch:
    rows = [{"reason": "type", "line": line, "raw": "x" * 100} for line in range(start, start + 100)]
    return pa.RecordBatch.from_pylist(rows, schema=REJECTS)


def test_what_was_written_comes_back_in_its_order_whether_it_spilled_or_not() -> None:
    for limit in (1, 25_000, 1 << 30):
        spool = Spool(in_memory=limit)
        for number in range(10):
            spool.write(batch(number * 100))
        found = pa.Table.from_batches(spool.read(), schema=REJECTS)
        assert found["line"].to_pylist() == list(range(1000))
        assert pa.Table.from_batches(spool.read(), schema=REJECTS).equals(found)


def test_an_empty_spool_gives_nothing() -> None:
    assert list(Spool().read()) == []


def test_a_spool_holds_no_more_in_memory_than_it_may() -> None:
    spool = Spool(in_memory=20_000)
    before = pa.total_allocated_bytes()
    for number in range(200):
        spool.write(batch(number * 100))
    assert pa.total_allocated_bytes() - before < 200_000
