from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.unit.shop import COLUMNS, ROWS, make_domain, write_orders

from millrace.errors import ContractError, EmptyPartitionError, LakeError, SourceUnavailableError, SpecError
from millrace.governance.ledger import Ledger
from millrace.lake import Table
from millrace.lake.schema import arrow_schema
from millrace.privacy import installation_key, reveal
from millrace.settings import Settings
from millrace.spec import load_domain
from millrace.step.ingestion import ingest_partition
from millrace.step.replay import replay
from millrace.step.validation import count_rows, validate_partition


def rejected(settings: Settings, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Table(settings.lake, "shop/rejected/orders").read(partitions=[key]).to_pylist()
    return found


def test_a_partition_lands_in_the_raw_table_as_it_is(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path))
    found = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (found.raw.table, found.raw.partition, found.rows, found.changed) == ("shop/raw/orders", "2020-01", 3, True)
    rows = Table(settings.lake, found.raw.table).read(version=found.raw.version).to_pylist()
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
    assert (again.raw, again.changed) == (dataclasses.replace(first.raw, changed=False), False)
    assert again.line == "unchanged, 3 rows"
    write_orders(tmp_path, ROWS + "5,2020-01,eve,1,2020-01-09T00:00:00Z\n")
    changed = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (changed.rows, changed.changed) == (4, True)
    assert ingest_partition(domain, "orders", "2020-02", settings=settings).raw.digest == february.raw.digest
    assert Table(settings.lake, "shop/raw/orders").read()["order"].to_pylist().count(3) == 1


def test_a_static_source_is_one_table_for_all_partitions(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path), partition_columns={})
    first = ingest_partition(domain, "orders", "2020-01", settings=settings)
    other = ingest_partition(domain, "orders", "2020-02", settings=settings)
    assert (first.rows, first.partition, other.raw.version, other.changed) == (4, "", first.raw.version, False)


def test_an_empty_partition_is_an_error_a_retry_may_mend_unless_it_is_allowed(
    tmp_path: Path, settings: Settings
) -> None:
    path = write_orders(tmp_path)
    with pytest.raises(EmptyPartitionError, match="no rows for partition 2020-07"):
        ingest_partition(make_domain(path), "orders", "2020-07", settings=settings)
    assert not Table(settings.lake, "shop/raw/orders").exists()
    allowed = ingest_partition(make_domain(path, may_be_empty=True), "orders", "2020-07", settings=settings)
    assert allowed.rows == 0


def test_a_fault_in_the_last_line_is_set_aside_and_stops_nothing(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path, ROWS + "x,2020-01,eve,1,NA\n"))
    found = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (found.rows, found.rows_rejected, found.line) == (3, 1, "3 rows, 1 records set aside")
    assert found.rejected is not None
    (record,) = rejected(settings, "2020-01")
    assert (record["reason"], record["column"], record["line"]) == ("type", "order", 6)
    assert record["raw"] == "x,2020-01,eve,1,NA"
    again = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (again.changed, again.rows_rejected, again.raw.version) == (False, 1, found.raw.version)


def test_a_mended_file_takes_its_records_back(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path, ROWS + "x,2020-01,eve,1,NA\n"))
    ingest_partition(domain, "orders", "2020-01", settings=settings)
    write_orders(tmp_path, ROWS + "5,2020-01,eve,1,NA\n")
    found = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (found.rows, found.rows_rejected, found.changed) == (4, 0, True)
    assert rejected(settings, "2020-01") == []


def test_a_record_of_no_partition_stands_once_whichever_partition_is_read(tmp_path: Path, settings: Settings) -> None:
    lines = "6,NA,eve,1,NA\n7,1999-12,eve,1,NA\n"
    domain = make_domain(write_orders(tmp_path, ROWS + lines))
    for month in ("2020-01", "2020-02", "2020-01"):
        found = ingest_partition(domain, "orders", month, settings=settings)
        assert (found.rows_rejected, found.rows_unassigned) == (0, 2)
    records = rejected(settings, "unassigned")
    assert sorted(item["reason"] for item in records) == ["no_partition", "outside"]


