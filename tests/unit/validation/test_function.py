from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import ContractError, SpecError
from millrace.validation.base import ROW
from millrace.validation.function import BATCH_ROWS, even_batches, run_function, withheld

TEAM = "tests.unit.validation.team"
TAKES = pa.schema([("id", pa.int32()), ("text", pa.string()), ("value", pa.float64()), (ROW, pa.int64())])


def rows(count: int, first: int = 0) -> pa.RecordBatch:
    numbers = range(first, first + count)
    columns = [
        pa.array(numbers, pa.int32()),
        pa.array([f"t{number}" for number in numbers], pa.string()),
        pa.array([None if number % 3 == 0 else number / 2 for number in numbers], pa.float64()),
        pa.array(numbers, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TAKES)


def call(name: str, folder: Path, *batches: pa.RecordBatch, gives: pa.Schema = TAKES) -> tuple[list[int], pa.Table]:
    path = folder / "given.parquet"
    lost = run_function(batches, f"{TEAM}:{name}", takes=TAKES, gives=gives, path=path, where="here")
    return lost.tolist(), pq.read_table(path)


def test_columns_are_added_in_the_declared_type(tmp_path: Path) -> None:
    gives = TAKES.remove(3).append(pa.field("length", pa.int16())).append(TAKES.field(ROW))
    lost, found = call("add_length", tmp_path, rows(12), gives=gives)
    assert lost == []
    assert found.schema == gives
    assert found["length"].to_pylist() == [2] * 10 + [3] * 2


def test_columns_may_come_back_changed_and_in_any_order(tmp_path: Path) -> None:
    lost, found = call("upper", tmp_path, rows(3))
    assert (lost, found.column_names) == ([], TAKES.names)
    assert found["text"].to_pylist() == ["T0", "T1", "T2"]


def test_rows_left_out_are_told(tmp_path: Path) -> None:
    lost, found = call("drop_odd", tmp_path, rows(3, 4), rows(2, 7))
    assert lost == [5, 7]
    assert found[ROW].to_pylist() == [4, 6, 8]
    assert call("drop_all", tmp_path, rows(3))[0] == [0, 1, 2]


def test_no_rows_are_no_call(tmp_path: Path) -> None:
    lost, found = call("fail", tmp_path)
    assert (lost, found.num_rows) == ([], 0)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("turn", "rows in another order"),
        ("repeat", "rows twice"),
        ("invent", "rows that it was not given"),
        ("forget_rows", "without column 'row#'"),
        ("forget_column", "without column 'text'"),
        ("add_length", "with column 'length', which `adds` does not name"),
        ("retype", "column 'value' back as string, which does not fit double"),
        ("as_table", "a Table"),
    ],
)
def test_what_is_not_the_same_rows_is_refused(name: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        call(name, tmp_path, rows(3))
    assert what in caught.value.what
    assert f"{TEAM}:{name}" in caught.value.what
    assert caught.value.where == "here, raw rows 0 to 2"
    assert "secret" not in str(caught.value)


def test_an_exception_names_the_function_and_the_rows_and_no_values(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as caught:
        call("fail", tmp_path, rows(BATCH_ROWS + 5))
    assert (
        caught.value.what == f"{TEAM}:fail raises ValueError: could not convert … (code …) of column 'text' in … rows"
    )
    assert caught.value.where.startswith(f"here, raw rows 0 to {BATCH_ROWS - 1}, line ")
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_long_messages_are_cut() -> None:
    assert len(withheld("x" * 1000)) == 200


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 2 * BATCH_ROWS + 1), max_size=5))
def test_a_function_sees_the_same_batches_however_the_rows_come(sizes: list[int]) -> None:
    total = sum(sizes)
    schema = pa.schema([(ROW, pa.int64())])

    def parts() -> Iterator[pa.RecordBatch]:
        first = 0
        for size in sizes:
            yield pa.RecordBatch.from_arrays([pa.array(np.arange(first, first + size))], schema=schema)
            first += size

    found = list(even_batches(parts(), schema))
    full, rest = divmod(total, BATCH_ROWS)
    assert [batch.num_rows for batch in found] == [BATCH_ROWS] * full + [rest] * (rest > 0)
    assert np.array_equal(np.concatenate([np.empty(0), *(batch[ROW].to_numpy() for batch in found)]), np.arange(total))
