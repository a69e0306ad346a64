from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from tests.unit.shop import COLUMNS, ROWS, make_domain, write_orders

from millrace.artifact import DatasetRef
from millrace.errors import ContractError, SourceError, SpecError
from millrace.governance.ledger import Ledger
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.ingestion import ingest_partition
from millrace.step.replay import ReplayReport, replay
from millrace.step.validation import count_rows, validate_partition
from millrace.validation import ValidationReport
from millrace.validation.quarantine import read_quarantine

MONDAY, TUESDAY = datetime(2020, 1, 6, tzinfo=UTC), datetime(2020, 1, 7, tzinfo=UTC)
KEY = "2020-01"
AMOUNT = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "amount", "min_value": 0, "max_value": 35},
    "on_failure": "quarantine",
    "id": "amount",
}
NAMED = {
    "type": "expect_column_values_to_not_be_null",
    "kwargs": {"column": "customer"},
    "on_failure": "quarantine",
    "id": "named",
}
BAD = ROWS + "5,2020-01,,12,2020-01-05T10:00:00Z\n6,2020-01,,99,2020-01-05T11:00:00Z\n"


def validate(domain: DomainSpec, settings: Settings, key: str = KEY, *, now: datetime = MONDAY) -> DatasetRef:
    """Ingest and validate."""
    ingest_partition(domain, "orders", key, settings=settings, now=MONDAY)
    return validate_partition(domain, "orders", key, settings=settings, now=now).clean


def check(domain: DomainSpec, settings: Settings) -> ValidationReport:
    """Validate alone."""
    return validate_partition(domain, "orders", KEY, settings=settings, now=TUESDAY)


def clean(settings: Settings, *columns: str) -> list[Any]:
    rows = Table(settings.lake, "shop/clean/orders").read().to_pylist()
    return [
        tuple(row[name] for name in columns) if len(columns) > 1 else row[(columns or ("order",))[0]] for row in rows
    ]


def aside(settings: Settings) -> dict[Any, dict[str, Any]]:
    """Entries of the quarantine by the order they are about (a record: by its text)."""
    found: dict[Any, dict[str, Any]] = {}
    for row in read_quarantine(Table(settings.lake, "shop/quarantine/orders"), KEY)[2].to_pylist():
        try:
            key = orjson.loads(row["raw"])["order"]
        except (orjson.JSONDecodeError, TypeError):
            key = row["raw"]
        found[key] = row
    return found


def state(settings: Settings) -> dict[Any, str]:
    return {key: row["resolution"] or "open" for key, row in aside(settings).items()}


def id_of(settings: Settings, order: Any) -> str:
    return str(aside(settings)[order]["row_id"])


@pytest.fixture
def shop(tmp_path: Path, settings: Settings) -> Callable[..., DomainSpec]:
    """The domain after ingestion and validation; called again with other arguments it is changed and not validated."""

    def make(rows: str | None = BAD, *, run: bool = True, **more: Any) -> DomainSpec:
        path = write_orders(tmp_path, rows) if rows is not None else tmp_path / "orders.csv"
        domain = make_domain(path, **{"contract": [AMOUNT, NAMED], "cleanup": [], **more})
        if run:
            validate(domain, settings)
        return domain

    return make


def run(domain: DomainSpec, settings: Settings, **more: Any) -> ReplayReport:
    return replay(domain, "orders", settings=settings, **{"by": "ann", "now": TUESDAY, **more})


def figures(report: ReplayReport) -> tuple[int, int, int]:
    plain = report.to_dict()
    return plain["matched"], plain["merged"], plain["still_open"]


