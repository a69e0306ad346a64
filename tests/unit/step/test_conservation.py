"""Whatever comes, in whatever order it is done again: each record is clean or waits in quarantine, once."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from tests.unit.shop import make_domain, write_orders

from millrace.errors import MillraceError
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.ingestion import ingest_partition
from millrace.step.replay import replay
from millrace.step.validation import count_rows, validate_partition
from millrace.validation.quarantine import read_quarantine

KEY = "2020-01"
NOW = datetime(2021, 1, 1, tzinfo=UTC)
LINE = st.one_of(
    st.tuples(st.sampled_from("1234"), st.sampled_from(["ann", "bob", ""]), st.sampled_from(["", "5", "20", "99"])).map(
        lambda row: f"{row[0]},2020-01,{row[1]},{row[2]},2020-01-01T00:00:00Z"
    ),
    st.sampled_from(
        [
            "x,2020-01,ann,5,2020-01-01T00:00:00Z",
            "5,2020-01,ann",
            '6,2020-01,"a""b",7,2020-01-01T00:00:00Z',
            "7,,ann,5,2020-01-01T00:00:00Z",
            "8,2019-12,ann,5,2020-01-01T00:00:00Z",
            "9,2020-02,ann,5,2020-02-01T00:00:00Z",
        ]
    ),
)
MEANT = ["late", "duplicate", "type", "parse", "no_partition", "outside"]
FILE = st.lists(LINE, min_size=1, max_size=10)
ACTION = st.sampled_from(["quarantine", "warn"])
OPERATION = st.sampled_from(["ingest", "validate", "revalidate", "waive", "reopen", "next delivery"])
SPEC = st.fixed_dictionaries(
    {
        "amount": ACTION,
        "customer": ACTION,
        "duplicates": st.sampled_from([{"policy": "quarantine"}, {"policy": "keep_last", "version": "amount"}]),
        "late": st.sampled_from([{"policy": "merge"}, {"policy": "quarantine"}]),
        "cleanup": st.sampled_from(
            [
                [],
                [{"derive": {"share": "100 // CAST(amount - 20 AS INTEGER)"}}],
                [{"deduplicate": ["customer", "amount"], "keep": "first"}],
            ]
        ),
    }
)


def domain_of(path: Path, spec: dict[str, Any]) -> DomainSpec:
    amount = {"column": "amount", "min_value": 0, "max_value": 35}
    contract = [
        {"type": "expect_column_values_to_be_between", "kwargs": amount, "on_failure": spec["amount"]},
        {
            "type": "expect_column_values_to_not_be_null",
            "kwargs": {"column": "customer"},
            "on_failure": spec["customer"],
            "stage": "raw",
        },
    ]
    more = {name: spec[name] for name in ("duplicates", "late", "cleanup")}
    return make_domain(path, contract=contract, may_be_empty=True, **more)


def do(operation: str, domain: DomainSpec, here: Settings) -> None:
    match operation:
        case "ingest":
            ingest_partition(domain, "orders", KEY, settings=here, now=NOW)
        case "validate":
            validate_partition(domain, "orders", KEY, settings=here, now=NOW)
        case "revalidate":
            replay(domain, "orders", settings=here, by="ann", now=NOW)
        case "waive":
            because: dict[str, Any] = {"action": "waive", "by": "ann", "reason": "they are right"}
            replay(domain, "orders", settings=here, reasons=MEANT, now=NOW, **because)
        case "reopen":
            back: dict[str, Any] = {"action": "reopen", "by": "ann", "reason": "a mistake"}
            replay(domain, "orders", settings=here, reasons=MEANT, now=NOW, **back)


def check(here: Settings, domain: DomainSpec) -> None:
    found = count_rows(domain, "orders", settings=here)
    assert found["source"] == found["clean"] + found["quarantined"]
    entries = [
        row
        for key in (KEY, "unassigned")
        for row in read_quarantine(Table(here.lake, "shop/quarantine/orders"), key)[2].to_pylist()
    ]
    assert max(Counter(row["row_id"] for row in entries).values(), default=1) == 1
    keys = Table(here.lake, "shop/clean/orders").read()["order"].to_pylist()
    assert len(keys) == len(set(keys))


def outcome(here: Settings) -> tuple[Any, ...]:
    clean = Table(here.lake, "shop/clean/orders").read().to_pylist()
    entries = read_quarantine(Table(here.lake, "shop/quarantine/orders"), KEY)[2]
    waiting = entries.select(["row_id", "status", "resolution", "reasons"]).to_pylist()
    return sorted(map(repr, clean)), sorted(map(repr, waiting))


@profile(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.tuples(FILE, FILE),
    spec=SPEC,
    operations=st.lists(OPERATION, max_size=4),
    repeated=st.lists(st.sampled_from(["ingest", "validate"]), max_size=3),
)
def test_every_record_is_clean_or_waits_once_whatever_is_done_in_whatever_order(
    settings: Settings,
    files: tuple[list[str], list[str]],
    spec: dict[str, Any],
    operations: list[str],
    repeated: list[str],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        here = dataclasses.replace(
            settings, lake=f"{name}/lake", reports=Path(name) / "reports", state_url=f"sqlite:///{name}/state.db"
        )
        path = write_orders(Path(name), "\n".join(files[0]) + "\n")
        domain = domain_of(path, spec)
        do("ingest", domain, here)
        do("validate", domain, here)
        check(here, domain)
        for operation in operations:
            if operation == "next delivery":
                write_orders(Path(name), "\n".join(files[1]) + "\n")
                do("ingest", domain, here)
                do("validate", domain, here)
                continue
            try:
                do(operation, domain, here)
            except MillraceError as error:  # a waiver that cannot be given is refused, and changes nothing
                assert operation == "waive", error
        do("ingest", domain, here)
        do("validate", domain, here)
        check(here, domain)
        before = outcome(here)
        for operation in [*repeated, "ingest", "validate"]:
            do(operation, domain, here)
        check(here, domain)
        assert outcome(here) == before
