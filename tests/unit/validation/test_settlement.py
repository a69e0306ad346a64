from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from millrace.validation.quarantine import SCHEMA
from millrace.validation.settlement import close, decide, opened, set_aside, settle, unsettled

MONDAY = datetime(2020, 1, 6, tzinfo=UTC)
IDS = [f"row{number}" for number in range(6)]


def entries(ids: Mapping[str, str] | list[str], *, now: datetime = MONDAY) -> pa.Table:
    """Open entries: id → reason."""
    named = ids if isinstance(ids, Mapping) else dict.fromkeys(ids, "e")
    rows = [
        {"row_id": row_id, "kind": "row", "raw": f'"{row_id}"', "reasons": why, "status": "open", "resolution": ""}
        | {"first_seen": now, "resolved_by": "", "resolved_reason": "", "partition": "2020-01"}
        for row_id, why in sorted(named.items())
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def states(found: pa.Table) -> dict[str, str]:
    rows = found.select(["row_id", "status", "resolution"]).to_pylist()
    assert len({row["row_id"] for row in rows}) == len(rows)
    assert [row["row_id"] for row in rows] == sorted(row["row_id"] for row in rows)
    assert all((row["status"] == "open") == (row["resolution"] == "") for row in rows)
    return {row["row_id"]: row["resolution"] or "open" for row in rows}


def after(previous: pa.Table, failing: list[str], present: list[str] | None = None, **more: Any) -> pa.Table:
    return settle(previous, entries(failing), IDS if present is None else present, now=MONDAY, **more)


def test_a_row_that_fails_for_the_first_time_is_open() -> None:
    assert states(settle(None, entries(["row1"]), set(), now=MONDAY)) == {"row1": "open"}


def test_an_open_row_that_fails_no_more_is_revalidated_or_superseded_by_whether_it_is_there() -> None:
    found = after(entries(["row0", "row1", "row2"]), ["row2"], ["row0"])
    assert states(found) == {"row0": "revalidated", "row1": "superseded", "row2": "open"}
    assert {row["resolved_by"] for row in found.to_pylist()} == {"validation", ""}


def test_waived_and_corrected_rows_stay_closed_when_they_fail_again_and_when_they_are_gone() -> None:
    before = decide(entries(["row0"]), {"row0": "waived"}, by="ann", reason="known", now=MONDAY)
    before = pa.concat_tables(
        [
            before,
            decide(entries(["row1"]), {"row1": "corrected"}, by="bob", reason="", now=MONDAY, corrected={"row1": "{}"}),
        ]
    )
    for failing in (["row0", "row1"], []):
        found = after(before, failing, [])
        assert states(found) == {"row0": "waived", "row1": "corrected"}
        assert found["corrected"].to_pylist() == [None, "{}"]
    assert states(after(before, ["row0"], lost={"row0"})) == {"row0": "open", "row1": "corrected"}


def test_a_revalidated_row_that_fails_again_is_open_again_since_it_was_first_seen() -> None:
    tuesday = MONDAY + timedelta(days=1)
    before = after(entries(["row0"]), [])
    found = settle(before, entries({"row0": "another"}, now=tuesday), set(), now=tuesday)
    assert states(found) == {"row0": "open"}
    assert [(row["first_seen"], row["reasons"]) for row in found.to_pylist()] == [(MONDAY, "another")]


def test_deciding_closes_open_rows_and_leaves_closed_ones() -> None:
    before = after(entries(["row0", "row1"]), ["row1"])
    found = decide(before, {"row0": "waived", "row1": "waived"}, by="ann", reason="known", now=MONDAY)
    assert states(found) == {"row0": "revalidated", "row1": "waived"}
    row = found.to_pylist()[1]
    assert (row["resolved_by"], row["resolved_reason"], row["resolved_at"]) == ("ann", "known", MONDAY)


def test_setting_rows_aside_reopens_what_was_decided() -> None:
    before = decide(entries(["row0", "row2"]), {"row0": "waived"}, by="ann", reason="known", now=MONDAY)
    found = set_aside(before, entries(["row0", "row1"], now=MONDAY + timedelta(days=1)))
    assert states(found) == {"row0": "open", "row1": "open", "row2": "open"}
    assert found["first_seen"].to_pylist() == [MONDAY, MONDAY + timedelta(days=1), MONDAY]


def test_only_open_rows_that_fail_no_more_are_asked_for_in_the_source() -> None:
    before = pa.concat_tables(
        [entries(["row0", "row1"]), close(entries(["row2"]), "waived", by="a", reason="b", now=MONDAY)]
    )
    assert unsettled(before, entries(["row1"]))["row_id"].to_pylist() == ["row0"]


SOME = st.sets(st.sampled_from(IDS))
RESOLUTION = st.sampled_from(["waived", "corrected", "revalidated"])
EVENT = st.one_of(
    st.tuples(st.just("validate"), SOME, SOME),
    st.tuples(st.just("decide"), st.dictionaries(st.sampled_from(IDS), RESOLUTION), st.just(None)),
)


@profile(max_examples=150, deadline=None)
@given(events=st.lists(EVENT, max_size=8))
def test_through_any_history_every_row_in_the_source_is_clean_or_open_and_settling_again_changes_nothing(
    events: list[Any],
) -> None:
    table, held = SCHEMA.empty_table(), set()
    for kind, one, other in events:
        if kind == "decide":
            table = decide(table, one, by="ann", reason="r", now=MONDAY)
            assert decide(table, one, by="bob", reason="q", now=MONDAY).equals(table)
            held = {row_id for row_id, state in states(table).items() if state in ("waived", "corrected")}
            continue
        present, failing = one, one & other
        found = settle(table, entries(sorted(failing)), present, now=MONDAY)
        state = states(found)
        assert {row_id for row_id in present if state.get(row_id) == "open"} == failing - held
        assert all(row_id in failing for row_id in states(opened(found)))
        assert held == {row_id for row_id, each in state.items() if each in ("waived", "corrected")}
        assert settle(found, entries(sorted(failing)), present, now=MONDAY + timedelta(days=1)).equals(found)
        table = found


@profile(max_examples=60, deadline=None)
@given(failing=SOME, decisions=st.dictionaries(st.sampled_from(IDS), RESOLUTION), data=st.data())
def test_the_order_of_retries_is_irrelevant(failing: set[str], decisions: dict[str, str], data: st.DataObject) -> None:
    start = settle(None, entries(sorted(failing)), IDS, now=MONDAY)
    together = decide(start, decisions, by="ann", reason="r", now=MONDAY)
    for row_id in data.draw(st.permutations(sorted(decisions))):
        start = decide(start, {row_id: decisions[row_id]}, by="ann", reason="r", now=MONDAY)
    assert start.equals(together)
