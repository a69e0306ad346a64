from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.cleanup import ROW, isolated, without_rows


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), st.sets(st.integers(0, 49)))
def test_the_others_stay_in_their_order(count: int, left_out: set[int]) -> None:
    rows = sorted(row for row in left_out if row < count)
    with isolated() as connection:
        connection.register("given", pa.table({ROW: pa.array(range(count), pa.int64())}))
        query = without_rows(connection, "SELECT * FROM given", np.array(rows, dtype=np.int64), name="bits")
        found = connection.sql(query).to_arrow_table()[ROW].to_pylist()
    assert found == [row for row in range(count) if row not in left_out]


@pytest.mark.parametrize("share", [0.0001, 0.5, 0.999])
def test_order_holds_over_many_row_groups(share: float) -> None:
    mask = np.random.default_rng(1).random(500_000) < share
    with isolated() as connection:
        connection.execute(f'CREATE TABLE given AS SELECT range AS "{ROW}", range * 2 AS twice FROM range(500000)')
        query = without_rows(connection, "SELECT * FROM given", np.flatnonzero(mask), name="bits")
        found = connection.sql(query).to_arrow_table()[ROW].to_numpy()
    assert np.array_equal(found, np.flatnonzero(~mask))


def test_rows_may_be_left_out_of_what_is_left() -> None:
    with isolated() as connection:
        connection.execute(f'CREATE TABLE given AS SELECT range AS "{ROW}" FROM range(6)')
        first = without_rows(connection, "SELECT * FROM given", np.array([5, 0]), name="bits_1")
        second = without_rows(connection, first, np.array([4]), name="bits_2")
        assert connection.execute(second).fetchall() == [(1,), (2,), (3,)]
