"""Rows left out of a table without losing the order of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.cleanup.plan import ROW
from millrace.lake.duck import quoted


def without_rows(connection: Any, query: str, rows: npt.NDArray[np.int64], *, name: str) -> str:
    """A query of the rows of another without some of them.

    A join that leaves rows out would also shuffle the others; one bit for each row does not.

    Args:
        connection: the DuckDB connection.
        query: SELECT of rows with their column `row#`; its greatest value tells how many bits are kept.
        rows: the positions (`row#`) to leave out.
        name: of the temporary table that holds the bits; the query given back reads it.
    """
    if not len(rows):
        return query
    highest = connection.execute(f"SELECT max({quoted(ROW)}) FROM ({query})").fetchall()[0][0]
    if highest is None:
        return query
    connection.register("left_out", pa.table({"row": np.asarray(rows, dtype=np.int64)}))
    try:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {quoted(name)} AS"
            f" SELECT bitstring_agg(row, 0, {max(int(highest), int(rows.max()))}) AS bits FROM left_out"
        )
    finally:
        connection.unregister("left_out")
    bit = f"get_bit((SELECT bits FROM {quoted(name)}), CAST({quoted(ROW)} AS INTEGER))"
    return f"SELECT * FROM ({query}) WHERE {bit} = 0"
