"""A function of the team's, called on the rows of a partition, batch by batch; what it gives back is checked."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.cleanup.function import load_function
from millrace.cleanup.plan import ROW
from millrace.errors import ContractError, SpecError

Rows = npt.NDArray[np.int64]
BATCH_ROWS = 65_536
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\d+(\.\d+)?")
_TOLD = 200


def run_function(
    batches: Iterable[pa.RecordBatch], name: str, *, takes: pa.Schema, gives: pa.Schema, path: Path, where: str
) -> Rows:
    """Call a function on each batch of rows and write what it gives back; memory holds a few batches.

    Args:
        batches: the rows, `row#` among their columns.
        name: `package.module:function`; it takes and gives back a `pyarrow.RecordBatch` with `row#`.
        takes: columns the function sees, `row#` among them.
        gives: columns it must give back, with their types.
        path: Parquet file that is written.
        where: place of the step, for messages.

    Returns:
        The positions of the rows that it left out, sorted.

    Raises:
        SpecError: it gives back other columns or types, rows it was not given, or rows in another order.
        ContractError: it raises. The message carries no values.
    """
    function = load_function(name, where=where)
    lost = [np.empty(0, np.int64)]
    texts = [field.name for field in gives if field.type == pa.string()]
    with pq.ParquetWriter(path, gives, compression="lz4", use_dictionary=texts) as writer:
        for batch in even_batches(batches, takes):
            given = batch.column(ROW).to_numpy()
            place = f"{where}, raw rows {given[0]} to {given[-1]}"
            found = _conformed(_called(function, name, batch, place), gives, name, place)
            kept = found.column(ROW).to_numpy()
            _check_rows(given, kept, name, place)
            if len(kept) < len(given):
                lost.append(np.setdiff1d(given, kept, assume_unique=True))
            writer.write_batch(found)
    return np.sort(np.concatenate(lost))


def even_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of 65,536, so that what a function sees at once depends on nothing but the rows."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        rest = batch.cast(schema) if batch.schema != schema else batch
        while rows + rest.num_rows >= BATCH_ROWS:
            first, rest = rest.slice(0, BATCH_ROWS - rows), rest.slice(BATCH_ROWS - rows)
            yield pa.concat_batches([*waiting, first])
            waiting, rows = [], 0
        if rest.num_rows:
            waiting.append(rest)
            rows += rest.num_rows
    if rows:
        yield pa.concat_batches(waiting)


def withheld(message: str, known: Iterable[str] = ()) -> str:
    """A message of somebody else's without what may be values: quoted texts that are no known names, and numbers."""
    names = set(known)

    def told(match: re.Match[str]) -> str:
        return match[0] if match[0][1:-1] in names else "…"

    short = _QUOTED.sub(told, message.split("\n", maxsplit=1)[0])
    return short if len(short) <= _TOLD else short[: _TOLD - 1] + "…"


def _called(function: Callable[..., Any], name: str, batch: pa.RecordBatch, where: str) -> Any:
    try:
        return function(batch)
    except Exception as error:  # noqa: BLE001  # code of the team's may raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        line = f", line {lines[0]} of its module" if lines else ""
        told = withheld(str(error), batch.schema.names)
        raise ContractError(
            f"{name} raises {type(error).__name__}: {told}",
            where=f"{where}{line}",
            remedy="mend the function, or the rows; values are left out of this message",
        ) from None


def _conformed(found: Any, schema: pa.Schema, name: str, where: str) -> pa.RecordBatch:
    if not isinstance(found, pa.RecordBatch):
        kind = type(found).__name__
        raise SpecError(f"{name} gives back a {kind}", where=where, remedy="give back a pyarrow.RecordBatch")
    faults = [f"without column {column!r}" for column in schema.names if column not in found.schema.names]
    faults += [
        f"with column {column!r}, which `adds` does not name"
        for column in found.schema.names
        if column not in schema.names
    ]
    faults += [f"with column {column!r} twice" for column in schema.names if found.schema.names.count(column) > 1]
    if faults:
        raise SpecError(
            f"{name} gives rows back {faults[0]}",
            where=where,
            remedy="give back every column of the batch, `row#` included, and those under `adds`",
        )
    columns = [_column(found.column(field.name), field, name, where) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(values: pa.Array, field: pa.Field, name: str, where: str) -> pa.Array:
    if values.type == field.type:
        return values
    try:
        return pc.cast(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise SpecError(
            f"{name} gives column {field.name!r} back as {values.type}, which does not fit {field.type}",
            where=where,
            remedy="give it back in its type, or correct its type under `adds`",
        ) from None


def _check_rows(given: Rows, kept: Rows, name: str, where: str) -> None:
    if found := _row_fault(given, kept):
        raise SpecError(
            f"{name} gives back {found}",
            where=where,
            remedy="give back the rows of the batch in their order; rows to be set aside are left out",
        )


def _row_fault(given: Rows, kept: Rows) -> str:
    if np.array_equal(given, kept):
        return ""
    if not np.isin(kept, given).all():
        return "rows that it was not given"
    if len(np.unique(kept)) < len(kept):
        return "rows twice"
    if not np.array_equal(kept, given[np.isin(given, kept)]):
        return "rows in another order"
    return ""
