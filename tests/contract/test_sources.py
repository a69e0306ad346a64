"""Every source passes this suite, whatever it reads from."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from millrace.errors import SourceError
from millrace.ingestion import FileSource, Source
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec import SourceSpec

COLUMNS = {"id": "int64", "year": "int32", "month": "int32", "name": "string", "value": "float64", "at": "timestamp"}
JANUARY, MARCH = Partition("2020-01"), Partition("2020-03")


def sample(rows: int = 500) -> pa.Table:
    """Rows of two months, in no order of months, with nulls."""
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "year": pa.array([2020] * rows, pa.int32()),
            "month": pa.array([1 + (index % 3 == 0) for index in range(rows)], pa.int32()),
            "unread": pa.array(["never"] * rows),
            "name": pa.array([None if index % 7 == 0 else f"n, {index}" for index in range(rows)]),
            "value": pa.array([None if index % 5 == 0 else index / 8 for index in range(rows)], pa.float64()),
            "at": pa.array([index * 1_000_001 for index in range(rows)], pa.timestamp("us", "UTC")),
        }
    )


def as_csv(table: pa.Table) -> bytes:
    lines = [",".join(table.column_names)]
    for row in table.to_pylist():
        shown = {**row, "at": row.get("at") and row["at"].isoformat(), "name": row["name"] and f'"{row["name"]}"'}
        lines.append(",".join("NA" if value is None else str(value) for value in shown.values()))
    return ("\n".join(lines) + "\n").encode()


def csv(folder: Path, table: pa.Table) -> Path:
    path = folder / "rows.csv"
    path.write_bytes(as_csv(table))
    return path


def csv_gz(folder: Path, table: pa.Table) -> Path:
    path = folder / "rows.csv.gz"
    path.write_bytes(gzip.compress(as_csv(table)))
    return path


def csv_zip(folder: Path, table: pa.Table) -> Path:
    path = folder / "rows.csv.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", as_csv(table))
    return path


def parquet(folder: Path, table: pa.Table) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(table, path, row_group_size=64)
    return path


Writer = Callable[[Path, pa.Table], Path]


@pytest.fixture(params=[csv, csv_gz, csv_zip, parquet], ids=lambda writer: writer.__name__)
def writer(request: pytest.FixtureRequest) -> Writer:
    chosen: Writer = request.param
    return chosen


def source(path: Path, **changes: object) -> Source:
    spec = {"uri": str(path), "columns": COLUMNS, "partition_columns": {"year": "%Y", "month": "%m"}, "key": ["id"]}
    return FileSource(spec=SourceSpec.model_validate({**spec, **changes}), root=path.parent)


def rows_of(reader: Source, partition: Partition) -> pa.Table:
    return pa.Table.from_batches(reader.batches(partition), schema=reader.schema)


def test_batches_have_the_declared_columns_and_types(tmp_path: Path, writer: Writer) -> None:
    reader = source(writer(tmp_path, sample()))
    assert reader.schema == arrow_schema(COLUMNS)  # type: ignore[arg-type]
    assert all(batch.schema == reader.schema for batch in reader.batches(JANUARY))


def test_a_partition_is_exactly_its_rows_in_the_order_of_the_source(tmp_path: Path, writer: Writer) -> None:
    expected = sample().filter(pc.equal(sample()["month"], 1)).select(list(COLUMNS))
    assert rows_of(source(writer(tmp_path, sample())), JANUARY).equals(expected)


def test_all_partitions_together_are_the_source(tmp_path: Path, writer: Writer) -> None:
    reader = source(writer(tmp_path, sample()))
    found = [rows_of(reader, Partition(f"2020-{month:02d}")) for month in range(1, 13)]
    assert sorted(pa.concat_tables(found)["id"].to_pylist()) == list(range(500))


def test_a_static_source_gives_all_rows_for_any_partition(tmp_path: Path, writer: Writer) -> None:
    reader = source(writer(tmp_path, sample()), partition_columns={})
    assert rows_of(reader, MARCH).equals(sample().select(list(COLUMNS)))


def test_reading_twice_gives_the_same(tmp_path: Path, writer: Writer) -> None:
    reader = source(writer(tmp_path, sample()))
    assert rows_of(reader, JANUARY).equals(rows_of(reader, JANUARY))


def test_a_partition_without_rows_gives_no_batch(tmp_path: Path, writer: Writer) -> None:
    assert list(source(writer(tmp_path, sample())).batches(MARCH)) == []


def test_a_missing_column_names_file_and_column(tmp_path: Path, writer: Writer) -> None:
    path = writer(tmp_path, sample().drop_columns(["value"]))
    with pytest.raises(SourceError, match="column 'value' is missing") as caught:
        rows_of(source(path), JANUARY)
    assert str(path) in caught.value.where
    assert "column value" in caught.value.where
    assert caught.value.remedy


def test_a_value_that_does_not_fit_its_type_names_file_and_column(tmp_path: Path, writer: Writer) -> None:
    path = writer(tmp_path, sample())
    with pytest.raises(SourceError, match="name") as caught:
        rows_of(source(path, columns={**COLUMNS, "name": "int32"}), JANUARY)
    assert str(path) in caught.value.where
    assert "column name" in caught.value.where


def test_a_row_that_belongs_to_no_partition_is_an_error_and_not_dropped(tmp_path: Path, writer: Writer) -> None:
    table = sample()
    months = pa.array([None, *table["month"].to_pylist()[1:]], pa.int32())
    path = writer(tmp_path, table.set_column(2, "month", months))
    with pytest.raises(SourceError, match="no value in partition column 'month'"):
        rows_of(source(path), JANUARY)


def test_bytes_that_are_not_the_format_are_a_source_error(tmp_path: Path, writer: Writer) -> None:
    path = writer(tmp_path, sample())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if path.suffix == ".gz" else b"\x00\xff" * 200)
    with pytest.raises(SourceError) as caught:
        rows_of(source(path), JANUARY)
    assert str(path) in caught.value.where


def test_an_absent_file_is_a_source_error(tmp_path: Path, writer: Writer) -> None:
    path = writer(tmp_path, sample())
    reader = source(path)
    path.unlink()
    with pytest.raises(SourceError, match="no such file"):
        rows_of(reader, JANUARY)
