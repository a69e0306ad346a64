"""The as-of join against a brute-force one in plain Python."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.features.asof import History, match, newest

Fact = tuple[str | None, int, int | None, float | None]
FACTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.integers(0, 12),
        st.none() | st.integers(0, 14),
        st.none() | st.sampled_from([0.0, 1.0, math.nan]),
    ),
    max_size=14,
)
ENTITIES = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(-1, 16)), max_size=10)


def history(facts: list[Fact], *, bounds_use: bool) -> History:
    moments = pa.timestamp("us", "UTC")
    return History(
        keys=[pa.array([fact[0] for fact in facts], pa.string())],
        event_timestamp=pa.array([fact[1] for fact in facts], pa.int64()).cast(moments),
        known_at=pa.array([fact[2] for fact in facts], pa.int64()).cast(moments),
        bounds_use=bounds_use,
        values=lambda rows: [pa.array([fact[3] for fact in facts], pa.float64()).take(rows)],
    )


def order(fact: Fact) -> tuple[int, int, tuple[int, float]]:
    _, event, known, value = fact
    rank = (0, 0.0) if value is None else (2, 0.0) if math.isnan(value) else (1, value)
    return event, event if known is None else known, rank


def expected(facts: list[Fact], key: str | None, at: int, ttl: int, *, bounds_use: bool) -> Fact | None:
    usable = [
        fact
        for fact in facts
        if fact[0] == key and key is not None and fact[1] <= at and (not bounds_use or (fact[2] or fact[1]) <= at)
    ]
    best = max(usable, key=order, default=None)
    return best if best is not None and (not ttl or at - best[1] <= ttl) else None


def told(facts: list[Fact], found: Any) -> list[Any]:
    return [None if number is None else (facts[number][0], *order(facts[number])) for number in found.to_pylist()]


def shown(fact: Fact | None) -> Any:
    return None if fact is None else (fact[0], *order(fact))


@pytest.mark.parametrize("bounds_use", [True, False])
@given(facts=FACTS, entities=ENTITIES, ttl=st.sampled_from([0, 1, 3, 100]))
@settings(max_examples=70, deadline=None)
def test_every_row_gets_the_newest_fact_known_by_then(
    bounds_use: bool, facts: list[Fact], entities: list[tuple[str | None, int]], ttl: int
) -> None:
    found = match(
        history(facts, bounds_use=bounds_use),
        keys=[pa.array([key for key, _ in entities], pa.string())],
        at=pa.array([at for _, at in entities], pa.int64()),
        ttl_us=ttl,
    )
    assert told(facts, found) == [shown(expected(facts, key, at, ttl, bounds_use=bounds_use)) for key, at in entities]


@given(facts=FACTS, at=st.integers(0, 16), ttl=st.sampled_from([0, 2]))
@settings(max_examples=40, deadline=None)
def test_the_newest_of_each_key_is_what_a_row_at_that_instant_gets(facts: list[Fact], at: int, ttl: int) -> None:
    kept = [fact for fact in facts if fact[0] is not None]
    found = told(kept, newest(history(kept, bounds_use=True), at=at, ttl_us=ttl))
    wanted = [shown(expected(kept, key, at, ttl, bounds_use=True)) for key in ("a", "b")]
    assert sorted(map(repr, found)) == sorted(repr(item) for item in wanted if item is not None)


@given(facts=FACTS, entities=ENTITIES, data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_order_of_facts_in_their_files_plays_no_role(
    facts: list[Fact], entities: list[tuple[str | None, int]], data: st.DataObject
) -> None:
    mixed = data.draw(st.permutations(facts))
    keys = [pa.array([key for key, _ in entities], pa.string())]
    at = pa.array([at for _, at in entities], pa.int64())
    first = told(facts, match(history(facts, bounds_use=True), keys=keys, at=at))
    assert told(mixed, match(history(mixed, bounds_use=True), keys=keys, at=at)) == first


def test_a_newer_event_that_is_not_known_yet_leaves_the_older_one_in_use() -> None:
    facts: list[Fact] = [("a", 1, 1, 1.0), ("a", 5, 9, 5.0), ("a", 6, 7, 6.0)]
    at = pa.array([4, 6, 7, 8, 9, 10], pa.int64())
    found = match(history(facts, bounds_use=True), keys=[pa.array(["a"] * 6)], at=at)
    assert found.to_pylist() == [0, 0, 2, 2, 2, 2]


def test_a_view_without_entities_gives_every_row_the_newest_fact() -> None:
    moments = pa.array([1, 5], pa.int64()).cast(pa.timestamp("us", "UTC"))
    facts = History(keys=[], event_timestamp=moments)
    assert match(facts, keys=[], at=pa.array([0, 1, 6], pa.int64())).to_pylist() == [None, 0, 1]
    assert newest(facts, at=4).to_pylist() == [0]
