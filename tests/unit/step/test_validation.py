from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from tests.unit.shop import HEADER, ROWS, make_domain, write_orders

from millrace.errors import ContractError, LakeError, SpecError
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec, load_domain
from millrace.step.case import declared_keys, open_case
from millrace.step.ingestion import ingest_partition
from millrace.step.place import Place
from millrace.step.validation import check_contract, count_rows, validate_partition
from millrace.validation import ValidationReport

AMOUNT = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "amount", "min_value": 0, "max_value": 35},
    "on_failure": "quarantine",
}


def run(domain: DomainSpec, settings: Settings, partition: str = "2020-01", **kwargs: Any) -> ValidationReport:
    ingest_partition(domain, "orders", partition, settings=settings)
    return validate_partition(domain, "orders", partition, settings=settings, **kwargs)


def clean(settings: Settings) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = Table(settings.lake, "shop/clean/orders").read().to_pylist()
    return rows


def aside(settings: Settings) -> list[dict[str, Any]]:
    table = Table(settings.lake, "shop/quarantine/orders")
    rows: list[dict[str, Any]] = table.read().to_pylist() if table.exists() else []
    return rows


def test_failing_rows_go_to_quarantine_and_the_rest_is_clean(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path), contract=[AMOUNT], derive={"double": "amount * 2"}, drop=["day"])
    found = run(domain, settings)
    assert (found.rows_in, found.rows_clean, found.rows_quarantined) == (3, 2, 1)
    assert [(row["order"], row["double"]) for row in clean(settings)] == [(1, 21.0), (2, None)]
    (row,) = aside(settings)
    assert orjson.loads(row["raw"])["customer"] == "c, d"
    assert orjson.loads(row["reasons"]) == [
        {"column": "amount", "expectation": "column_values_to_be_between.amount", "value": 40.0}
    ]
    assert found.verdict.passed
    assert "1 row quarantined" in found.verdict.reasons[1]
    assert found.quarantine is not None


def test_the_report_is_a_small_reference_that_comes_back_equal(tmp_path: Path, settings: Settings) -> None:
    warns = [
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "customer", "value_set": ["x" * 90, n]}}
        | {"on_failure": "warn", "id": f"w{n}"}
        for n in range(40)
    ]
    found = run(make_domain(write_orders(tmp_path), contract=warns), settings)
    assert len(orjson.dumps(found.to_dict())) < 4096
    assert found.verdict.reasons[-1] == "and 32 more"
    assert ValidationReport.from_dict(found.to_dict()) == found


def test_results_and_pages_are_stored_and_reach_for_no_other_host(tmp_path: Path, settings: Settings) -> None:
    found = run(make_domain(write_orders(tmp_path), contract=[AMOUNT]), settings)
    page = Path(found.docs).read_text()
    assert Path(found.docs) == settings.reports / "shop" / "data_docs" / "orders" / "2020-01.html"
    assert "shop / orders / 2020-01: 3 rows, 1 rows quarantined" in page
    assert "values must be greater than or equal to" in page
    assert "http://" not in page
    assert "https://" not in page
    stored = orjson.loads((settings.reports / "shop" / "validation" / "orders" / "2020-01.json").read_bytes())
    assert stored["statistics"]["evaluated_expectations"] == 1
    assert stored["meta"]["millrace"]["outcome"] == "pass"


def test_a_blocking_failure_stores_results_and_publishes_nothing(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path), contract=[{**AMOUNT, "on_failure": "block"}])
    with pytest.raises(ContractError, match=r"amount does not hold: 1 of 3 rows fail, such as 40\.0") as caught:
        run(domain, settings)
    page = settings.reports / "shop" / "data_docs" / "orders" / "2020-01.html"
    assert str(page) in caught.value.where
    assert page.is_file()
    assert not Table(settings.lake, "shop/clean/orders").exists()
    assert aside(settings) == []
    assert "blocked" in (settings.reports / "shop" / "data_docs" / "index.html").read_text()


def test_a_block_leaves_what_was_published_before(tmp_path: Path, settings: Settings) -> None:
    path = write_orders(tmp_path)
    run(make_domain(path, contract=[AMOUNT]), settings)
    before = clean(settings), aside(settings)
    with pytest.raises(ContractError, match=r"over the limit of 1\.00%"):
        run(make_domain(path, contract=[AMOUNT], max_quarantined_share=0.01), settings)
    assert (clean(settings), aside(settings)) == before


def test_duplicates_of_a_key_are_set_aside_with_their_key(tmp_path: Path, settings: Settings) -> None:
    doubled = ROWS + "1,2020-01,ann,10.5,2020-01-01T10:00:00Z\n2,2020-01,eve,7,2020-01-02T10:00:00Z\n"
    unique = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "order"}, "on_failure": "quarantine"}
    found = run(make_domain(write_orders(tmp_path, doubled), contract=[unique]), settings)
    assert [row["order"] for row in clean(settings)] == [1, 4]
    reasons = [orjson.loads(row["reasons"]) for row in aside(settings)]
    assert sorted(item["value"] for (item,) in reasons) == [1, 2, 2]
    assert {(item["expectation"], item["column"]) for (item,) in reasons} == {("duplicate", "order")}
    assert found.verdict.numbers["held"] == 1