def test_after_a_fix_of_the_contract_the_rows_that_keep_it_are_merged_once(shop: Any, settings: Settings) -> None:
    shop()
    assert (clean(settings), state(settings)) == ([1, 2], {4: "open", 5: "open", 6: "open"})
    wider = shop(None, run=False, contract=[{**AMOUNT, "kwargs": {**AMOUNT["kwargs"], "max_value": 50}}, NAMED])
    found = run(wider, settings)
    assert figures(found) == (3, 1, 2)
    assert found.stale == [KEY]
    assert (clean(settings), state(settings)) == ([1, 2, 4], {4: "revalidated", 5: "open", 6: "open"})
    row = aside(settings)[4]
    assert (row["resolved_by"], row["resolved_at"], row["first_seen"]) == ("ann", TUESDAY, MONDAY)
    version = Table(settings.lake, "shop/clean/orders").version()
    assert figures(run(wider, settings)) == (2, 0, 2)
    assert Table(settings.lake, "shop/clean/orders").version() == version
    assert len(orjson.dumps(found.to_dict())) < 4096


def test_all_other_rows_stay_where_they_are_though_the_contract_changed(shop: Any, settings: Settings) -> None:
    shop()
    before = aside(settings)
    narrow = {**AMOUNT, "kwargs": {**AMOUNT["kwargs"], "max_value": 5}}
    other = shop(None, run=False, contract=[narrow])
    assert figures(run(other, settings, reasons=["named"])) == (2, 0, 2)
    assert clean(settings) == [1, 2]
    after = aside(settings)
    assert after[4] == before[4]
    assert [item["expectation"] for item in orjson.loads(after[5]["reasons"])] == ["amount"]
    loose = shop(None, run=False, contract=[])
    assert figures(run(loose, settings, ids=[id_of(settings, 5)])) == (1, 1, 0)
    assert state(settings) == {4: "open", 5: "revalidated", 6: "open"}


def test_only_the_partitions_asked_for_are_touched(shop: Any, settings: Settings) -> None:
    shop(BAD + "7,2020-02,,1,2020-02-01T10:00:00Z\n")
    loose = shop(None, run=False, contract=[])
    validate(shop(None, run=False), settings, "2020-02")
    found = run(loose, settings, partitions=["2020-02"])
    assert [(item.partition, item.merged) for item in found.partitions] == [("2020-02", 1)]
    assert state(settings) == {4: "open", 5: "open", 6: "open"}
    assert run(loose, settings).stale == [KEY]
    with pytest.raises(SpecError, match="not the key of a month"):
        run(loose, settings, partitions=["2020"])


def test_a_waived_row_is_clean_and_stays_so_when_it_is_validated_again(shop: Any, settings: Settings) -> None:
    domain = shop()
    found = run(domain, settings, action="waive", reasons=["named"], reason="walk-in customers")
    assert figures(found) == (2, 2, 0)
    assert (clean(settings), state(settings)) == ([1, 2, 5, 6], {4: "open", 5: "waived", 6: "waived"})
    published = found.partitions[0].clean
    assert published is not None
    again = validate(domain, settings, now=TUESDAY)
    assert (again.digest, again.changed) == (published.digest, False)
    reversed_rows = "".join(reversed(BAD.splitlines(keepends=True)))
    validate(shop(reversed_rows, run=False), settings)
    assert (clean(settings), state(settings)[6]) == ([1, 2, 5, 6], "waived")


def test_who_waives_says_who_and_why(shop: Any, settings: Settings) -> None:
    domain = shop()
    for wrong in ({"reason": " "}, {"reason": "x", "by": ""}):
        with pytest.raises(SpecError, match=r"needs a reason|nobody is named"):
            run(domain, settings, action="waive", **wrong)
    with pytest.raises(SpecError, match="needs a file"):
        run(domain, settings, action="correct")
    assert state(settings) == {4: "open", 5: "open", 6: "open"}


def test_an_unknown_row_is_refused(shop: Any, settings: Settings) -> None:
    with pytest.raises(SpecError, match="no quarantined row 'ffff'"):
        run(shop(), settings, ids=["ffff"])


