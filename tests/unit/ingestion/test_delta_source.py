"""A Delta table of somebody else's as a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.unit.ingestion.one_pass import FEBRUARY, FIRST, JANUARY, LAST, no_connections, notes_of, rejects_of, rows_of

from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion.delta_source import DeltaSource
from millrace.spec.source import DeltaSourceSpec


def source(root: Path, uri: str = "shop", **changes: Any) -> DeltaSource:
    spec = {"kind": "delta", "uri": uri, "columns": {"id": "int32", "month": "string"}, "key": ["id"], **changes}
    return DeltaSource(
        spec=DeltaSourceSpec.model_validate(spec), root=root, connections=no_connections, first=FIRST, last=LAST
    )


def write(root: Path, ids: list[int], months: list[str | None], **options: Any) -> None:
    table = pa.table({"month": pa.array(months, pa.string()), "id": pa.array(ids, pa.int64()), "more": [0] * len(ids)})
    write_deltalake(str(root / "shop"), table, mode="append", **options)


def test_all_files_of_the_newest_version_are_read_in_one_order(tmp_path: Path) -> None:
    for start in (0, 10, 20):
        write(tmp_path, [start, start + 1], ["2020-01", "2020-02"])
    found = rows_of(source(tmp_path))
    assert sorted(row["id"] for row in found) == [0, 1, 10, 11, 20, 21]
    assert found == rows_of(source(tmp_path, f"file://{tmp_path}/shop"))
    assert notes_of(source(tmp_path)) == ["not declared, so not read: more"]


def test_a_pinned_version_stays_what_it_was(tmp_path: Path) -> None:
    write(tmp_path, [1], ["2020-01"])
    reader = source(tmp_path, version=0)
    before = reader.fingerprint(JANUARY)
    write(tmp_path, [2], ["2020-01"])
    assert [row["id"] for row in rows_of(reader)] == [1]
    assert reader.fingerprint(JANUARY) == before


@pytest.mark.parametrize("partitioned", [True, False])
def test_the_filter_column_picks_the_partition_and_rows_without_it_count_once(
    tmp_path: Path, partitioned: bool
) -> None:
    options: dict[str, Any] = {"partition_by": ["month"]} if partitioned else {}
    write(tmp_path, [1, 2, 3, 4], ["2020-01", "2020-02", None, "2020-01"], **options)
    reader = source(tmp_path, filter_column="month")
    assert sorted(row["id"] for row in rows_of(reader)) == [1, 4]
    assert rows_of(reader, FEBRUARY) == [{"id": 2, "month": "2020-02"}]
    assert [row["reason"] for row in rejects_of(reader)] == ["no_partition"]
    assert rejects_of(reader, FEBRUARY) == []


def test_the_fingerprint_is_that_of_table_version_and_partition(tmp_path: Path) -> None:
    write(tmp_path, [1], ["2020-01"])
    reader, filtered = source(tmp_path), source(tmp_path, filter_column="month")
    assert reader.fingerprint(JANUARY) == reader.fingerprint(JANUARY) == reader.fingerprint(FEBRUARY)
    assert filtered.fingerprint(JANUARY) != filtered.fingerprint(FEBRUARY)
    before = reader.fingerprint(JANUARY)
    write(tmp_path, [2], ["2020-01"])
    assert reader.fingerprint(JANUARY) != before


def test_a_table_made_anew_in_the_same_place_has_another_fingerprint(tmp_path: Path) -> None:
    import shutil

    write(tmp_path, [1], ["2020-01"])
    before = source(tmp_path).fingerprint(JANUARY)
    shutil.rmtree(tmp_path / "shop")
    write(tmp_path, [1], ["2020-01"])
    assert source(tmp_path).fingerprint(JANUARY) != before


def test_what_does_not_fit_is_set_aside_by_row(tmp_path: Path) -> None:
    write(tmp_path, [1, 2**40], ["2020-01", "2020-01"])
    assert [row["id"] for row in rows_of(source(tmp_path))] == [1]
    [row] = rejects_of(source(tmp_path))
    assert (row["reason"], row["column"], row["line"]) == ("type", "id", 2)


def test_errors_name_the_table_and_a_remedy(tmp_path: Path) -> None:
    write(tmp_path, [1], ["2020-01"])
    for reader, told in (
        (source(tmp_path, "nowhere"), "no Delta table"),
        (source(tmp_path, version=7), "cannot be read"),
        (source(tmp_path, columns={"id": "int32", "price": "float64"}), "column 'price' is missing"),
        (source(tmp_path, filter_column="shelf"), "column 'shelf' is missing"),
        (source(tmp_path, filter_column="id"), "holds no key"),
        (source(tmp_path, "../shop"), "climbs"),
        (source(tmp_path, connection="s3"), "no connection"),
    ):
        with pytest.raises(SourceError, match=told) as caught:
            rows_of(reader)
        assert caught.value.remedy
        assert caught.value.where


def test_a_file_that_a_vacuum_took_asks_for_another_try(tmp_path: Path) -> None:
    write(tmp_path, [1], ["2020-01"])
    for file in DeltaTable(str(tmp_path / "shop")).file_uris():
        Path(file).unlink()
    with pytest.raises(SourceUnavailableError, match="removed while it was read"):
        rows_of(source(tmp_path))
