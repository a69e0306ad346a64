"""Our offline store through Feast's API against a brute-force join, and against Feast's own where that is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract import offline_stores as given_by
from tests.contract.offline_stores import Fact, moment, repo, write_facts

pytestmark = pytest.mark.integration
REFS = [f"{view}:{feature}" for view in ("one", "two", "none") for feature in ("v", "w")]
KEYS, NUMBERS = st.sampled_from(["a", "b", "ü", None]), st.sampled_from([1, 2, 2**40, None])
VALUES = st.sampled_from([0.0, 1.0, -1.5, float("nan"), None])
TEXTS = st.sampled_from(["", "x", "y", None])
FACTS = st.lists(
    st.builds(Fact, k=KEYS, number=NUMBERS, at=st.integers(0, 9), made=st.none() | st.integers(0, 12), v=VALUES,
              w=TEXTS),
    max_size=16,
)  # fmt: skip
ROWS = st.lists(st.tuples(KEYS, NUMBERS, st.integers(-1, 14)), max_size=12)
ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("repo")
    for name in given_by.TTL_STEPS:
        write_facts(made / f"{name}.parquet", [])
    repo(made).apply(given_by.views(made))
    return made


@pytest.fixture(scope="module")
def stores(folder: Path) -> dict[str, Any]:
    """Ours with plenty of memory, and with so little that facts are read in parts and values gathered apart."""
    return {"roomy": repo(folder), "tight": repo(folder, memory_limit="2KB")}


def frame(rows: list[tuple[str | None, int | None, int]], zone: str) -> pa.Table:
    instants = pa.array([moment(at) for _, _, at in rows], given_by.INSTANT)
    return pa.table(
        {
            "row": pa.array(range(len(rows)), pa.int32()),
            "k": pa.array([k for k, _, _ in rows], pa.string()),
            "number": pa.array([number for _, number, _ in rows], pa.int64()),
            "event_timestamp": instants.cast(pa.timestamp("us", zone)),
        }
    )


def check_case(folder: Path, stores: dict[str, Any], data: st.DataObject) -> None:
    facts = {name: data.draw(FACTS, label=name) for name in given_by.TTL_STEPS}
    for name, held in facts.items():
        write_facts(folder / f"{name}.parquet", held)
    rows, bound = data.draw(ROWS, label="rows"), data.draw(st.booleans(), label="bound")
    entities = frame(rows, data.draw(ZONES, label="zone"))
    asked = entities.to_pandas() if data.draw(st.booleans(), label="pandas") else entities
    wanted = [
        [given_by.expected(facts[view], view, k, number, at, bound=bound) for view in given_by.TTL_STEPS]
        for k, number, at in rows
    ]
    refs = data.draw(st.lists(st.sampled_from(REFS), min_size=1, unique=True), label="refs")
    for name, store in stores.items():
        found = store.get_historical_features(asked, refs, True, filter_by_created_timestamp=bound).to_arrow()
        assert found.column("row").to_pylist() == list(range(len(rows))), name
        for ref in refs:
            view, _, feature = ref.partition(":")
            place = list(given_by.TTL_STEPS).index(view)
            told = found.column(f"{view}__{feature}").to_pylist()
            assert repr(told) == repr([row[place][feature == "w"] for row in wanted]), (name, ref)


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_row_gets_what_a_look_at_every_fact_gives(
    folder: Path, stores: dict[str, Any], data: st.DataObject
) -> None:
    check_case(folder, stores, data)


@pytest.mark.full
@pytest.mark.timeout(900)
@given(data=st.data())
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_row_of_many_more_cases_gets_what_a_look_at_every_fact_gives(
    folder: Path, stores: dict[str, Any], data: st.DataObject
) -> None:
    check_case(folder, stores, data)


def unlike(facts: list[Fact]) -> list[Fact]:
    """Facts where Feast's own store is right: each key's differ in their times, which are all known."""
    found: dict[tuple[Any, ...], Fact] = {}
    for fact in facts:
        if fact.k is not None and fact.number is not None and fact.made is not None:
            found.setdefault((fact.at, fact.made), fact)
    return list(found.values())


def check_agreement(folder: Path, data: st.DataObject) -> None:
    for name in given_by.TTL_STEPS:
        write_facts(folder / f"{name}.parquet", unlike(data.draw(FACTS, label=name)))
    rows = [row for row in data.draw(ROWS, label="rows") if None not in row] or [("a", 1, 5)]
    asked, bound = frame(rows, "UTC").to_pandas(), data.draw(st.booleans(), label="bound")
    told = []
    for store in (repo(folder), repo(folder, type="duckdb")):
        refs = [ref for ref in REFS if not ref.startswith("none")]
        found = store.get_historical_features(asked, refs, True, filter_by_created_timestamp=bound).to_arrow()
        columns = [*asked.columns, *(ref.replace(":", "__") for ref in refs)]
        told.append(found.select(columns).sort_by("row").to_pydict())
    assert repr(told[0]) == repr(told[1])


@given(data=st.data())
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_feasts_own_store_gives_the_same_frame_where_it_is_right(folder: Path, data: st.DataObject) -> None:
    check_agreement(folder, data)


@pytest.mark.full
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_feasts_own_store_gives_the_same_frame_in_many_more_cases(folder: Path, data: st.DataObject) -> None:
    check_agreement(folder, data)


def test_many_rows_are_answered_piece_by_piece_as_all_at_once(folder: Path, stores: dict[str, Any]) -> None:
    numbers = range(400)
    facts = [Fact("ab"[n % 2], [1, 2**40][n % 3 == 0], n, n + n % 5, float(n), str(n)) for n in numbers]
    for name in given_by.TTL_STEPS:
        write_facts(folder / f"{name}.parquet", facts)
    query = (
        "SELECT i::INTEGER AS row, ['a', 'b', 'c', NULL][1 + i % 4] AS k, [1, 2, 1099511627776][1 + i % 3] AS number, "
        "TIMESTAMPTZ '2013-11-03 05:00:00Z' + to_minutes(((i * 7919) % 14000)::INTEGER) AS event_timestamp "
        "FROM range(1100000) AS r(i)"
    )
    jobs = {name: store.get_historical_features(query, REFS, True) for name, store in stores.items()}
    pieces = list(jobs["tight"].pieces())
    assert len(pieces) > 10
    whole = jobs["roomy"].to_arrow()
    assert pa.concat_tables(pieces).combine_chunks().equals(whole.combine_chunks())
    assert whole.column("row").to_numpy().tolist() == list(range(1_100_000))
    assert whole.column("one__v").null_count < 700_000