def corrections(tmp_path: Path, rows: list[Mapping[str, Any]], name: str = "fixed.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    return path


def test_a_corrected_row_takes_the_place_of_its_original_which_is_kept(
    shop: Any, settings: Settings, tmp_path: Path
) -> None:
    domain = shop()
    path = tmp_path / "fixed.csv"
    path.write_text(f"row_id,amount\n{id_of(settings, 4)},4\n{id_of(settings, 6)},9.5\n")
    found = run(domain, settings, action="correct", corrections=path)
    assert figures(found) == (2, 1, 1)
    assert found.partitions[0].notes == ["1 rows: named"]
    assert clean(settings, "order", "amount", "customer") == [(1, 10.5, "ann"), (2, None, "bob"), (4, 4.0, "c, d")]
    row = aside(settings)[4]
    assert (row["resolution"], orjson.loads(row["raw"])["amount"]) == ("corrected", 40.0)
    assert orjson.loads(row["corrected"])["amount"] == 4.0
    assert state(settings) == {4: "corrected", 5: "open", 6: "open"}
    digest = found.partitions[0].clean
    assert digest is not None
    assert validate(domain, settings, now=TUESDAY).digest == digest.digest
    assert state(settings) == {4: "corrected", 5: "open", 6: "open"}
    assert figures(run(domain, settings, action="correct", corrections=path)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("fields", "error", "told"),
    [
        ({"amount": "four"}, SourceError, "'four' is no float64"),
        ({"order": 2.5}, SourceError, "2.5 is no int64"),
        ({"amuont": 4}, SpecError, "column 'amuont' is not declared"),
        ({"placed_at": "2020-01-03T10:00:00"}, SourceError, "a time without a zone"),
        ({"day": "2020-02"}, SourceError, "stays in its partition, where day is '2020-01'"),
        ({"row_id": "ffff"}, SpecError, "no quarantined row 'ffff'"),
    ],
)
def test_a_correction_that_does_not_fit_names_its_line_and_nothing_is_merged(
    shop: Any, settings: Settings, tmp_path: Path, fields: dict[str, Any], error: type[Exception], told: str
) -> None:
    domain = shop()
    good = {"row_id": id_of(settings, 4), "amount": 4}
    path = corrections(tmp_path, [good, {"row_id": id_of(settings, 6), "customer": "eve", **fields}])
    with pytest.raises(error, match=told) as caught:
        run(domain, settings, action="correct", corrections=path)
    assert "line 2" in str(caught.value)
    assert state(settings) == {4: "open", 5: "open", 6: "open"}


def test_a_record_that_could_not_be_read_becomes_clean_by_a_whole_correction_alone(
    shop: Any, settings: Settings, tmp_path: Path
) -> None:
    domain = shop(ROWS + "9,2020-01,zoe,many,2020-01-09T10:00:00Z\n")
    (text,) = [key for key in aside(settings) if isinstance(key, str)]
    row_id = id_of(settings, text)
    assert aside(settings)[text]["kind"] == "record"
    assert figures(run(domain, settings, ids=[row_id])) == (1, 0, 1)
    with pytest.raises(SourceError, match="a correction gives all columns; missing: order, day, customer, placed_at"):
        run(domain, settings, action="correct", corrections=corrections(tmp_path, [{"row_id": row_id, "amount": 1}]))
    whole = {"row_id": row_id, "order": 9, "day": KEY, "customer": "zoe", "amount": 7}
    path = corrections(tmp_path, [{**whole, "placed_at": "2020-01-09T10:00:00Z"}])
    assert figures(run(domain, settings, action="correct", corrections=path)) == (1, 1, 0)
    assert clean(settings, "order", "amount")[-1] == (9, 7.0)
    validate(domain, settings)
    assert (clean(settings), state(settings)) == ([1, 2, 9], {4: "open", text: "corrected"})


def test_a_waived_record_of_which_no_row_can_be_made_is_dismissed_and_counts_no_more(
    shop: Any, settings: Settings
) -> None:
    domain = shop(BAD + "9,2020-01,zoe,many,2020-01-09T10:00:00Z\n8,1999-01,bo,1,1999-01-09T10:00:00Z\n")
    counted = count_rows(domain, "orders", settings=settings)
    assert (counted["source"], counted["clean"], counted["quarantined"]) == (7, 2, 5)
    told = run(domain, settings, action="waive", reason="a footer", reasons=["type", "outside"])
    assert (*figures(told), told.to_dict()["dismissed"]) == (2, 0, 0, 2)
    assert told.stale == []
    assert "no row can be made" in told.partitions[0].notes[0]
    again = check(domain, settings)
    assert (again.rows_in, again.rows_clean, again.rows_quarantined) == (5, 2, 3)
    assert count_rows(domain, "orders", settings=settings) == {"source": 5, "clean": 2, "quarantined": 3}
    (entry,) = [row for row in aside(settings).values() if row["kind"] == "record"]
    assert (entry["status"], entry["resolution"], entry["resolved_by"]) == ("closed", "dismissed", "ann")
    run(domain, settings, action="reopen", reason="a mistake", reasons=["type", "outside"])
    assert count_rows(domain, "orders", settings=settings) == counted
    assert check(domain, settings).rows_in == 6


def test_a_dismissal_publishes_no_clean_row_that_the_contract_blocks(shop: Any, settings: Settings) -> None:
    shop(ROWS + "9,2020-01,zoe,many,2020-01-09T10:00:00Z\n")
    kwargs = {"column": "half", "min_value": 0, "max_value": 1}
    blocking = {**AMOUNT, "id": "halved", "on_failure": "block", "kwargs": kwargs}
    changed = shop(None, run=False, cleanup=[{"derive": {"half": "amount / 2"}}], contract=[AMOUNT, blocking])
    before = Table(settings.lake, "shop/clean/orders").open().version()
    with pytest.raises(ContractError, match="halved"):
        run(changed, settings, action="waive", reason="a footer", reasons=["type"])
    assert Table(settings.lake, "shop/clean/orders").open().version() == before
    assert [row["status"] for row in aside(settings).values() if row["kind"] == "record"] == ["open"]


def test_a_late_row_that_is_accepted_takes_the_place_of_the_clean_row_of_its_key(
    shop: Any, settings: Settings, tmp_path: Path
) -> None:
    late = {"late": {"policy": "quarantine"}}
    shop(ROWS, **late)
    write_orders(tmp_path, ROWS.replace("ann,10.5", "ann,11") + "8,2020-01,zoe,3,2020-01-09T10:00:00Z\n")
    domain = shop(None, run=False, **late)
    ingest_partition(domain, "orders", KEY, settings=settings, now=datetime(2021, 1, 1, tzinfo=UTC))
    validate_partition(domain, "orders", KEY, settings=settings)
    assert clean(settings, "order", "amount") == [(1, 10.5), (2, None)]
    found = run(domain, settings, action="waive", reasons=["late"], reason="delivered late")
    assert figures(found) == (2, 2, 0)
    assert clean(settings, "order", "amount") == [(1, 11.0), (2, None), (8, 3.0)]
    older = [row for row in rows(settings) if row["status"] == "open" and orjson.loads(row["raw"])["order"] == 1]
    assert [item["expectation"] for row in older for item in orjson.loads(row["reasons"])] == ["duplicate_superseded"]
    before = rows(settings)
    validate_partition(domain, "orders", KEY, settings=settings)
    assert clean(settings, "order", "amount") == [(1, 11.0), (2, None), (8, 3.0)]
    assert [(row["row_id"], row["status"]) for row in rows(settings)] == [
        (row["row_id"], row["status"]) for row in before
    ]


def test_decisions_on_late_rows_survive_a_column_that_is_added(shop: Any, settings: Settings, tmp_path: Path) -> None:
    late: dict[str, Any] = {"late": {"policy": "quarantine"}}
    shop(ROWS, **late)
    more = "7,2020-01,eve,3,2020-01-08T10:00:00Z\n8,2020-01,zoe,50,2020-01-09T10:00:00Z\n"
    write_orders(tmp_path, ROWS + more)
    domain = shop(None, run=False, **late)
    ingest_partition(domain, "orders", KEY, settings=settings, now=datetime(2021, 1, 1, tzinfo=UTC))
    check(domain, settings)
    fixed = corrections(tmp_path, [{"row_id": id_of(settings, 7), "amount": 4}])
    run(domain, settings, action="correct", corrections=fixed)
    run(domain, settings, action="waive", reason="a bulk order", ids=[id_of(settings, 8)])
    assert clean(settings, "order", "amount") == [(1, 10.5), (2, None), (7, 4.0), (8, 50.0)]

    noted = "".join(f"{line},n{number}\n" for number, line in enumerate((ROWS + more).splitlines()))
    write_orders(tmp_path, noted, header="order,day,customer,amount,placed_at,note\n")
    wider = shop(None, run=False, **late, columns={**COLUMNS, "note": "string"})
    ingest_partition(wider, "orders", KEY, settings=settings, now=datetime(2021, 1, 1, tzinfo=UTC))
    found = check(wider, settings)
    assert (found.rows_in, found.rows_clean, found.rows_quarantined) == (5, 4, 1)
    kept = [(1, 10.5, "n0"), (2, None, "n1"), (7, 4.0, "n4"), (8, 50.0, "n5")]
    assert clean(settings, "order", "amount", "note") == kept
    assert {key: state(settings)[key] for key in (7, 8)} == {7: "corrected", 8: "waived"}
    run(wider, settings, action="reopen", reason="a mistake", ids=[id_of(settings, 7), id_of(settings, 8)])
    assert clean(settings) == [1, 2]
    counted = count_rows(wider, "orders", settings=settings)
    assert counted["source"] == counted["clean"] + counted["quarantined"]
    check(wider, settings)
    assert clean(settings, "order", "amount", "note") == [*kept[:2], (7, 3.0, "n4")], "judged as it came"
    assert state(settings)[8] == "open"


def rows(settings: Settings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_quarantine(Table(settings.lake, "shop/quarantine/orders"), KEY)[2].to_pylist()
    return found


def test_of_rows_that_share_a_key_one_is_waived_and_the_other_stays(shop: Any, settings: Settings) -> None:
    domain = shop(ROWS + "1,2020-01,eve,7,2020-01-02T10:00:00Z\n")
    assert clean(settings) == [2]
    doubled = [row for row in rows(settings) if orjson.loads(row["raw"])["order"] == 1]
    with pytest.raises(SpecError, match=r"several share one key \(order\)"):
        run(domain, settings, action="waive", reasons=["duplicate"], reason="x")
    eve = next(row["row_id"] for row in doubled if orjson.loads(row["raw"])["customer"] == "eve")
    assert figures(run(domain, settings, action="waive", ids=[eve], reason="x")) == (1, 1, 0)
    assert clean(settings, "order", "customer") == [(1, "eve"), (2, "bob")]
    ann = next(row["row_id"] for row in doubled if row["row_id"] != eve)
    assert figures(run(domain, settings, ids=[ann])) == (1, 0, 1)
    validate(domain, settings)
    assert clean(settings, "order", "customer") == [(1, "eve"), (2, "bob")]
    assert figures(run(domain, settings, action="waive", ids=[ann], reason="no, she was right")) == (1, 1, 0)
    assert clean(settings, "order", "customer") == [(1, "ann"), (2, "bob")]
    assert {row["row_id"]: row["status"] for row in rows(settings)}[eve] == "open"


def test_a_corrected_key_that_is_taken_stays_open(shop: Any, settings: Settings, tmp_path: Path) -> None:
    domain = shop()
    path = corrections(tmp_path, [{"row_id": id_of(settings, 4), "order": 1, "amount": 4}])
    found = run(domain, settings, action="correct", corrections=path)
    assert (figures(found), found.partitions[0].notes) == ((1, 0, 1), ["1 rows: duplicate"])
    assert (clean(settings), found.stale) == ([1, 2], [])


def test_a_row_that_does_not_come_through_clean_up_cannot_be_waived(
    shop: Any, settings: Settings, tmp_path: Path
) -> None:
    steps = [{"cast": {"customer": "int64"}}]
    domain = shop(
        "1,2020-01,7,1,2020-01-01T10:00:00Z\n2,2020-01,x,1,2020-01-01T10:00:00Z\n", cleanup=steps, contract=[]
    )
    assert state(settings) == {2: "open"}
    with pytest.raises(SpecError, match=r"do not come through clean-up \(cleanup.cast.customer\)"):
        run(domain, settings, action="waive", reason="x")
    path = corrections(tmp_path, [{"row_id": id_of(settings, 2), "customer": "8"}])
    assert figures(run(domain, settings, action="correct", corrections=path)) == (1, 1, 0)
    assert clean(settings, "order", "customer") == [(1, 7), (2, 8)]


def test_a_blocking_expectation_on_the_outcome_blocks_and_nothing_is_merged(shop: Any, settings: Settings) -> None:
    domain = shop()
    mean = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "amount", "max_value": 11}}
    blocked = shop(None, run=False, contract=[mean])
    with pytest.raises(ContractError, match="nothing was merged"):
        run(blocked, settings)
    assert (clean(settings), state(settings)) == ([1, 2], {4: "open", 5: "open", 6: "open"})
    assert Ledger(settings).entries() == []
    changed = shop(None, run=False, contract=[], cleanup=[{"cast": {"customer": "int64"}}])
    with pytest.raises(ContractError, match=r"clean now \(cleanup.cast.customer\): validate the partition first"):
        run(changed, settings, ids=[id_of(settings, 5)])
    assert figures(run(domain, settings, action="waive", reason="x")) == (3, 3, 0)


