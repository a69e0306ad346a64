from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from tests.unit.training.synthetic import make_use_case, training_rows, write_training_set

from millrace.errors import TrainingError
from millrace.lake import Table
from millrace.training import open_training_set
from millrace.training.data.lake_rows import LakeRows
from millrace.training.data.rows import TableRows, open_rows, save_rows

MONTHS = ["2020-01", "2020-02", "2020-03"]
USE_CASE = make_use_case()
LIMIT = "2020-03-10T00:00:00Z"


@pytest.fixture
def rows(tmp_path: Path) -> LakeRows:
    ref = write_training_set(USE_CASE, str(tmp_path), MONTHS, 300)
    return open_training_set(USE_CASE, ref, lake=str(tmp_path), known_until=LIMIT)


def test_rows_of_the_lake_of_a_table_and_of_a_file_are_the_same(rows: LakeRows, tmp_path: Path) -> None:
    table = TableRows(table=pa.Table.from_batches(rows.batches(), rows.schema))
    save_rows(rows, tmp_path / "rows.arrow")
    for other in (table, open_rows(tmp_path / "rows.arrow"), pickle.loads(pickle.dumps(rows))):
        assert (other.num_rows, other.sizes, other.digest) == (rows.num_rows, rows.sizes, rows.digest)
        assert other.schema == rows.schema
    assert 600 < rows.num_rows < 900
    assert rows.partitions == MONTHS


def test_text_that_comes_as_codes_is_the_same_text(rows: LakeRows) -> None:
    plain = pa.Table.from_batches(rows.batches(["kind", "size"]))
    coded = pa.Table.from_batches(rows.batches(["kind", "size"], coded=True))
    assert pa.types.is_dictionary(coded.schema.field("kind").type)
    assert coded.cast(plain.schema).equals(plain)


def test_partitions_are_taken_alone_and_an_earlier_instant_leaves_later_labels_out(rows: LakeRows) -> None:
    table = TableRows(table=pa.Table.from_batches(rows.batches(), rows.schema))
    for known_until in (None, "2020-02-15T00:00:00Z"):
        ours, theirs = (item.only(MONTHS[:2], known_until=known_until) for item in (rows, table))
        assert ours.digest == theirs.digest
        assert ours.partitions == MONTHS[:2]
    assert rows.only(MONTHS, known_until="2021-01-01T00:00:00Z").num_rows == rows.num_rows
    assert rows.only([]).num_rows == 0
    assert list(rows.only([]).batches()) == []


def test_files_that_overlap_in_time_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    whole = training_rows(USE_CASE, ["2020-01"], 300)
    table = Table(str(tmp_path), USE_CASE.service_table("training_set"))
    every_other = [whole.take(pa.array(range(start, 300, 2))).drop_columns(["partition"]) for start in (0, 1)]
    table.replace(every_other[0], partition="2020-01")
    table.append(every_other[1], partition="2020-01", marker="more")
    rows = LakeRows(
        table=table,
        version=table.version(),
        columns=tuple(whole.column_names),
        known_until="2021-01-01T00:00:00Z",
    )
    assert pa.Table.from_batches(rows.batches(), rows.schema).equals(whole.cast(rows.schema))
    assert rows.digest == TableRows(table=whole.cast(rows.schema)).digest


def test_a_file_that_holds_no_rows_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.arrow").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="rows cannot be read") as raised:
        open_rows(tmp_path / "rows.arrow")
    assert "rows.arrow" in raised.value.where
