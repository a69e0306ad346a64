"""Every source passes this suite, whatever it reads from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import TypeAdapter
from tests.contract import file_sources, further_sources
from tests.contract.sources import Kind, Place

from millrace.errors import SourceError
from millrace.ingestion.base import REJECTS, UNASSIGNED, Source
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec.source import AnySourceSpec

COLUMNS = {"id": "int64", "year": "int32", "month": "int32", "name": "string", "value": "float64", "at": "timestamp"}
JANUARY, MARCH = Partition("2020-01"), Partition("2020-03")
KINDS = [*file_sources.KINDS, *further_sources.KINDS]
ROWS = 500


def sample(rows: int = ROWS) -> pa.Table:
    """Rows of two months, in no order of months, with nulls."""
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "year": pa.array([2020] * rows, pa.int32()),
            "month": pa.array([1 + (index % 3 == 0) for index in range(rows)], pa.int32()),
            "unread": pa.array(["never"] * rows),
            "name": pa.array([None if index % 7 == 0 else f"n, {index}" for index in range(rows)]),
            "value": pa.array([None if index % 5 == 0 else index / 8 for index in range(rows)], pa.float64()),
            "at": pa.array(
                [1_577_836_800_000_000 + index * 1_000_001 for index in range(rows)], pa.timestamp("us", "UTC")
            ),
        }
    )


def changed(column: str, values: dict[int, Any]) -> pa.Table:
    """The sample with other values in some rows of a column."""
    table = sample()
    position = table.column_names.index(column)
    field = table.schema.field(position)
    found = [values.get(index, value) for index, value in enumerate(table[column].to_pylist())]
    return table.set_column(position, field, pa.array(found, field.type))


def those(chosen: Callable[[Kind], bool]) -> list[Any]:
    """The kinds a rule is for, as parameters."""
    return [pytest.param(kind, id=kind.name, marks=kind.marks) for kind in KINDS if chosen(kind)]


@pytest.fixture(params=those(lambda kind: True))
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(folder=tmp_path / tmp_path.name, staging=tmp_path / "staging")
    found.folder.mkdir()
    found.staging.mkdir()
    return found


def opened(kind: Kind, place: Place, table: pa.Table, **changes: Any) -> Source:
    own = kind.write(place, table)
    spec = {"columns": COLUMNS, "partition_columns": {"year": "%Y", "month": "%m"}, "key": ["id"], **own, **changes}
    return kind.open(TypeAdapter(AnySourceSpec).validate_python(spec), place)


def read(source: Source, partition: Partition = JANUARY) -> tuple[pa.Table, pa.Table, list[str]]:
    reading = source.read(partition)
    rows = pa.Table.from_batches(reading.batches(), schema=source.schema)
    return rows, pa.Table.from_batches(reading.rejects(), schema=REJECTS), reading.notes()


def test_batches_have_the_declared_columns_and_types(place: Place, kind: Kind) -> None:
    source = opened(kind, place, sample())
    assert source.schema == arrow_schema(COLUMNS)  # type: ignore[arg-type]
    batches = list(source.read(JANUARY).batches())
    assert all(batch.schema == source.schema and batch.num_rows for batch in batches)


def test_a_partition_is_exactly_its_rows_in_the_order_of_the_source(place: Place, kind: Kind) -> None:
    expected = sample().filter(pc.equal(sample()["month"], 1)).select(list(COLUMNS))
    rows, rejects, _ = read(opened(kind, place, sample()))
    assert rows.equals(expected)
    assert rejects.num_rows == 0


def test_all_partitions_together_are_the_source(place: Place, kind: Kind) -> None:
    source = opened(kind, place, sample())
    found = [read(source, Partition(f"2020-{month:02d}"))[0] for month in range(1, 13)]
    assert sorted(pa.concat_tables(found)["id"].to_pylist()) == list(range(ROWS))


def test_without_partition_columns_all_rows_are_the_partitions(place: Place, kind: Kind) -> None:
    source = opened(kind, place, sample(), partition_columns={})
    assert read(source, MARCH)[0].equals(sample().select(list(COLUMNS)))


def test_reading_twice_gives_the_same(place: Place, kind: Kind) -> None:
    source = opened(kind, place, changed("month", {5: None, 400: 99}))
    assert read(source) == read(source)


def test_nothing_is_left_in_the_staging_folder(place: Place, kind: Kind) -> None:
    read(opened(kind, place, sample()))
    assert list(place.staging.iterdir()) == []


def test_a_partition_without_rows_gives_no_batch(place: Place, kind: Kind) -> None:
    assert list(opened(kind, place, sample()).read(MARCH).batches()) == []


def test_a_source_without_rows_gives_no_batch(place: Place, kind: Kind) -> None:
    assert list(opened(kind, place, sample(0), may_be_empty=True).read(JANUARY).batches()) == []


def test_a_missing_column_names_the_column(place: Place, kind: Kind) -> None:
    source = opened(kind, place, sample().drop_columns(["value"]))
    with pytest.raises(SourceError, match="value") as caught:
        read(source)
    assert caught.value.where
    assert caught.value.remedy


def test_a_column_that_is_not_declared_is_noted(place: Place, kind: Kind) -> None:
    notes = read(opened(kind, place, sample()))[2]
    assert any("unread" in note for note in notes), notes


def test_a_value_that_does_not_fit_sets_its_record_aside_and_no_other(place: Place, kind: Kind) -> None:
    names = dict.fromkeys(range(ROWS), "12") | {200: "twelve", 201: "13.5"}
    source = opened(kind, place, changed("name", names), columns={**COLUMNS, "name": "int32"})
    rows, rejects, _ = read(source)
    expected = sample().filter(pc.equal(sample()["month"], 1))["id"].to_pylist()
    assert rows["id"].to_pylist() == [number for number in expected if number not in (200, 201)]
    expected_rejects = [number for number in (200, 201) if number in expected]
    assert len(expected_rejects) == rejects.num_rows
    for reject in rejects.to_pylist():
        assert (reject["partition_key"], reject["reason"], reject["column"]) == ("2020-01", "type", "name")
        assert "twelve" not in reject["detail"]
        assert "twelve" in reject["raw"] or "13.5" in reject["raw"]
        assert reject["line"] > 0
        assert len(reject["sha256"]) == len(hashlib.sha256().hexdigest())


def test_rows_and_records_set_aside_of_all_partitions_are_the_source(place: Place, kind: Kind) -> None:
    names = {index: "x" if index % 50 == 0 else "12" for index in range(ROWS)}
    source = opened(kind, place, changed("name", names), columns={**COLUMNS, "name": "int32"})
    found = [read(source, Partition(f"2020-{month:02d}")) for month in (1, 2, 3)]
    assert sum(rows.num_rows + rejects.num_rows for rows, rejects, _ in found) == ROWS


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [("month", None, "no_partition"), ("month", 13, "no_partition"), ("year", 2021, "outside")],
)
def test_a_record_of_no_partition_of_the_domain_is_set_aside_unassigned(
    place: Place, kind: Kind, column: str, value: int | None, reason: str
) -> None:
    source = opened(kind, place, changed(column, {7: value}))
    for partition in (JANUARY, MARCH):
        rows, rejects, _ = read(source, partition)
        assert 7 not in rows["id"].to_pylist()
        assert [(row["partition_key"], row["reason"]) for row in rejects.to_pylist()] == [(UNASSIGNED, reason)]


@pytest.mark.parametrize("kind", those(lambda kind: kind.text))
def test_raw_text_is_what_stands_at_its_offset(place: Place, kind: Kind) -> None:
    source = opened(kind, place, changed("name", {5: "x"}), columns={**COLUMNS, "name": "int32"})
    rejects = read(source)[1].to_pylist()
    assert rejects
    assert all(row["offset"] > 0 and row["length"] >= len(row["raw"]) for row in rejects)


@pytest.mark.parametrize("kind", those(lambda kind: kind.fingerprints))
def test_an_equal_source_has_an_equal_fingerprint_and_a_changed_one_another(
    place: Place, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.ingestion.file_source._RESTS_S", -1.0)
    source = opened(kind, place, sample())
    before = source.fingerprint(JANUARY)
    assert before is not None
    assert before == source.fingerprint(JANUARY)
    time.sleep(0.01)
    kind.write(place, sample(ROWS - 1))
    assert source.fingerprint(JANUARY) != before


@pytest.mark.parametrize("kind", those(lambda kind: not kind.fingerprints))
def test_a_source_that_cannot_tell_says_so(place: Place, kind: Kind) -> None:
    assert opened(kind, place, sample()).fingerprint(JANUARY) is None


@pytest.mark.parametrize("kind", those(lambda kind: kind.spoil is not None))
def test_what_is_not_in_the_format_is_a_source_error_or_set_aside_whole(place: Place, kind: Kind) -> None:
    source = opened(kind, place, sample())
    assert kind.spoil is not None
    kind.spoil(place)
    try:
        rows, rejects, _ = read(source)
    except SourceError as error:
        assert error.where
        assert error.remedy
    else:
        assert rows.num_rows == 0
        assert rejects.num_rows > 0


@pytest.mark.parametrize("kind", those(lambda kind: kind.remove is not None))
def test_a_source_that_is_not_there_is_a_source_error(place: Place, kind: Kind) -> None:
    source = opened(kind, place, sample())
    assert kind.remove is not None
    kind.remove(place)
    with pytest.raises(SourceError) as caught:
        read(source)
    assert caught.value.remedy
