"""The newest usable fact of each key, against a search by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.memory import READY, needs_proc, take

from millrace.errors import FeatureError
from millrace.features.base import INSTANT
from millrace.features.newest import Facts, Newest, Window, newest_facts
from millrace.online import ViewLayout

LAYOUT = ViewLayout(
    entities=(("key", "string"), ("number", "int64")), features=(("size", "float64"), ("about", "string"))
)
SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "number": pa.int32(),
        "size": pa.float64(),
        "about": pa.string(),
        "event_timestamp": INSTANT,
        "known_at": INSTANT,
        "partition": pa.string(),
    }
)
FACT = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["a", "b", "ü", None]),
        "number": st.sampled_from([0, -7, None]),
        "size": st.sampled_from([1.5, -0.0, math.nan, math.inf, None]),
        "about": st.sampled_from(["", "x", None]),
        "event_timestamp": st.integers(0, 12),
        "known_at": st.one_of(st.none(), st.integers(0, 12)),
        "partition": st.sampled_from(["p", "q"]),
    }
)
WINDOW = st.builds(
    Window,
    mark=st.integers(0, 12),
    earliest=st.one_of(st.none(), st.integers(0, 12)),
    since=st.one_of(st.none(), st.integers(0, 12)),
    partitions=st.sampled_from([None, ["p"], ["p", "q"], []]),
    whole=st.sampled_from([[], ["q"]]),
)


def dataset(facts: list[dict[str, Any]]) -> Any:
    return pads.dataset(pa.Table.from_pylist(facts, schema=SCHEMA))


def rows_of(found: Newest) -> list[dict[str, Any]]:
    return [row for batch in found.batches for row in batch.to_pylist()]


def by_hand(facts: list[dict[str, Any]], window: Window) -> dict[Any, dict[str, Any]]:
    """Key → the fact that should be found."""

    def order(fact: dict[str, Any]) -> Any:
        about, size = fact["about"], fact["size"]
        sized = (0, 0.0) if size is None else (2, 0.0) if math.isnan(size) else (1, size)
        return fact["event_timestamp"], known(fact), (about is not None, about or ""), sized

    def known(fact: dict[str, Any]) -> int:
        return int(fact["event_timestamp"] if fact["known_at"] is None else fact["known_at"])

    found: dict[Any, dict[str, Any]] = {}
    for fact in facts:
        usable = max(fact["event_timestamp"], known(fact))
        key = fact["key"], fact["number"]
        if None in key or usable > window.mark:
            continue
        if window.earliest is not None and fact["event_timestamp"] < window.earliest:
            continue
        if window.partitions is not None and fact["partition"] not in window.partitions:
            continue
        if window.since is not None and usable <= window.since and fact["partition"] not in window.whole:
            continue
        if key not in found or order(fact) > order(found[key]):
            found[key] = {**fact, "known_at": known(fact)}
    return found


def plain(row: dict[str, Any]) -> Any:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    instants = [
        value if isinstance(value, int) else (value - epoch) // timedelta(microseconds=1)
        for value in (row["event_timestamp"], row["known_at"])
    ]
    return repr(row["size"]), row["about"], *instants


@settings(max_examples=60, deadline=None)
@given(facts=st.lists(FACT, max_size=25), window=WINDOW)
def test_it_finds_what_a_search_by_hand_finds(facts: list[dict[str, Any]], window: Window) -> None:
    with newest_facts(Facts(dataset=dataset(facts)), LAYOUT, window, threads=1) as found:
        rows = rows_of(found)
        assert found.keys == len(rows)
    wanted = {key: plain(fact) for key, fact in by_hand(facts, window).items()}
    found_rows = {(row["key"], row["number"]): plain(row) for row in rows}
    assert found_rows == wanted


def test_where_known_at_only_breaks_ties_a_fact_may_be_used_before_it_is_known() -> None:
    facts = [{"key": "a", "number": 1, "size": 2.0, "event_timestamp": 3, "known_at": 9}]
    for bounds_use, rows in ((True, 0), (False, 1)):
        source = Facts(dataset=dataset(facts), bounds_use=bounds_use)
        with newest_facts(source, LAYOUT, Window(mark=5), threads=1) as found:
            assert len(rows_of(found)) == found.keys == rows


def test_columns_may_have_other_names_and_instants_no_zone_and_other_units() -> None:
    moment = datetime(2020, 1, 1, 12)
    rows = pa.table(
        {
            "who": ["a", "a"],
            "at": pa.array([moment, moment + timedelta(hours=1)], pa.timestamp("ns")),
            "big": [1.0, 2.0],
        }
    )
    layout = ViewLayout(entities=(("key", "string"), ("none", "string")), features=(("size", "float64"),))
    facts = Facts(
        dataset=pads.dataset(rows),
        event="at",
        known=None,
        renamed={"key": "who", "size": "big"},
        constant={"none": "it's"},
    )
    mark = int((moment.replace(tzinfo=UTC) + timedelta(hours=2)).timestamp() * 1e6)
    with newest_facts(facts, layout, Window(mark=mark), threads=1) as found:
        (row,) = rows_of(found)
    at = (moment + timedelta(hours=1)).replace(tzinfo=UTC)
    assert row == {"key": "a", "none": "it's", "size": 2.0, "event_timestamp": at, "known_at": at}


def test_a_column_that_is_not_there_is_named() -> None:
    rows = pads.dataset(pa.Table.from_pylist([], schema=SCHEMA.remove(2)))
    with (
        pytest.raises(FeatureError, match="no column 'size'"),
        newest_facts(Facts(dataset=rows), LAYOUT, Window(mark=5)),
    ):
        pass


MANY = """
import json, sys
import numpy as np, pyarrow as pa, pyarrow.dataset as pads, pyarrow.parquet as pq
from millrace.features.base import INSTANT
from millrace.features.newest import Facts, Window, newest_facts
from millrace.online import ViewLayout

folder, limit = sys.argv[1:]
names = [f"f{number}" for number in range(20)]
for part in range(20):
    event = np.arange(100_000) + part * 100_000
    at = pa.array(event).cast(INSTANT)
    rows = {"key": pa.array(event % 400_000).cast(pa.string()), "event_timestamp": at, "known_at": at}
    rows |= {name: np.random.rand(100_000) for name in names}
    pq.write_table(pa.table(rows), f"{folder}/{part:02}.parquet", row_group_size=50_000)
layout = ViewLayout(entities=(("key", "string"),), features=tuple((name, "float64") for name in names))
%READY%
with newest_facts(Facts(dataset=pads.dataset(folder)), layout, Window(mark=10**9), memory_limit=limit) as found:
    rows = sum(batch.num_rows for batch in found.batches)
print(json.dumps({"keys": found.keys, "rows": rows}))
""".replace("%READY%", READY)


@pytest.mark.full
@needs_proc
def test_two_million_facts_fit_into_the_memory_given(tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    facts.mkdir()
    found = take(MANY, str(facts), "100MB", folder=tmp_path)
    print(f"{found.peak_mb:.0f} MB")
    assert found.told == {"keys": 400_000, "rows": 400_000}
    assert found.peak_mb < 260, "100 MB for DuckDB, and a file in Arrow; the facts are 370 MB"
