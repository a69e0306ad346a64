from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.artifact import canonical
from millrace.governance.chain import GENESIS, HASHED, link, walk

SMALL = settings(max_examples=40, deadline=None)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
CHAINS = st.lists(
    st.tuples(TEXTS, TEXTS, st.dictionaries(TEXTS, st.integers(0, 9), max_size=2)), min_size=2, max_size=8
)


def chain_of(contents: list[tuple[str, str, dict[str, int]]]) -> list[dict[str, Any]]:
    rows, previous = [], GENESIS
    for number, (subject, actor, payload) in enumerate(contents, 1):
        row = {
            "seq": number,
            "recorded_at": "2026-01-01T00:00:00.000000Z",
            "effective_at": "2013-04-01T04:00:00.000000Z",
            "kind": "released",
            "use_case": "flight_delay",
            "subject": subject,
            "actor": actor,
            "payload": canonical(payload).decode(),
            "key": str(number),
            "previous": previous,
        }
        row["hash"] = previous = link(row["previous"], row)
        rows.append(row)
    return rows


@SMALL
@given(CHAINS)
def test_an_untouched_chain_is_whole_and_every_hash_of_it_is_found(contents: list[Any]) -> None:
    rows = chain_of(contents)
    for row in rows:
        report = walk(rows, look_for=row["hash"])
        assert report.broken is None and report.seen
    assert report.head == rows[-1]["hash"]
    assert report.entries == len(rows)


@SMALL
@given(CHAINS, st.data())
def test_a_part_of_a_chain_is_checked_from_the_hash_before_it(contents: list[Any], data: st.DataObject) -> None:
    rows = chain_of(contents)
    first = data.draw(st.integers(0, len(rows) - 1))
    before = rows[first - 1]["hash"] if first else GENESIS
    report = walk(rows[first:], after=first, previous=before)
    assert (report.entries, report.head, report.broken) == (len(rows) - first, rows[-1]["hash"], None)
    other = walk(rows[first:], after=first, previous="f" * 64)
    assert other.broken is not None and other.broken.seq == first + 1


@SMALL
@given(CHAINS, st.data())
def test_one_flipped_bit_anywhere_names_its_row(contents: list[Any], data: st.DataObject) -> None:
    rows = chain_of(contents)
    place = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.sampled_from([*HASHED[1:], "previous", "hash"]))
    text = rows[place][field]
    if not text:
        text = "?"
        rows[place][field] = text
    else:
        at = data.draw(st.integers(0, len(text) - 1))
        rows[place][field] = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
    report = walk(rows)
    assert report.broken is not None
    assert report.broken.seq == place + 1
    assert report.head == (rows[place - 1]["hash"] if place else GENESIS)


@SMALL
@given(CHAINS, st.data())
def test_a_deleted_row_is_named_by_its_number(contents: list[Any], data: st.DataObject) -> None:
    rows = chain_of(contents)
    place = data.draw(st.integers(0, len(rows) - 2))
    report = walk(rows[:place] + rows[place + 1 :])
    assert report.broken is not None
    assert report.broken.seq == place + 1
    assert "missing" in report.broken.reason


@SMALL
@given(CHAINS, st.data())
def test_two_swapped_rows_are_found_at_the_first_of_them(contents: list[Any], data: st.DataObject) -> None:
    rows = chain_of(contents)
    one = data.draw(st.integers(0, len(rows) - 2))
    other = data.draw(st.integers(one + 1, len(rows) - 1))
    moved = [dict(row) for row in rows]
    moved[one], moved[other] = {**rows[other], "seq": one + 1}, {**rows[one], "seq": other + 1}
    report = walk(moved)
    assert report.broken is not None
    assert report.broken.seq == one + 1


@SMALL
@given(CHAINS, st.data())
def test_a_rewritten_row_with_a_fresh_hash_breaks_at_the_next(contents: list[Any], data: st.DataObject) -> None:
    rows = chain_of(contents)
    place = data.draw(st.integers(0, len(rows) - 2))
    rows[place]["actor"] += "!"
    rows[place]["hash"] = link(rows[place]["previous"], rows[place])
    report = walk(rows, look_for=chain_of(contents)[place]["hash"])
    assert report.broken is not None
    assert report.broken.seq == place + 2
    assert not report.seen


def test_a_field_of_another_type_is_a_break_not_a_crash() -> None:
    rows = chain_of([("a", "b", {}), ("c", "d", {})])
    rows[1]["actor"] = b"bytes"
    report = walk(rows)
    assert report.broken is not None
    assert report.broken.seq == 2


@pytest.mark.parametrize("look_for", [GENESIS, "f" * 64])
def test_an_empty_chain_holds_nothing_but_the_beginning(look_for: str) -> None:
    report = walk([], look_for=look_for)
    assert (report.entries, report.head, report.broken) == (0, GENESIS, None)
    assert report.seen is (look_for == GENESIS)
