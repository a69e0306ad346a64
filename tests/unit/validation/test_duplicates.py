from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.cleanup.source import make_source

from millrace.cleanup import isolated
from millrace.spec.cleanup import DeduplicateStep
from millrace.validation.base import ROW
from millrace.validation.duplicates import find_duplicates, superseded_rows

Row = tuple[int | None, str | None, float | None, int | None]
ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, 1, 2, 3]),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from([None, 0.0, -0.0, 1.5]),
        st.sampled_from([None, 1, 2]),
    ),
    max_size=14,
)


def table(rows: Sequence[Row]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    types = {"id": pa.int32(), "text": pa.string(), "value": pa.float64(), "small": pa.int16()}
    arrays = {name: pa.array(values, kind) for (name, kind), values in zip(types.items(), columns, strict=True)}
    return pa.table({**arrays, ROW: pa.array(range(len(rows)), pa.int64())})


def duplicates(rows: Sequence[Row], policy: dict[str, Any], key: Sequence[str] = ("id",)) -> dict[str, list[int]]:
    columns = {"id": "int32", "text": "string", "value": "float64", "small": "int16"}
    spec = make_source(key=key, columns=columns, duplicates=policy)
    with isolated() as connection:
        connection.register("raw", table(rows))
        connection.execute('CREATE TEMP VIEW tidy AS SELECT id, text, small, "row#" FROM raw')
        found = find_duplicates(connection, spec, "tidy")
    assert all(item.columns == tuple(key) and item.stage == "clean" for item in found)
    assert all(item.rows.dtype == "int64" and len(item.rows) for item in found)
    return {item.reason: item.rows.tolist() for item in found}


def expected(rows: Sequence[Row], key: Sequence[int], versioned: bool) -> dict[str, list[int]]:
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        if all(row[index] is not None for index in key):
            groups[tuple(row[index] for index in key)].append(position)
    told: dict[str, list[int]] = {"duplicate": [], "duplicate_superseded": []}
    for members in groups.values():
        versions = {position: -1 if rows[position][3] is None else rows[position][3] for position in members}
        best = [position for position in members if not versioned or versions[position] == max(versions.values())]
        differ = len({rows[position] for position in best}) > 1
        for position in members:
            if differ and position in best:
                told["duplicate"].append(position)
            elif differ or position != best[0]:
                told["duplicate_superseded" if versioned else "duplicate"].append(position)
    return {reason: sorted(positions) for reason, positions in told.items() if positions}


@settings(max_examples=25, deadline=None)
@given(ROWS, st.sampled_from([["id"], ["id", "text"], ["text", "small"]]), st.sampled_from(["quarantine", "block"]))
def test_duplicates_are_those_a_plain_loop_finds(rows: list[Row], key: list[str], policy: str) -> None:
    places = [["id", "text", "value", "small"].index(name) for name in key]
    assert duplicates(rows, {"policy": policy}, key) == expected(rows, places, versioned=False)


@settings(max_examples=25, deadline=None)
@given(ROWS, st.sampled_from([["id"], ["id", "text"]]))
def test_the_greatest_version_is_the_one_a_plain_loop_finds(rows: list[Row], key: list[str]) -> None:
    places = [["id", "text", "value", "small"].index(name) for name in key]
    policy = {"policy": "keep_last", "version": "small"}
    assert duplicates(rows, policy, key) == expected(rows, places, versioned=True)


@settings(max_examples=15, deadline=None)
@given(ROWS, st.randoms())
def test_which_content_stays_does_not_rest_on_the_order_of_rows(rows: list[Row], random: Any) -> None:
    def kept(given: list[Row]) -> Counter[Row]:
        found = duplicates(given, {"policy": "keep_last", "version": "small"})
        gone = {position for positions in found.values() for position in positions}
        return Counter(row for position, row in enumerate(given) if position not in gone)

    shuffled = list(rows)
    random.shuffle(shuffled)
    assert kept(rows) == kept(shuffled)


def test_of_equal_copies_the_first_stays() -> None:
    rows: list[Row] = [(5, "a", 1.0, 1), (6, "a", 1.0, 1), (5, "a", 1.0, 1), (5, "a", 1.0, 1)]
    assert duplicates(rows, {}) == {"duplicate": [2, 3]}


def test_rows_that_share_a_key_and_differ_are_all_duplicates() -> None:
    rows: list[Row] = [(5, "a", 1.0, 1), (6, "a", 1.0, 1), (5, "a", 2.0, 1)]
    assert duplicates(rows, {}) == {"duplicate": [0, 2]}, "they differ in a raw column that the clean rows lack"


def test_rows_without_a_key_are_nobodys_duplicates() -> None:
    assert duplicates([(None, "a", 1.0, 1), (None, "a", 1.0, 1)], {}) == {}


def test_a_source_without_key_has_no_duplicates() -> None:
    assert duplicates([(1, "a", 1.0, 1)] * 2, {}, key=()) == {}


def test_of_versions_the_greatest_stays_and_ties_that_differ_do_not() -> None:
    rows: list[Row] = [(1, "a", 1.0, 1), (1, "b", 1.0, 2), (1, "c", 1.0, None), (2, "a", 1.0, 2), (2, "b", 1.0, 2)]
    policy = {"policy": "keep_last", "version": "small"}
    assert duplicates(rows, policy) == {"duplicate": [3, 4], "duplicate_superseded": [0, 2]}


@pytest.mark.parametrize("keep", ["first", "last"])
@settings(max_examples=15, deadline=None)
@given(ROWS, st.sampled_from([None, "small"]))
def test_one_of_equal_rows_stays_as_a_plain_loop_has_it(keep: str, rows: list[Row], order_by: str | None) -> None:
    step = DeduplicateStep.model_validate({"deduplicate": ["text", "value"], "keep": keep, "order_by": order_by})
    with isolated() as connection:
        connection.register("given", table(rows))
        found = superseded_rows(connection, "SELECT * FROM given", step).tolist()
    groups: dict[Any, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        groups[row[1], row[2]].append(position)
    lost = []
    for members in groups.values():
        ranked = [position for position in members if order_by is None or rows[position][3] is not None] or members
        if order_by is None or (ranked == members and all(rows[position][3] is None for position in members)):
            winner = ranked[0] if keep == "first" else ranked[-1]
        else:
            values = [rows[position][3] for position in ranked]
            best = min(values) if keep == "first" else max(values)  # type: ignore[type-var]
            tied = [position for position in ranked if rows[position][3] == best]
            winner = tied[0] if keep == "first" else tied[-1]
        lost += [position for position in members if position != winner]
    assert found == sorted(lost)
