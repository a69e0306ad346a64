from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.shop import ROWS, make_domain, write_orders

from millrace.errors import EmptyPartitionError, SourceError, SpecError
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import load_domain
from millrace.step.ingestion import ingest_partition


def test_a_partition_lands_in_the_raw_table_as_it_is(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path))
    found = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (found.table, found.partition, found.rows, found.changed) == ("shop/raw/orders", "2020-01", 3, True)
    rows = Table(settings.lake, found.table).read(version=found.version).to_pylist()
    assert [(row["order"], row["customer"], row["amount"]) for row in rows] == [
        (1, "ann", 10.5),
        (2, "bob", None),
        (4, "c, d", 40.0),
    ]


def test_unchanged_rows_commit_nothing_and_changed_rows_replace_their_partition_alone(
    tmp_path: Path, settings: Settings
) -> None:
    domain = make_domain(write_orders(tmp_path))
    first = ingest_partition(domain, "orders", "2020-01", settings=settings)
    february = ingest_partition(domain, "orders", "2020-02", settings=settings)
    again = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (again.version, again.digest, again.changed) == (first.version, first.digest, False)
    write_orders(tmp_path, ROWS + "5,2020-01,eve,1,2020-01-09T00:00:00Z\n")
    changed = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (changed.rows, changed.changed) == (4, True)
    assert ingest_partition(domain, "orders", "2020-02", settings=settings).digest == february.digest
    assert Table(settings.lake, "shop/raw/orders").read()["order"].to_pylist().count(3) == 1


def test_a_static_source_is_one_table_for_all_partitions(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path), partition_columns={})
    first = ingest_partition(domain, "orders", "2020-01", settings=settings)
    other = ingest_partition(domain, "orders", "2020-02", settings=settings)
    assert (first.rows, first.partition, other.version, other.changed) == (4, "", first.version, False)


def test_an_empty_partition_is_an_error_a_retry_may_mend_unless_it_is_allowed(
    tmp_path: Path, settings: Settings
) -> None:
    path = write_orders(tmp_path)
    with pytest.raises(EmptyPartitionError, match="no rows for partition 2020-07"):
        ingest_partition(make_domain(path), "orders", "2020-07", settings=settings)
    assert not Table(settings.lake, "shop/raw/orders").exists()
    allowed = ingest_partition(make_domain(path, may_be_empty=True), "orders", "2020-07", settings=settings)
    assert allowed.rows == 0


def test_a_fault_in_the_last_line_leaves_nothing_half_written(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path, ROWS + "x,2020-01,eve,1,NA\n"))
    with pytest.raises(SourceError, match="line 6, column order"):
        ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert not Table(settings.lake, "shop/raw/orders").exists()


def test_an_unknown_source_or_partition_names_the_remedy(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path))
    with pytest.raises(SpecError, match="did you mean 'orders'"):
        ingest_partition(domain, "order", "2020-01", settings=settings)
    with pytest.raises(SpecError, match="'2020-13' is not the key of a month"):
        ingest_partition(domain, "orders", "2020-13", settings=settings)
    domain = make_domain(write_orders(tmp_path), partition_columns={"order": "%B"})
    with pytest.raises(SpecError, match="'%B' gives 'January', which is no int64"):
        ingest_partition(domain, "orders", "2020-01", settings=settings)


def test_writers_of_one_static_source_at_once_leave_its_rows_once(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path), partition_columns={})
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: ingest_partition(domain, "orders", "2020-01", settings=settings), range(6)))
    assert {item.digest for item in found} == {found[0].digest}
    assert Table(settings.lake, "shop/raw/orders").read().num_rows == 4


def test_writers_of_all_partitions_at_once_leave_every_row_once(tmp_path: Path, settings: Settings) -> None:
    rows = "".join(f"{n},2020-{1 + n % 6:02d},ann,1,2020-01-01T00:00:00Z\n" for n in range(60))
    domain = make_domain(write_orders(tmp_path, rows))
    with ThreadPoolExecutor(6) as pool:
        list(
            pool.map(
                lambda month: ingest_partition(domain, "orders", f"2020-{month:02d}", settings=settings), range(1, 7)
            )
        )
    assert sorted(Table(settings.lake, "shop/raw/orders").read()["order"].to_pylist()) == list(range(60))


def test_a_month_of_real_flights(settings: Settings) -> None:
    domain = load_domain(settings.dags, "flights")
    assert ingest_partition(domain, "flights", "2013-07", settings=settings).rows == 29_425
    assert ingest_partition(domain, "weather", "2013-07", settings=settings).rows == 2_228
    assert ingest_partition(domain, "planes", "2013-07", settings=settings).rows == 3_322