def test_every_replay_stands_in_the_ledger_once(shop: Any, settings: Settings) -> None:
    domain = shop()
    run(domain, settings, action="waive", reasons=["named"], reason="walk-in customers")
    run(domain, settings, action="waive", reasons=["named"], reason="walk-in customers")
    (entry,) = Ledger(settings).entries("shop", kinds=["quarantine_replayed"])
    assert (entry.subject, entry.actor) == ("shop/orders/2020-01", "ann")
    assert (entry.payload["matched"], entry.payload["reason"]) == (2, "walk-in customers")
    assert entry.effective_at == datetime(2020, 2, 1, tzinfo=UTC)
    assert Ledger(settings).verify().verified


def test_rows_ingested_since_the_last_validation_are_not_published_by_a_replay(
    shop: Any, settings: Settings, tmp_path: Path
) -> None:
    domain = shop()
    write_orders(tmp_path, BAD + "7,2020-01,,999,2020-01-06T10:00:00Z\n")
    ingest_partition(domain, "orders", KEY, settings=settings, now=MONDAY)
    run(domain, settings, action="waive", reasons=["named"], reason="x")
    assert clean(settings) == [1, 2, 5, 6]
    validate(domain, settings)
    assert (clean(settings), state(settings)[7]) == ([1, 2, 5, 6], "open")


