from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sqlite3
import time
import traceback
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.children import Child, answer

from millrace.errors import LedgerError, SettingsError, StateUnavailableError
from millrace.governance.audit import require_whole
from millrace.governance.chain import GENESIS
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.state import engine_of, exclusive, reading, stamp, writing
from millrace.settings import Settings

T = datetime(2013, 4, 1, 4, tzinfo=UTC)


def append(ledger: Ledger, number: int, **changed: Any) -> Entry:
    values = {
        "use_case": "flight_delay",
        "subject": f"2013-{number:02d}",
        "effective_at": T + timedelta(days=number),
        "actor": "system",
        "payload": {"retrain": False, "psi": 0.1 * number},
    }
    return ledger.append("retrain_decided", **{**values, **changed})


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    found = Ledger(settings)
    for number in range(1, 6):
        append(found, number)
    return found


def tamper(settings: Settings, *statements: str) -> None:
    connection = sqlite3.connect(settings.state_url.removeprefix("sqlite:///"))
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_entries_are_numbered_chained_and_verified(ledger: Ledger) -> None:
    entries = ledger.entries()
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.previous for entry in entries] == [GENESIS, *(entry.hash for entry in entries[:-1])]
    assert ledger.head() == entries[-1].hash
    report = ledger.verify()
    assert (report.entries, report.verified, report.broken) == (5, True, None)


def test_the_same_decision_is_written_once_whoever_runs_it_again(ledger: Ledger) -> None:
    head = ledger.head()
    assert append(ledger, 3, actor="bob").seq == 3
    assert ledger.head() == head


def test_a_key_leaves_out_what_differs_from_run_to_run(ledger: Ledger) -> None:
    first = append(ledger, 9, key="k", payload={"commit": "a"})
    again = append(ledger, 9, key="k", payload={"commit": "b"})
    assert again == first
    assert again.payload == {"commit": "a"}


def test_a_key_used_for_another_subject_is_a_contradiction(ledger: Ledger) -> None:
    append(ledger, 9, key="k")
    with pytest.raises(LedgerError, match="2013-09"):
        append(ledger, 10, key="k")