def test_running_again_commits_nothing_and_only_first_seen_could_have_moved(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path), contract=[AMOUNT])
    monday, tuesday = datetime(2020, 1, 6, tzinfo=UTC), datetime(2020, 1, 7, tzinfo=UTC)
    first = run(domain, settings, now=monday)
    again = run(domain, settings, now=tuesday)
    assert again.quarantine is not None
    assert (again.clean.changed, again.quarantine.changed) == (False, False)
    assert dataclasses.replace(again.clean, changed=True) == first.clean
    assert [row["first_seen"] for row in aside(settings)] == [monday]


def test_the_order_of_rows_in_the_source_changes_neither_clean_nor_quarantine(
    tmp_path: Path, settings: Settings
) -> None:
    lines = (ROWS + ROWS + "2,2020-01,eve,99,2020-01-02T10:00:00Z\n").splitlines(keepends=True)
    path = write_orders(tmp_path, "".join(lines))
    first = run(make_domain(path, contract=[AMOUNT]), settings)
    path.write_text(HEADER + "".join(reversed(lines)))
    again = run(make_domain(path, contract=[AMOUNT]), settings)
    assert first.quarantine is not None
    assert again.quarantine is not None
    assert (again.clean.digest, again.quarantine.digest) == (first.clean.digest, first.quarantine.digest)


def test_keys_that_are_not_set_leave_a_stored_verdict_as_good_as_it_was(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path), timezone="UTC")
    ingest_partition(domain, "orders", "2020-01", settings=settings)
    changed = {"dropped": ["gone"], "ambiguous": "later"}
    cases = [domain, *(make_domain(tmp_path / "orders.csv", timezone="UTC", **{k: v}) for k, v in changed.items())]
    found = []
    for each in cases:
        place = Place(domain=each, source="orders", key="2020-01", settings=settings)
        found.append(open_case(place, datetime(2020, 3, 1, tzinfo=UTC)).digest)
    assert len(set(found)) == 3
    of_before = domain.sources["orders"].model_dump(mode="json", exclude={"dropped", "ambiguous"})
    assert declared_keys(domain.sources["orders"]) == of_before


def test_a_mended_source_brings_rows_back_from_quarantine(tmp_path: Path, settings: Settings) -> None:
    run(make_domain(write_orders(tmp_path), contract=[AMOUNT]), settings)
    run(make_domain(write_orders(tmp_path, ROWS.replace(",40,", ",4,")), contract=[AMOUNT]), settings)
    counted = count_rows(make_domain("x"), "orders", settings=settings)
    assert counted == {"source": 3, "clean": 3, "quarantined": 0}


def test_an_empty_partition_that_is_allowed_is_clean_and_empty(tmp_path: Path, settings: Settings) -> None:
    found = run(make_domain(write_orders(tmp_path), contract=[AMOUNT], may_be_empty=True), settings, "2020-09")
    assert (found.rows_in, found.rows_clean, found.quarantine) == (0, 0, None)


def test_a_column_made_in_clean_up_is_added_to_the_clean_table(tmp_path: Path, settings: Settings) -> None:
    path = write_orders(tmp_path)
    run(make_domain(path, contract=[AMOUNT]), settings)
    run(make_domain(path, contract=[AMOUNT]), settings, "2020-02")
    wider = make_domain(path, contract=[AMOUNT], derive={"share": "100 // CAST(amount - 10.5 AS INTEGER)"})
    found = validate_partition(wider, "orders", "2020-01", settings=settings)
    assert (found.rows_clean, found.rows_quarantined) == (1, 2)
    assert {row["order"]: row["share"] for row in clean(settings)} == {2: None, 3: None}
    assert count_rows(wider, "orders", settings=settings) == {"source": 4, "clean": 2, "quarantined": 2}


def test_a_clean_column_of_another_type_is_refused_before_anything_is_written(
    tmp_path: Path, settings: Settings
) -> None:
    path = write_orders(tmp_path)
    run(make_domain(path, contract=[AMOUNT], derive={"twice": "amount * 2"}), settings)
    stricter = {**AMOUNT, "kwargs": {**AMOUNT["kwargs"], "max_value": 5}}  # type: ignore[dict-item]
    other = make_domain(path, contract=[stricter], derive={"twice": "customer"})
    with pytest.raises(LakeError, match="'twice' is double there and string here"):
        validate_partition(other, "orders", "2020-01", settings=settings)
    assert count_rows(other, "orders", settings=settings) == {"source": 3, "clean": 2, "quarantined": 1}