def test_corrected_personal_values_become_tokens(shop: Any, settings: Settings, tmp_path: Path) -> None:
    domain = shop(pii={"customer": "tokenise"}, contract=[AMOUNT])
    token = orjson.loads(aside(settings)[4]["raw"])["customer"]
    rows_ = [
        {"row_id": id_of(settings, 4), "amount": 4, "customer": token},
        {"row_id": id_of(settings, 6), "amount": 6, "customer": "ann"},
    ]
    run(domain, settings, action="correct", corrections=corrections(tmp_path, rows_))
    found = dict(clean(settings, "order", "customer"))
    assert (found[4], found[6]) == (token, found[1])
    assert "ann" not in aside(settings)[6]["corrected"]


def test_a_row_corrected_again_holds_the_newest_values_and_the_earlier_stay_visible(
    shop: Any, settings: Settings, tmp_path: Path
) -> None:
    domain = shop()
    row_id = id_of(settings, 4)
    first = corrections(tmp_path, [{"row_id": row_id, "amount": 4}], "first.jsonl")
    second = corrections(tmp_path, [{"row_id": row_id, "amount": 5}], "second.jsonl")
    wrong = corrections(tmp_path, [{"row_id": row_id, "amount": 99}], "wrong.jsonl")
    run(domain, settings, action="correct", corrections=first, reason="typo")
    found = run(domain, settings, action="correct", corrections=second, by="bob", reason="misread")
    assert (figures(found), found.stale) == ((1, 1, 0), [KEY])
    assert clean(settings, "order", "amount") == [(1, 10.5), (2, None), (4, 5.0)]
    row = aside(settings)[4]
    assert orjson.loads(row["raw"])["amount"] == 40.0
    assert row["resolved_reason"] == 'misread (in place of {"amount":4.0} by ann at 2020-01-07T00:00:00Z: typo)'
    assert figures(run(domain, settings, action="correct", corrections=second, by="eve")) == (0, 0, 0)
    failed = run(domain, settings, action="correct", corrections=wrong)
    assert failed.partitions[0].notes == ["1 rows: amount", "1 of them stay as they were corrected before"]
    assert aside(settings)[4] == row
    assert validate(domain, settings, now=TUESDAY).changed is False
    assert clean(settings, "order", "amount") == [(1, 10.5), (2, None), (4, 5.0)]
    balanced(domain, settings)


