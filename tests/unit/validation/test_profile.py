from __future__ import annotations

import math
import statistics
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from millrace.lake import Table, duck
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.validation.profile import (
    SCHEMA,
    ColumnProfile,
    PartitionProfile,
    load_profiles,
    personal_columns,
    profile_rows,
    profile_table,
    store_profile,
)

START = datetime(2020, 1, 1, tzinfo=UTC)
ROWS = st.fixed_dictionaries(
    {
        "whole": st.none() | st.integers(-5, 5) | st.integers(-(2**62), 2**62),
        "real": st.none() | st.floats(-1e6, 1e6, allow_nan=False),
        "text": st.none() | st.text("abXYZ019- ", max_size=6),
        "flag": st.none() | st.booleans(),
        "at": st.none() | st.integers(0, 10**9).map(lambda second: START + timedelta(seconds=second)),
    }
)
TYPES = pa.schema(
    [
        ("whole", pa.int64()),
        ("real", pa.float64()),
        ("text", pa.string()),
        ("flag", pa.bool_()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)


def profiled(rows: pa.Table, **options: Any) -> dict[str, ColumnProfile]:
    connection = duck.connect()
    try:
        connection.register("rows", rows)
        found = profile_table(connection, "rows", rows.column_names, **options)
    finally:
        connection.close()
    assert found.schema == SCHEMA
    return dict(PartitionProfile.of("2020-01", found).columns)


def column(values: list[Any], kind: pa.DataType | None = None, **options: Any) -> ColumnProfile:
    return profiled(pa.table({"c": pa.array(values, kind)}), **options)["c"]


def quantile(values: list[float], share: float) -> float:
    """The least value that this share of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(round(share * len(values), 9)) - 1)]


@effort(max_examples=40, deadline=None)
@given(st.lists(ROWS, max_size=30))
def test_statistics_are_those_of_a_brute_force_count(rows: list[dict[str, Any]]) -> None:
    found = profiled(pa.Table.from_pylist(rows, schema=TYPES))
    for name, item in found.items():
        values = [row[name] for row in rows if row[name] is not None]
        assert (item.rows, item.nulls) == (len(rows), len(rows) - len(values))
        assert (item.distinct, item.distinct_exact, item.sampled) == (len(set(values)), True, False)
        if name != "at" and values:
            assert item.top == dict(Counter(values))
            assert list((item.top or {}).values()) == sorted((item.top or {}).values(), reverse=True)
        if name in ("whole", "real") and values:
            assert (item.min_number, item.max_number) == (float(min(values)), float(max(values)))
            assert item.mean == pytest.approx(float(statistics.mean(values)), rel=1e-9, abs=1e-9)
            for place, share in (("q001", 0.001), ("q05", 0.05), ("q50", 0.5), ("q95", 0.95), ("q999", 0.999)):
                assert getattr(item, place) == float(quantile(values, share))
        if name == "text" and values:
            lengths = [len(value) for value in values]
            assert (item.min, item.max) == (min(values), max(values))
            assert (item.min_length, item.max_length) == (min(lengths), max(lengths))
        if name == "at" and values:
            assert item.min_number == min(values).timestamp()
            assert item.min == min(values).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_numbers_that_are_none_are_not_measured() -> None:
    item = column([1.0, 2.0, 3.0, math.nan, math.inf, -math.inf, 1e300])
    assert (item.rows, item.nulls, item.mean, item.min_number, item.max_number) == (7, 0, 2.0, 1.0, 3.0)


def test_large_whole_numbers_that_cancel_out_leave_the_mean_of_the_small_ones() -> None:
    for values in ([2**62, 1, -(2**62)], [1, 2**62, -(2**62)]):
        assert column(values, pa.int64()).mean == pytest.approx(1 / 3)
    assert column([2**64 - 1, 2**64 - 1], pa.uint64()).mean == pytest.approx(2.0**64)


def test_a_column_without_a_value_has_counts_alone() -> None:
    item = column([None, None], pa.float64())
    assert (item.nulls, item.distinct, item.null_share) == (2, 0, 1.0)
    assert (item.mean, item.min, item.q50, item.top) == (None, None, None, None)


def test_a_table_without_rows_has_a_profile() -> None:
    item = column([], pa.string())
    assert (item.rows, item.null_share, item.pattern) == (0, None, None)


def test_personal_columns_show_counts_and_no_value() -> None:
    rows = pa.table({"mail": ["a@x.org", "b@x.org", None], "n": [1, 1, 2]})
    told = profiled(rows, pii=["mail"])["mail"]
    assert (told.kind, told.rows, told.nulls, told.distinct) == ("text", 3, 1, 2)
    shown = {name: getattr(told, name) for name in SCHEMA.names if getattr(told, name) is not None}
    assert set(shown) == {"column", "kind", "rows", "nulls", "distinct", "distinct_exact", "sampled"}


def test_two_counts_of_the_same_rows_are_equal_to_the_last_bit() -> None:
    connection = duck.connect(threads=2)
    connection.execute("CREATE TABLE t AS SELECT hash(i) / 1e9 AS x, (hash(i) % 7) / 10 AS y FROM range(400000) r(i)")
    first, *others = [profile_table(connection, "t", ["x", "y"]) for _ in range(3)]
    assert all(other.equals(first) for other in others)
    assert connection.sql("SELECT current_setting('threads')").fetchall() == [(2,)]


def test_a_large_table_is_sampled_and_estimated_and_says_so() -> None:
    connection = duck.connect()
    connection.execute("CREATE TABLE t AS SELECT i AS x FROM range(1200000) r(i)")
    item = PartitionProfile.of("", profile_table(connection, "t", ["x"])).columns["x"]
    assert item.sampled
    assert not item.distinct_exact
    assert item.distinct == pytest.approx(1_200_000, rel=0.1)
    assert item.q50 == pytest.approx(600_000, rel=0.01)
    assert item.q999 == pytest.approx(1_198_800, rel=0.001)
    counted = PartitionProfile.of("", profile_table(connection, "t", ["x"], exact=["x"])).columns["x"]
    assert (counted.distinct, counted.distinct_exact) == (1_200_000, True)


def domain(**source: Any) -> DomainSpec:
    values = {"uri": "x_{partition}.csv", "columns": {"id": "int32", "mail": "string"}, "key": ["id"], **source}
    return DomainSpec.model_validate(
        {
            "name": "shop",
            "description": "d",
            "owners": ["a"],
            "first": "2020-01",
            "sources": {"people": values},
            "feature_tables": {},
        }
    )


def test_profiles_of_the_last_partitions_before_one_come_back_oldest_first(settings: Settings) -> None:
    shop = domain(history=[{"measure": "distinct_count", "column": "id", "max_relative_change": 0.1}])
    connection = duck.connect()
    for month in (1, 2, 3, 5):
        connection.execute(f"CREATE OR REPLACE TABLE t AS SELECT i AS id, 'm' AS mail FROM range({month}) r(i)")
        rows = profile_rows(connection, "t", shop.sources["people"])
        where: Any = {"settings": settings, "domain": shop, "source": "people", "partition": f"2020-0{month}"}
        assert store_profile(rows, **where).changed
        assert not store_profile(rows, **where).changed
    found = load_profiles(settings, shop, "people", before="2020-05", last=2)
    assert [(item.partition, item.rows) for item in found] == [("2020-02", 2), ("2020-03", 3)]
    assert found[0].columns["id"].distinct == 2
    assert load_profiles(settings, shop, "people", before="2020-01", last=2) == []
    assert load_profiles(settings, shop, "people", before="2020-09", last=0) == []


def test_statistics_that_are_missing_or_of_other_rows_are_taken_from_the_clean_partition(settings: Settings) -> None:
    shop = domain()
    clean = Table(settings.lake, shop.clean_table("people"))
    kept = Table(settings.lake, shop.profile_table("people"))

    def loaded() -> list[int]:
        return [item.rows for item in load_profiles(settings, shop, "people", before="2020-03", last=5)]

    def write(rows: int) -> None:
        people = pa.table({"id": pa.array(range(rows), pa.int32()), "mail": pa.array(["m"] * rows, pa.string())})
        clean.replace(people, partition="2020-01")

    assert loaded() == []
    write(3)
    assert loaded() == [3]
    version = kept.version()
    assert loaded() == [3]
    assert kept.version() == version
    write(4)
    assert loaded() == [4]
    assert loaded() == [4]
    assert kept.version() == version + 1
    write(0)
    assert loaded() == [0]


def test_personal_columns_are_followed_through_clean_up() -> None:
    steps = [
        {"rename": {"mail": "address"}},
        {"derive": {"host": "split_part(ADDRESS, '@', 2)", "twice": "id * 2", "long": "length(host)"}},
        {"python": "shop:more", "adds": {"score": "float64"}},
    ]
    spec = domain(pii={"mail": "tokenise"}, cleanup=steps).sources["people"]
    assert personal_columns(spec) == {"mail", "address", "host", "long", "score"} - {"mail"}
    assert personal_columns(domain(cleanup=steps).sources["people"]) == set()