def test_an_unchanged_file_is_not_read_again_but_another_recipe_is(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_orders(tmp_path)
    monkeypatch.setattr("millrace.ingestion.file_source._RESTS_S", -1.0)
    domain = make_domain(path)
    ingest_partition(domain, "orders", "2020-01", settings=settings)
    version = Table(settings.lake, "shop/raw/orders").version()
    with monkeypatch.context() as patched:
        patched.setattr("millrace.ingestion.file_source.FileSource.read", None)
        again = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (again.changed, again.rows) == (False, 3)
    other = ingest_partition(make_domain(path, null_values=["NA", "ann"]), "orders", "2020-01", settings=settings)
    assert other.changed
    assert Table(settings.lake, "shop/raw/orders").version() == version + 1


@pytest.mark.parametrize("policy", ["quarantine", "correction"])
def test_rows_for_a_closed_partition_are_set_aside_and_the_published_ones_stay(
    tmp_path: Path, settings: Settings, policy: str
) -> None:
    domain = make_domain(write_orders(tmp_path), late={"policy": policy})
    first = ingest_partition(domain, "orders", "2020-01", settings=settings)
    validate_partition(domain, "orders", "2020-01", settings=settings)
    assert first.rows_late == 0
    changed = ROWS.replace("1,2020-01,ann,10.5", "1,2020-01,ann,11.5") + "5,2020-01,eve,1,2020-01-09T00:00:00Z\n"
    write_orders(tmp_path, changed + "x,2020-01,eve,1,NA\n")
    found = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (found.rows, found.rows_rejected, found.rows_late) == (3, 3, 2)
    assert found.notes[0] == "1 rows published earlier are not delivered any more; they stay"
    assert sorted(item["reason"] for item in rejected(settings, "2020-01")) == ["late", "late", "type"]
    raw = Table(settings.lake, "shop/raw/orders").read(partitions=["2020-01"]).to_pylist()
    assert sorted((row["order"], row["amount"]) for row in raw if row["order"] == 1) == [(1, 10.5)]
    again = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (again.rows, again.rows_late, again.changed) == (3, 2, False)
    asked = [entry for entry in Ledger(settings).entries() if entry.kind == "correction_opened"]
    assert len(asked) == (policy == "correction")
    assert all(entry.payload["rows"] == 2 for entry in asked)


def test_rows_that_come_before_a_partition_closes_are_merged(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path), late={"policy": "quarantine", "closes_after_hours": 24})
    early, late = datetime(2020, 2, 1, 23, tzinfo=UTC), datetime(2020, 2, 2, 1, tzinfo=UTC)
    ingest_partition(domain, "orders", "2020-01", settings=settings, now=early)
    write_orders(tmp_path, ROWS + "5,2020-01,eve,1,2020-01-09T00:00:00Z\n")
    assert ingest_partition(domain, "orders", "2020-01", settings=settings, now=early).rows == 4
    validate_partition(domain, "orders", "2020-01", settings=settings)
    write_orders(tmp_path, ROWS + "5,2020-01,eve,1,2020-01-09T00:00:00Z\n6,2020-01,eve,1,2020-01-09T00:00:00Z\n")
    found = ingest_partition(domain, "orders", "2020-01", settings=settings, now=late)
    assert (found.rows, found.rows_late) == (4, 1)


def test_a_partition_that_was_never_published_is_mended_by_its_source(tmp_path: Path, settings: Settings) -> None:
    amount = {"column": "amount", "min_value": 0, "max_value": 35}
    block = {"type": "expect_column_values_to_be_between", "kwargs": amount, "on_failure": "block"}
    domain = make_domain(write_orders(tmp_path), late={"policy": "quarantine"}, contract=[block])
    ingest_partition(domain, "orders", "2020-01", settings=settings)
    with pytest.raises(ContractError):
        validate_partition(domain, "orders", "2020-01", settings=settings)
    write_orders(tmp_path, ROWS.replace(",40,", ",30,"))
    found = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert (found.rows, found.rows_late) == (3, 0)
    assert validate_partition(domain, "orders", "2020-01", settings=settings).rows_clean == 3


def test_late_rows_are_held_though_the_spec_changed_but_not_where_its_columns_did(
    tmp_path: Path, settings: Settings
) -> None:
    path, late = write_orders(tmp_path), {"policy": "quarantine"}
    domain = make_domain(path, late=late)
    ingest_partition(domain, "orders", "2020-01", settings=settings)
    validate_partition(domain, "orders", "2020-01", settings=settings)
    write_orders(tmp_path, ROWS + "5,2020-01,eve,1,2020-01-09T00:00:00Z\n")
    other = make_domain(path, late=late, null_values=["NA", "null"])
    assert ingest_partition(other, "orders", "2020-01", settings=settings).rows_late == 1
    wider = make_domain(path, late=late, columns={**COLUMNS, "note": "string"}, null_values=["", "NA"])
    write_orders(
        tmp_path, "5,2020-01,eve,1,2020-01-09T00:00:00Z,x\n", header="order,day,customer,amount,placed_at,note\n"
    )
    found = ingest_partition(wider, "orders", "2020-01", settings=settings)
    assert (found.rows, found.rows_late) == (1, 0)
    assert "the closed partition was read anew, late rows are merged" in " ".join(found.notes)


def test_late_rows_do_not_block_their_partition_and_can_be_accepted(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path), late={"policy": "correction"}, max_quarantined_share=0.02)
    ingest_partition(domain, "orders", "2020-01", settings=settings)
    validate_partition(domain, "orders", "2020-01", settings=settings)
    write_orders(tmp_path, ROWS + "5,2020-01,eve,1,2020-01-09T00:00:00Z\n")
    ingest_partition(domain, "orders", "2020-01", settings=settings)
    found = validate_partition(domain, "orders", "2020-01", settings=settings)
    assert (found.rows_in, found.rows_clean, found.rows_quarantined) == (4, 3, 1)
    said: dict[str, Any] = {"action": "waive", "by": "ann", "reason": "they are right"}
    assert replay(domain, "orders", settings=settings, reasons=["late"], **said).merged == 1
    assert count_rows(domain, "orders", settings=settings) == {"source": 4, "clean": 4, "quarantined": 0}