def balanced(domain: DomainSpec, settings: Settings) -> None:
    found = count_rows(domain, "orders", settings=settings)
    assert found["source"] == found["clean"] + found["quarantined"]


def test_a_waiver_and_a_correction_are_taken_back_once(shop: Any, settings: Settings, tmp_path: Path) -> None:
    domain = shop()
    before = aside(settings)
    path = corrections(tmp_path, [{"row_id": id_of(settings, 4), "amount": 4}])
    run(domain, settings, action="correct", corrections=path)
    run(domain, settings, action="waive", reasons=["named"], reason="walk-in customers")
    assert clean(settings) == [1, 2, 4, 5, 6]
    ids = [id_of(settings, 4), id_of(settings, 5)]
    found = run(domain, settings, action="reopen", ids=ids, reason="a mistake")
    assert (figures(found), found.stale) == ((2, 0, 2), [KEY])
    assert clean(settings) == [1, 2, 6]
    assert state(settings) == {4: "open", 5: "open", 6: "waived"}
    assert {order: aside(settings)[order] for order in (4, 5)} == {order: before[order] for order in (4, 5)}
    entries = len(Ledger(settings).entries("shop"))
    assert figures(run(domain, settings, action="reopen", ids=ids, reason="a mistake")) == (0, 0, 0)
    assert len(Ledger(settings).entries("shop")) == entries == 3
    validate(domain, settings, now=TUESDAY)
    assert (clean(settings), state(settings)) == ([1, 2, 6], {4: "open", 5: "open", 6: "waived"})
    balanced(domain, settings)
    assert figures(run(domain, settings, action="reopen", reasons=["named"], reason="so is this")) == (1, 0, 1)
    assert figures(run(domain, settings, action="waive", ids=ids[:1], reason="it is right after all")) == (1, 1, 0)
    assert clean(settings) == [1, 2, 4]
    balanced(domain, settings)


