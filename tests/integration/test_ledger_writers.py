"""The ledger on both databases: one chain whoever writes, one set of tables whoever starts first."""

from __future__ import annotations

import dataclasses
import os
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import text
from tests.children import statuses
from tests.unit.governance.proposal import digest, record_proven

from millrace.errors import LedgerError, ReleaseRefusedError
from millrace.governance.audit import require_whole
from millrace.governance.ledger import Ledger
from millrace.governance.migration import migrate
from millrace.governance.monitor_result import MonitorResults
from millrace.governance.proof import prove_in_force
from millrace.governance.release import Release
from millrace.governance.state import LEDGER, engine_of, exclusive, reading, start_writing, writing
from millrace.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
T = datetime(2013, 4, 1, 4, tzinfo=UTC)
RELEASE = Release(
    use_case="flight_delay",
    version=1,
    package=digest("package"),
    candidate="xgboost",
    trainer="xgboost",
    trained_through="2013-02",
    holdout="2013-03",
    effective_at="2013-04-01T04:00:00Z",
    evidence="",
    policy="",
    feature_service="service_v1",
    threshold=0.5,
    reference=digest("reference"),
)


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "sqlite":
        return settings
    return dataclasses.replace(settings, state_url=request.getfixturevalue("postgres_schema_url"))


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


def write_many(settings: Settings, writer: int, each: int) -> None:
    ledger = Ledger(settings)
    for number in range(each):
        append(ledger, writer, number)
        append(ledger, 100, number // 5)  # every writer tries the same decisions too


def write_at_once(settings: Settings, writers: int, each: int) -> float:
    ledger = Ledger(settings)
    append(ledger, 99, 0)
    started = time.monotonic()
    assert statuses(*(partial(write_many, settings, writer, each) for writer in range(writers))) == [0] * writers
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
    assert statuses(*[partial(migrate, state)] * 4) == [0] * 4
    assert statuses(*(partial(write_many, state, one, 1) for one in range(3))) == [0] * 3
    assert Ledger(state).verify().entries == 4


def die_before_the_commit(settings: Settings) -> None:
    with start_writing(engine_of(settings.state_url)) as connection:
        Ledger(settings).append(
            "released", use_case="u", subject="s", effective_at=T, actor="a", payload={}, connection=connection
        )
        os._exit(9)


def test_a_writer_killed_in_its_transaction_leaves_no_trace(state: Settings) -> None:
    ledger = Ledger(state)
    append(ledger, 1, 0)
    assert statuses(partial(die_before_the_commit, state)) == [9]
    assert append(ledger, 1, 1) == 2
    assert ledger.verify().verified


def execute(settings: Settings, *statements: str) -> None:
    with start_writing(engine_of(settings.state_url)) as connection:
        for statement in statements:
            assert connection.execute(text(statement)).rowcount == 1, statement


def named(settings: Settings) -> int | None:
    broken = Ledger(settings).verify().broken
    return None if broken is None else broken.seq


COLUMNS = ("recorded_at", "effective_at", "kind", "use_case", "subject", "actor", "payload", "key", "previous", "hash")
TAMPERED = {
    **{
        f"one byte of {name}": (f"UPDATE ledger SET {name} = substr({name}, 1, 2) || '~' || substr({name}, 4)",)
        for name in COLUMNS
    },
    "its number": ("UPDATE ledger SET seq = 99",),
    "deleted": ("DELETE FROM ledger",),
    "swapped": (
        "UPDATE ledger SET seq = -1",
        "UPDATE ledger SET seq = 3 WHERE seq = 5",
        "UPDATE ledger SET seq = 5 WHERE seq = -1",
    ),
}


def test_whatever_is_done_to_a_row_it_is_named_and_proves_nothing_any_more(state: Settings) -> None:
    ledger = Ledger(state)
    for number in range(6):
        append(ledger, 1, number)
    assert named(state) is None
    with reading(state) as connection:
        require_whole(connection)
        whole = [dict(row) for row in connection.execute(text("SELECT * FROM ledger ORDER BY seq")).mappings()]
    for what, (first, *others) in TAMPERED.items():
        execute(state, f"{first} WHERE seq = 3", *others)
        assert named(state) == 3, what
        with reading(state) as connection, pytest.raises(LedgerError, match="entry 3"):
            require_whole(connection)
        with start_writing(engine_of(state.state_url)) as connection:
            connection.execute(LEDGER.delete())
            connection.execute(LEDGER.insert(), whole)
        assert named(state) is None


def test_a_release_is_proven_on_both_databases(state: Settings) -> None:
    release = record_proven(state, RELEASE)
    found = prove_in_force("flight_delay", settings=state)
    assert found is not None and found.release == release
    execute(state, "UPDATE release SET threshold = 0.1")
    with pytest.raises(ReleaseRefusedError, match="broken at entry 4"):
        prove_in_force("flight_delay", settings=state)
    assert named(state) == 4


def write_then_tell(settings: Settings, one: int) -> None:
    for number in range(25):
        append(Ledger(settings), one, number)
    (settings.var / f"done.{one}").touch()


def look_until_told(settings: Settings, writers: int) -> None:
    while len(list(settings.var.glob("done.*"))) < writers:
        assert Ledger(settings).verify().verified
        assert prove_in_force("flight_delay", settings=settings) is not None


def test_what_is_written_meanwhile_breaks_no_proof_and_no_check(state: Settings) -> None:
    record_proven(state, RELEASE)
    writers = [partial(write_then_tell, state, one) for one in (1, 2)]
    assert statuses(partial(look_until_told, state, 2), *writers) == [0, 0, 0]
    assert Ledger(state).verify().entries == 4 + 50


def test_a_decision_and_the_result_it_is_about_are_written_both_or_not_at_all(state: Settings) -> None:
    results = MonitorResults(state)
    with pytest.raises(RuntimeError), writing(state) as connection:
        results.put("u", "p", "decision", {"retrain": True}, connection=connection)
        Ledger(state).append(
            "retrain_decided",
            use_case="u",
            subject="p",
            effective_at=T,
            actor="system",
            payload={},
            connection=connection,
        )
        raise RuntimeError("killed")
    assert results.get("u", "p", "decision") is None
    assert Ledger(state).entries() == []


def test_text_of_any_kind_comes_back_as_it_was(state: Settings) -> None:
    payload = {"ключ": "naïve 🚂 \u2028 \\ ' \" \n", "number": 0.1 + 0.2, "none": None, "nested": {"b": [1, {"a": 2}]}}
    ledger = Ledger(state)
    entry = ledger.append("waiver", use_case="u", subject="π", effective_at=T, actor="Ö", payload=payload)
    assert ledger.entries() == [entry]
    assert entry.payload == payload
    assert ledger.verify().verified


def add_five(settings: Settings) -> None:
    results = MonitorResults(settings)
    for _ in range(5):
        with exclusive(settings, "count"):
            found = results.get("u", "p", "count") or {}
            results.put("u", "p", "count", {"n": found["n"] + 1})


def test_a_name_is_held_by_one_at_a_time_and_results_are_replaced(state: Settings) -> None:
    results = MonitorResults(state)
    results.put("u", "p", "count", {"n": 0})
    assert statuses(*[partial(add_five, state)] * 3) == [0] * 3
    assert results.get("u", "p", "count") == {"n": 15}
