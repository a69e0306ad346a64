"""Functions as a team writes them for its clean-up, good ones and bad ones."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def add_length(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Adds the length of `text`, in a wider type than need be."""
    return batch.append_column("length", pc.cast(pc.utf8_length(batch["text"]), pa.int64()))


def upper(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Changes a column in place, and gives the columns back in another order."""
    changed = batch.set_column(batch.schema.names.index("text"), "text", pc.utf8_upper(batch["text"]))
    return changed.select(changed.schema.names[::-1])


def drop_odd(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Leaves rows with an odd `id` out."""
    return batch.filter(pc.not_equal(pc.bit_wise_and(batch["id"], pa.scalar(1, batch["id"].type)), 1))


def drop_all(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Leaves every row out."""
    return batch.slice(0, 0)


def not_a_number(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Makes every `value` something that is not a number."""
    values = pa.array([float("nan")] * batch.num_rows, pa.float64())
    return batch.set_column(batch.schema.names.index("value"), "value", values)


def turn(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Gives the rows back from last to first."""
    return batch.take(pa.array(range(batch.num_rows - 1, -1, -1)))


def repeat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Gives the first row back twice."""
    return batch.take(pa.array([0, *range(batch.num_rows)]))


def invent(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Numbers the rows anew."""
    return batch.set_column(
        batch.schema.names.index("row#"), "row#", pa.array(range(1000, 1000 + batch.num_rows), pa.int64())
    )


def forget_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Leaves the numbers of the rows out."""
    return batch.drop_columns(["row#"])


def forget_column(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Leaves a column out."""
    return batch.drop_columns(["text"])


def retype(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Gives texts back where numbers were."""
    texts = pa.array(["secret"] * batch.num_rows)
    return batch.set_column(batch.schema.names.index("value"), "value", texts)


def as_table(batch: pa.RecordBatch) -> pa.Table:
    """Gives a table back."""
    return pa.table(batch)


def fail(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Raises, and says a value in doing so."""
    raise ValueError(f"could not convert 'secret' (code 4711) of column 'text' in {batch.num_rows} rows")