def test_a_decision_on_a_row_that_is_gone_is_taken_back_and_nothing_waits(
    shop: Any, settings: Settings, tmp_path: Path
) -> None:
    domain = shop()
    run(domain, settings, action="waive", reasons=["named"], reason="walk-in customers")
    validate(shop(ROWS, run=False), settings)
    run(domain, settings, action="reopen", reasons=["named"], reason="a mistake")
    assert (clean(settings), state(settings)) == ([1, 2], {4: "open", 5: "superseded", 6: "superseded"})
    balanced(domain, settings)
    validate(shop(BAD, run=False), settings)
    assert (clean(settings), state(settings)) == ([1, 2], {4: "open", 5: "open", 6: "open"})


def test_who_takes_back_says_what_and_why(shop: Any, settings: Settings) -> None:
    domain = shop()
    for wrong in ({"reason": "x"}, {"ids": [id_of(settings, 4)]}):
        with pytest.raises(SpecError, match=r"not said which rows|for a reason"):
            run(domain, settings, action="reopen", **wrong)


WITHOUT = {name: kind for name, kind in COLUMNS.items() if name != "customer"}


def test_a_column_added_to_the_raw_rows_takes_no_decision_back(shop: Any, settings: Settings, tmp_path: Path) -> None:
    lines = "".join(
        f"{order},2020-01,{who},{amount},2020-01-01T00:00:00Z\n"
        for order, who, amount in ((1, "ann", 50), (2, "bob", 5), (3, "eve", 60), (4, "", 70), (4, "zoe", 70))
    )
    narrow = shop(lines, columns=WITHOUT, contract=[AMOUNT])
    ids = {orjson.loads(row["raw"])["order"]: row["row_id"] for row in rows(settings)}
    run(narrow, settings, action="waive", ids=[ids[1]], reason="a bulk order")
    path = corrections(tmp_path, [{"row_id": ids[3], "amount": 7}])
    run(narrow, settings, action="correct", corrections=path)
    before = stands(settings)
    assert len(before) == 4
    wide = shop(None, run=False, contract=[AMOUNT])
    for _ in range(2):
        validate(wide, settings, now=TUESDAY)
        assert stands(settings) == before
        balanced(wide, settings)
    assert clean(settings, "order", "customer", "amount") == [(1, "ann", 50.0), (2, "bob", 5.0), (3, "eve", 7.0)]
    again = corrections(tmp_path, [{"row_id": ids[3], "amount": 8}])
    assert figures(run(wide, settings, action="correct", corrections=again)) == (1, 1, 0)
    assert clean(settings, "order", "customer", "amount")[-1] == (3, "eve", 8.0)
    assert figures(run(wide, settings, action="reopen", ids=[ids[1]], reason="a mistake")) == (1, 0, 1)
    assert clean(settings) == [2, 3]
    balanced(wide, settings)
    validate(wide, settings)
    assert clean(settings) == [2, 3]