def test_keys_are_apart_by_use_case_and_kind(ledger: Ledger) -> None:
    seen = {
        append(ledger, 9, key="k").seq,
        append(ledger, 9, key="k", use_case="flight_duration").seq,
        ledger.append(
            "deployed", use_case="flight_delay", subject="x", effective_at=T, actor="a", payload={}, key="k"
        ).seq,
    }
    assert seen == {6, 7, 8}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"effective_at": datetime(2013, 4, 1)}, "no time zone"),
        ({"payload": {"x": object()}}, "JSON"),
        ({"payload": {"x": {1, 2}}}, "JSON"),
    ],
)
def test_what_cannot_be_an_entry_is_refused_and_leaves_nothing(
    ledger: Ledger, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(LedgerError) as caught:
        append(ledger, 7, **changed)
    assert said in str(caught.value)
    assert len(ledger.entries()) == 5


def test_an_unknown_kind_names_the_one_that_was_meant(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="did you mean 'released'"):
        ledger.append("release", use_case="u", subject="s", effective_at=T, actor="a", payload={})


def test_entry_and_state_are_one_transaction(ledger: Ledger) -> None:
    with pytest.raises(RuntimeError), writing(ledger.settings) as connection:
        append(ledger, 8, connection=connection)
        raise RuntimeError("killed")
    assert len(ledger.entries()) == 5
    assert ledger.verify().verified


@pytest.mark.parametrize(
    "column",
    ["recorded_at", "effective_at", "kind", "use_case", "subject", "actor", "payload", "key", "previous", "hash"],
)
def test_one_changed_byte_names_the_row(ledger: Ledger, column: str) -> None:
    tamper(
        ledger.settings,
        f"UPDATE ledger SET {column} = substr({column}, 1, 2) || '~' || substr({column}, 4) WHERE seq = 3",
    )
    report = ledger.verify()
    assert not report.verified
    assert report.broken is not None and report.broken.seq == 3


def test_a_payload_that_is_the_same_json_in_other_bytes_is_found(ledger: Ledger) -> None:
    tamper(ledger.settings, "UPDATE ledger SET payload = payload || ' ' WHERE seq = 2")
    report = ledger.verify()
    assert report.broken is not None and report.broken.seq == 2


@pytest.mark.parametrize("column", ["kind", "actor", "payload", "hash"])
def test_a_byte_that_is_no_text_any_more_names_the_row(ledger: Ledger, column: str) -> None:
    tamper(
        ledger.settings,
        f"UPDATE ledger SET {column} = CAST(x'ff' || substr(CAST({column} AS BLOB), 2) AS TEXT) WHERE seq = 3",
    )
    report = ledger.verify()
    assert report.broken is not None and report.broken.seq == 3


def test_one_flipped_bit_of_the_file_names_the_row(ledger: Ledger) -> None:
    tamper(ledger.settings, "PRAGMA wal_checkpoint(TRUNCATE)")
    path = Path(ledger.settings.state_url.removeprefix("sqlite:///"))
    content = bytearray(path.read_bytes())
    found = content.index(b'"psi":0.4')
    for bit in range(8):
        flipped = bytearray(content)
        flipped[found + len(b'"psi":0.')] ^= 1 << bit
        path.write_bytes(flipped)
        report = ledger.verify()
        assert report.broken is not None and report.broken.seq == 4
    path.write_bytes(content)
    assert ledger.verify().verified


def test_a_damaged_file_is_said_to_be_one(ledger: Ledger) -> None:
    path = Path(ledger.settings.state_url.removeprefix("sqlite:///"))
    tamper(ledger.settings, "PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(b"\0" * 16 + path.read_bytes()[16:])
    with pytest.raises(StateUnavailableError, match="the state database is damaged"):
        ledger.verify()


def test_an_entry_that_is_not_there_is_refused_with_those_that_are(ledger: Ledger, tmp_path: Path) -> None:
    with reading(ledger.settings) as connection:
        assert [ledger.get(seq, connection=connection).seq for seq in range(1, 6)] == [1, 2, 3, 4, 5]
        for seq in (-1, 0, 6, 99_999_999_999_999_999_999):
            with pytest.raises(LedgerError, match=f"no entry {seq}") as caught:
                ledger.get(seq, connection=connection)
            assert caught.value.remedy == "name one of 1 to 5"
    empty = dataclasses.replace(ledger.settings, state_url=f"sqlite:///{tmp_path / 'empty.db'}")
    with reading(empty) as connection, pytest.raises(LedgerError) as caught:
        Ledger(empty).get(99, connection=connection)
    assert "empty" in caught.value.remedy


def test_a_ledger_with_one_changed_row_is_not_whole_wherever_the_row_is(ledger: Ledger) -> None:
    with reading(ledger.settings) as connection:
        require_whole(connection)
    tamper(ledger.settings, "UPDATE ledger SET actor = 'systen' WHERE seq = 3")
    with reading(ledger.settings) as connection, pytest.raises(LedgerError, match="entry 3"):
        require_whole(connection)


def test_the_newest_entries_come_in_the_order_they_were_written(ledger: Ledger) -> None:
    assert [entry.seq for entry in ledger.entries(newest=2)] == [4, 5]
    assert ledger.entries(newest=99) == ledger.entries()


def test_an_entry_that_cannot_be_read_is_an_error_that_says_what_to_do(ledger: Ledger) -> None:
    tamper(ledger.settings, "UPDATE ledger SET payload = '{' WHERE seq = 2")
    with pytest.raises(LedgerError, match="entry 2 cannot be read") as caught:
        ledger.entries()
    assert "verify" in caught.value.remedy


def test_a_deleted_row_is_named(ledger: Ledger) -> None:
    tamper(ledger.settings, "DELETE FROM ledger WHERE seq = 2")
    report = ledger.verify()
    assert report.broken is not None and report.broken.seq == 2
    assert report.entries == 4


def test_two_swapped_rows_are_named_at_the_first(ledger: Ledger) -> None:
    tamper(
        ledger.settings,
        "UPDATE ledger SET seq = -1 WHERE seq = 2",
        "UPDATE ledger SET seq = 2 WHERE seq = 4",
        "UPDATE ledger SET seq = 4 WHERE seq = -1",
    )
    report = ledger.verify()
    assert report.broken is not None and report.broken.seq == 2


def test_a_cut_tail_is_told_by_the_head_row(ledger: Ledger) -> None:
    tamper(ledger.settings, "DELETE FROM ledger WHERE seq = 5")
    report = ledger.verify()
    assert report.broken is not None and report.broken.seq == 5


def test_a_tail_cut_with_its_head_is_told_by_a_head_kept_elsewhere(ledger: Ledger) -> None:
    kept, fourth = ledger.head(), ledger.entries()[3].hash
    tamper(ledger.settings, "DELETE FROM ledger WHERE seq = 5", f"UPDATE ledger_head SET seq = 4, hash = '{fourth}'")
    assert ledger.verify().verified
    report = ledger.verify(expected_head=kept)
    assert report.broken is not None and report.broken.seq == 5
    assert ledger.verify(expected_head=fourth).verified


def test_a_head_kept_elsewhere_stays_valid_as_the_chain_grows(ledger: Ledger) -> None:
    kept = ledger.head()
    append(ledger, 8)
    assert ledger.verify(expected_head=kept).verified


def test_an_exported_chain_can_be_checked_with_nothing_but_sha256(ledger: Ledger) -> None:
    append(ledger, 7, payload={"text": "é \n", "nested": {"b": [1, 2.5, None], "a": 1e-7}})
    previous = "0" * 64
    for line in ledger.export():
        record = json.loads(json.dumps(line))
        assert record.pop("previous") == previous
        claimed = record.pop("hash")
        compact = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
        record["payload"] = json.dumps(record["payload"], **compact).replace("1e-07", "1e-7")
        previous = hashlib.sha256((previous + json.dumps(record, **compact)).encode()).hexdigest()
        assert previous == claimed
    assert previous == ledger.head()


def test_the_clock_of_a_use_case_is_its_newest_effective_instant(ledger: Ledger) -> None:
    append(ledger, 2, use_case="flight_duration")
    assert ledger.newest_effective("flight_delay") == T + timedelta(days=5)
    assert ledger.newest_effective("flight_duration") == T + timedelta(days=2)
    assert ledger.newest_effective("nothing") is None


def test_entries_can_be_asked_for_by_use_case_kind_and_subject(ledger: Ledger) -> None:
    append(ledger, 2, use_case="flight_duration")
    assert [entry.seq for entry in ledger.entries("flight_duration")] == [6]
    assert [entry.seq for entry in ledger.entries("flight_delay", subject="2013-02")] == [2]
    assert ledger.entries(kinds=("released",)) == []


def test_stamps_sort_as_text_as_the_instants_do() -> None:
    moments = [T, T + timedelta(microseconds=1), T + timedelta(seconds=1), T.replace(year=2100)]
    assert sorted(map(stamp, moments)) == [stamp(moment) for moment in moments]
    assert {len(stamp(moment)) for moment in moments} == {27}


def append_and_fork(settings: Settings) -> int:
    """With a connection that both sides of the fork know of."""
    ledger = Ledger(settings)
    append(ledger, 6)
    child = os.fork()
    if child == 0:
        append(ledger, 7)
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    append(ledger, 8)
    return status


@pytest.mark.timeout(250)
def test_a_forked_process_appends_to_the_same_chain(settings: Settings, ledger: Ledger) -> None:
    assert answer(partial(append_and_fork, settings)) == 7
    assert [entry.subject for entry in ledger.entries()][-3:] == ["2013-06", "2013-07", "2013-08"]
    assert ledger.verify().verified


def note_when_held(settings: Settings, order: Path) -> None:
    with exclusive(settings, "version of b"):
        order.open("a").write("other name. ")
    with exclusive(settings, "version of a"):
        order.open("a").write("child.")


@pytest.mark.timeout(250)
def test_a_name_is_held_by_one_process_at_a_time(settings: Settings, tmp_path: Path) -> None:
    order = tmp_path / "order"
    order.touch()
    with exclusive(settings, "version of a"):
        child = Child(partial(note_when_held, settings, order))
        while not order.read_text() and child.runs:
            time.sleep(0.01)
        order.open("a").write("parent. ")
    ended = child.end()
    assert ended.status == 0, ended.error
    assert order.read_text() == "other name. parent. child."


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg2//me:geheim@host/db", "postgresql+psycopg2://me:geheim@host:port/db"]
)
def test_an_address_of_the_state_database_that_is_none_is_named_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="is not a database URL") as caught:
        engine_of(url)
    assert "geheim" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "nonsense"])
def test_a_state_database_that_cannot_work_is_refused_by_name(url: str) -> None:
    with pytest.raises(SettingsError, match="MILLRACE_STATE_URL"):
        engine_of(url)