def test_an_added_column_is_noted_and_a_dropped_or_retyped_one_refused(tmp_path: Path, settings: Settings) -> None:
    path = write_orders(tmp_path)
    narrow = {name: kind for name, kind in COLUMNS.items() if name != "amount"}
    first = ingest_partition(make_domain(path, columns=narrow), "orders", "2020-01", settings=settings)
    assert first.notes == ("not declared, so not read: amount",)
    wide = ingest_partition(make_domain(path), "orders", "2020-01", settings=settings)
    assert wide.notes == ("columns added: amount",)
    with pytest.raises(LakeError, match="'amount' is missing"):
        ingest_partition(make_domain(path, columns=narrow), "orders", "2020-02", settings=settings)
    with pytest.raises(LakeError, match="'amount' is double there and string here"):
        ingest_partition(
            make_domain(path, columns={**COLUMNS, "amount": "string"}), "orders", "2020-02", settings=settings
        )


def test_a_column_declared_as_dropped_is_kept_for_what_was_written_before(tmp_path: Path, settings: Settings) -> None:
    path = write_orders(tmp_path)
    for key in ("2020-01", "2020-02"):
        ingest_partition(make_domain(path), "orders", key, settings=settings)
        validate_partition(make_domain(path), "orders", key, settings=settings)
    narrow = make_domain(
        path, columns={name: kind for name, kind in COLUMNS.items() if name != "amount"}, dropped=["amount"]
    )
    ingest_partition(narrow, "orders", "2020-02", settings=settings)
    validate_partition(narrow, "orders", "2020-02", settings=settings)
    for table in ("shop/raw/orders", "shop/clean/orders"):
        rows = Table(settings.lake, table).read().sort_by("order").select(["order", "amount"]).to_pylist()
        assert [row["amount"] for row in rows] == [10.5, None, None, 40.0], table
    again = validate_partition(narrow, "orders", "2020-01", settings=settings)
    assert (again.rows_in, again.rows_clean) == (3, 3), "raw rows of before are judged by the columns of today"
    assert count_rows(narrow, "orders", settings=settings) == {"source": 4, "clean": 4, "quarantined": 0}


def test_personal_values_lie_nowhere_in_the_clear(
    tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    rows = ROWS.replace("ann", "secret-ann") + 'x,2020-01,secret-eve,1,NA\n9,2020-01,secret-"kim,1,NA\n'
    domain = make_domain(write_orders(tmp_path, rows), pii={"customer": "tokenise", "amount": "drop"})
    found = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert found.rows_rejected >= 1
    raw = Table(settings.lake, "shop/raw/orders").read()
    assert "amount" not in raw.schema.names
    assert all(name.startswith("tok_") for name in raw["customer"].to_pylist())
    for path in settings.var.rglob("*"):
        assert not path.is_file() or b"secret-" not in path.read_bytes(), path
    assert "secret-" not in caplog.text
    texts = [reveal(item["raw"], installation_key(settings)) for item in rejected(settings, "2020-01")]
    assert "x,2020-01,secret-eve,1,NA" in texts
    again = ingest_partition(domain, "orders", "2020-01", settings=settings)
    assert not again.changed


class Flaky:
    """A source that goes away in the middle of its first readings."""

    def __init__(self, faults: int) -> None:
        self.faults = faults
        self.schema = arrow_schema(COLUMNS)  # type: ignore[arg-type]
        self.origin = "flaky"

    def fingerprint(self, partition: object) -> None:
        return None

    def places(self, partition: object) -> list[str]:
        return [self.origin]

    def read(self, partition: object) -> Flaky:
        return self

    def batches(self) -> Iterator[pa.RecordBatch]:
        row = {"order": 1, "day": "2020-01", "customer": "ann", "amount": 1.0, "placed_at": None}
        yield pa.RecordBatch.from_pylist([row], schema=self.schema)
        self.faults -= 1
        if self.faults >= 0:
            raise SourceUnavailableError("connection lost")
        yield pa.RecordBatch.from_pylist([{**row, "order": 2}], schema=self.schema)

    def rejects(self) -> Iterator[pa.RecordBatch]:
        return iter(())

    def notes(self) -> list[str]:
        return []


@pytest.mark.parametrize("faults", [0, 2, 3])
def test_a_source_that_goes_away_is_read_again_from_the_beginning(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, faults: int
) -> None:
    monkeypatch.setattr("millrace.step.ingestion.open_source", lambda *_, **__: Flaky(faults))
    monkeypatch.setattr("millrace.step.ingestion._PAUSE_S", 0)
    domain = make_domain(tmp_path / "orders.csv")
    if faults == 3:
        with pytest.raises(SourceUnavailableError):
            ingest_partition(domain, "orders", "2020-01", settings=settings)
        assert not Table(settings.lake, "shop/raw/orders").exists()
    else:
        assert ingest_partition(domain, "orders", "2020-01", settings=settings).rows == 2


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
    assert {item.raw.digest for item in found} == {found[0].raw.digest}
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