def stands(settings: Settings) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in ("row_id", "status", "resolution", "first_seen")) for row in rows(settings)]


ORDER = st.tuples(st.sampled_from("1234"), st.sampled_from(["ann", ""]), st.sampled_from(["", "5", "20", "99"]))


@pytest.mark.full
@profile(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    orders=st.lists(ORDER, min_size=2, max_size=9),
    policy=st.sampled_from([{}, {"duplicates": {"policy": "keep_last", "version": "amount"}}]),
    data=st.data(),
)
def test_the_order_of_retries_is_irrelevant_and_the_next_validation_agrees(
    settings: Settings, orders: list[tuple[str, str, str]], policy: dict[str, Any], data: st.DataObject
) -> None:
    outcomes = []
    with tempfile.TemporaryDirectory() as name:
        lines = "".join(f"{key},{KEY},{who},{amount},2020-01-01T00:00:00Z\n" for key, who, amount in orders)
        path = write_orders(Path(name), lines)
        strict = make_domain(path, contract=[AMOUNT, NAMED], **policy)
        loose = make_domain(path, contract=[AMOUNT], **policy)
        for turn in ("together", "one by one", "validated"):
            var = Path(name) / turn
            there = dataclasses.replace(
                settings,
                var=var,
                lake=str(var / "lake"),
                reports=var / "reports",
                state_url=f"sqlite:///{var}/state.db",
            )
            var.mkdir()
            validate(strict, there)
            if turn == "together":
                run(loose, there)
            elif turn == "one by one":
                waiting = [row["row_id"] for row in rows(there) if row["status"] == "open"]
                for row_id in data.draw(st.permutations(waiting)):
                    run(loose, there, ids=[row_id])
            else:
                validate(loose, there)
            stand = {row["row_id"]: row["status"] for row in rows(there)}
            assert len(clean(there)) + sum(state == "open" for state in stand.values()) == len(orders)
            outcomes.append((sorted(clean(there, "order", "customer", "amount"), key=str), stand))
            assert validate(loose, there).changed is False
    assert outcomes[0] == outcomes[1] == outcomes[2]
