"""The ledger on both databases: one chain whoever writes, one set of tables whoever starts first."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from millrace.governance.ledger import Ledger
from millrace.governance.migration import migrate
from millrace.governance.monitor_result import MonitorResults
from millrace.governance.state import engine_of, exclusive, start_writing
from millrace.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]
T = datetime(2013, 4, 1, 4, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "sqlite":
        return settings
    return dataclasses.replace(settings, state_url=request.getfixturevalue("postgres_schema_url"))


def in_children(number: int, work: Callable[[int], object]) -> list[int]:
    children = []
    for one in range(number):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(one)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def append(ledger: Ledger, writer: int, number: int, key: str | None = None) -> int:
    return ledger.append(
        "retrain_decided",
        use_case=f"use_case_{writer}",
        subject=f"{writer}/{number}",
        effective_at=T + timedelta(days=number),
        actor="system",
        payload={"writer": writer, "share": number / 3},
        key=key,
    ).seq


def write_at_once(settings: Settings, writers: int, each: int) -> float:
    ledger = Ledger(settings)
    append(ledger, 99, 0)
    started = time.monotonic()

    def write(writer: int) -> None:
        for number in range(each):
            append(ledger, writer, number)
            append(ledger, 100, number // 5)  # every writer tries the same decisions too

    assert in_children(writers, write) == [0] * writers
    took = time.monotonic() - started
    shared = -(-each // 5)
    report = ledger.verify()
    assert (report.entries, report.verified) == (1 + writers * each + shared, True)
    for writer in range(writers):
        mine = [entry.payload["writer"] for entry in ledger.entries(f"use_case_{writer}")]
        assert mine == [writer] * each
    return took


def test_four_writers_keep_one_chain(state: Settings) -> None:
    write_at_once(state, 4, 50)


@pytest.mark.full
def test_eight_writers_of_two_hundred_keep_one_chain(state: Settings) -> None:
    took = write_at_once(state, 8, 200)
    print(f"{engine_of(state.state_url).dialect.name}: 8 x 200 in {took:.1f} s")


def test_processes_that_start_at_once_find_one_set_of_tables(state: Settings) -> None:
    assert in_children(4, lambda _: migrate(state)) == [0] * 4
    assert in_children(3, lambda one: append(Ledger(state), one, 0)) == [0] * 3
    assert Ledger(state).verify().entries == 3


def test_a_writer_killed_in_its_transaction_leaves_no_trace(state: Settings) -> None:
    ledger = Ledger(state)
    append(ledger, 1, 0)

    def die(_: int) -> None:
        with start_writing(engine_of(state.state_url)) as connection:
            ledger.append(
                "released", use_case="u", subject="s", effective_at=T, actor="a", payload={}, connection=connection
            )
            os._exit(9)

    assert in_children(1, die) == [9]
    assert append(ledger, 1, 1) == 2
    assert ledger.verify().verified


def test_a_changed_and_a_missing_row_are_named(state: Settings) -> None:
    ledger = Ledger(state)
    for number in range(5):
        append(ledger, 1, number)
    with start_writing(engine_of(state.state_url)) as connection:
        connection.execute(text("UPDATE ledger SET actor = 'systen' WHERE seq = 4"))
    report = ledger.verify()
    assert report.broken is not None and report.broken.seq == 4
    with start_writing(engine_of(state.state_url)) as connection:
        connection.execute(text("DELETE FROM ledger WHERE seq = 2"))
    report = ledger.verify()
    assert report.broken is not None and report.broken.seq == 2


def test_text_of_any_kind_comes_back_as_it_was(state: Settings) -> None:
    payload = {"ключ": "naïve 🚂 \u2028 \\ ' \" \n", "number": 0.1 + 0.2, "none": None, "nested": {"b": [1, {"a": 2}]}}
    ledger = Ledger(state)
    entry = ledger.append("waiver", use_case="u", subject="π", effective_at=T, actor="Ö", payload=payload)
    assert ledger.entries() == [entry]
    assert entry.payload == payload
    assert ledger.verify().verified


def test_a_name_is_held_by_one_at_a_time_and_results_are_replaced(state: Settings) -> None:
    results = MonitorResults(state)
    results.put("u", "p", "count", {"n": 0})

    def add_one(_: int) -> None:
        for _round in range(5):
            with exclusive(state, "count"):
                found = results.get("u", "p", "count") or {}
                results.put("u", "p", "count", {"n": found["n"] + 1})

    assert in_children(3, add_one) == [0] * 3
    assert results.get("u", "p", "count") == {"n": 15}
