from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.governance.person import LONGEST_TEXT, different_people, fault_of, key_of, plain_text, same_person


@dataclass(frozen=True)
class Act:
    actor: str


@given(st.text(max_size=20))
def test_a_name_is_its_own_and_its_key_is_stable(name: str) -> None:
    assert same_person(name, name)
    assert same_person(f" {name} ", name)
    assert key_of(key_of(name)) == key_of(name)


@given(st.lists(st.sampled_from(["ann", "Ann ", "bob", "BOB", "", "Ａnn", "carl"])), st.sampled_from(["ann", "bob"]))
def test_nobody_is_counted_twice_and_nobody_who_is_barred(names: list[str], barred: str) -> None:
    counted = [act.actor for act in different_people([Act(name) for name in names], [barred])]
    keys = [key_of(name) for name in counted]
    assert len(keys) == len(set(keys))
    assert set(keys) == {key_of(name) for name in names} - {"", barred}


@given(st.text(st.characters(), max_size=5_000))
def test_whatever_people_write_can_be_kept_and_is_bounded(text: str) -> None:
    kept = plain_text(text)
    assert len(kept) <= LONGEST_TEXT
    assert kept.encode() is not None
    assert plain_text(kept) == kept


@pytest.mark.parametrize("name", ["", "  ", "policy:low", "Policy:x", "a\u200bb", "a\ud800"])
def test_what_is_no_persons_name_is_told(name: str) -> None:
    assert fault_of(name)