def test_a_partition_that_was_not_ingested_says_so(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path))
    with pytest.raises(LakeError, match="ingest the partition first"):
        validate_partition(domain, "orders", "2020-01", settings=settings)


def test_a_contract_that_cannot_work_is_a_spec_error_and_publishes_nothing(tmp_path: Path, settings: Settings) -> None:
    domain = make_domain(write_orders(tmp_path), contract=[{"type": "expect_colum_to_exist"}])
    with pytest.raises(SpecError, match="did you mean expect_column_to_exist"):
        run(domain, settings)
    assert not Table(settings.lake, "shop/clean/orders").exists()


def test_the_contracts_of_the_flights_domain_are_sound(settings: Settings) -> None:
    assert check_contract(load_domain(settings.dags, "flights")) == []


def test_check_contract_tells_every_fault_with_place_and_remedy() -> None:
    domain = make_domain(
        "x.csv",
        derive={"fine": "amount * 2", "moving": "now()", "after": "moving"},
        contract=[
            {"type": "expect_column_values_to_be_positive", "kwargs": {"column": "amount"}},
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "amount", "minimum": 1}},
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "fine"}},
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "fien"}},
            {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 3}, "on_failure": "quarantine"},
        ],
    )
    moving, unknown, refused, column, table = check_contract(domain)
    assert "calls now, which gives another value at every run" in moving
    (broken,) = check_contract(make_domain("x.csv", derive={"fine": "amount * 2", "broken": "amuont + 1"}))
    assert "where: shop.sources.orders.cleanup[0].derive.broken" in broken
    assert "unknown expectation 'expect_column_values_to_be_positive'" in unknown
    assert "where: shop.sources.orders.contract, column_values_to_be_positive.amount" in unknown
    assert "minimum: extra fields not permitted" in refused
    assert "did you mean 'fine'?" in column
    assert "names no rows to quarantine" in table


def test_the_known_bad_flights_of_july_go_to_quarantine(settings: Settings) -> None:
    domain = load_domain(settings.dags, "flights")
    ingest_partition(domain, "flights", "2013-07", settings=settings)
    found = validate_partition(domain, "flights", "2013-07", settings=settings)
    assert (found.rows_in, found.rows_clean, found.rows_quarantined) == (29_425, 29_423, 2)
    rows = Table(settings.lake, "flights/quarantine/flights").read().to_pylist()
    told = sorted((item["column"], item["value"]) for row in rows for item in orjson.loads(row["reasons"]))
    assert told == [("distance", 17.0), ("speed_mph", pytest.approx(650.32, abs=0.01))]


ORDER = st.tuples(
    st.sampled_from(["", "1", "2", "3", "4"]),
    st.sampled_from(["ann", "bob", ""]),
    st.sampled_from(["", "5", "20", "99"]),
)
ACTION = st.sampled_from(["quarantine", "warn"])


@profile(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=st.lists(ORDER, min_size=1, max_size=12), actions=st.tuples(ACTION, ACTION, ACTION))
def test_every_row_is_clean_or_quarantined_and_none_is_both(
    settings: Settings, orders: list[tuple[str, str, str]], actions: tuple[str, str, str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = dataclasses.replace(settings, lake=f"{name}/lake", reports=Path(name) / "reports")
        lines = [f"{key},2020-01,{who},{amount},2020-01-01T00:00:00Z\n" for key, who, amount in orders]
        contract = [
            {**AMOUNT, "on_failure": actions[0]},
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "customer"}, "on_failure": actions[1]},
            {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "amount"}, "on_failure": actions[2]},
        ]
        domain = make_domain(write_orders(Path(name), "".join(lines)), contract=contract)
        found = run(domain, place)

        def content(row: dict[str, Any]) -> tuple[Any, ...]:
            return row["order"], row["customer"], row["amount"]

        kept = Counter(content(row) for row in clean(place))
        left = Counter(content(orjson.loads(row["raw"])) for row in aside(place))
        came = Counter(content(row) for row in Table(place.lake, "shop/raw/orders").read().to_pylist())
        assert kept + left == came
        assert found.rows_in == len(orders) == sum(kept.values()) + sum(left.values())
        keys = [key for key, _, _ in kept.elements() if key is not None]
        assert len(keys) == len(set(keys))
        assert len({row["row_id"] for row in aside(place)}) == sum(left.values())


@pytest.mark.parametrize(("column", "found"), [("customer", 1), ("amount", 0)])
def test_truths_asked_of_a_column_of_texts_are_to_be_quoted(column: str, found: int) -> None:
    asked = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": column, "value_set": [True, False]}}
    faults = [fault for fault in check_contract(make_domain("x.csv", contract=[asked])) if "quote them" in fault]
    assert len(faults) == found
    assert all('value_set: ["yes", "no"]' in fault for fault in faults)
