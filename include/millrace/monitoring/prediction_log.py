"""What was predicted: the columns of a log, the first score of each row and role, and the labels that belong to it.

A model of several classes logs the place of the most probable one as `prediction`, and beside it what it gave each
class as `probabilities`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from millrace.lake.duck import arrow, connect
from millrace.lake.table import Table
from millrace.spec.use_case import Problem, UseCaseSpec

LIVE, SHADOW = "live", "shadow"
_INSTANT = pa.timestamp("us", tz="UTC")
LABELLED = pa.schema(
    [
        ("key", pa.string()),
        ("event_timestamp", _INSTANT),
        ("release", pa.int64()),
        ("role", pa.string()),
        ("prediction", pa.float64()),
        ("label", pa.float64()),
        ("label_known_at", _INSTANT),
    ]
)
PROBABILITIES = pa.field("probabilities", pa.list_(pa.float64()))
_LOG = ["key", "event_timestamp", "release", "package", "role", "prediction", "recorded_at"]
_FIRST = """
    SELECT * EXCLUDE (package, recorded_at)
    FROM predictions
    QUALIFY row_number() OVER (PARTITION BY key, role ORDER BY recorded_at, release, package) = 1
    ORDER BY role, event_timestamp, key
"""
_JOINED = """
    SELECT s.*, l.label, l.label_known_at
    FROM scores s JOIN labels l ON l.key = s.key
    WHERE l.label IS NOT NULL AND l.label_known_at <= $cut
    ORDER BY s.role, s.event_timestamp, s.key
"""


def labelled_schema(problem: Problem) -> pa.Schema:
    """Columns of the labelled scores of a problem."""
    return LABELLED.append(PROBABILITIES) if problem == "multiclass" else LABELLED


def log_predictions(prediction: NDArray[np.float64]) -> dict[str, pa.Array]:
    """Columns of the prediction log for predictions: (n,), or (n, classes) of several classes."""
    if prediction.ndim == 1:
        return {"prediction": pa.array(prediction, pa.float64())}
    rows, classes = prediction.shape
    offsets = pa.array(np.arange(rows + 1) * classes, pa.int32())
    flat = pa.array(prediction.ravel(), pa.float64())
    named = pa.array(prediction.argmax(axis=1), pa.float64())
    return {"prediction": named, "probabilities": pa.ListArray.from_arrays(offsets, flat)}


def logged_predictions(rows: pa.Table) -> NDArray[np.float64]:
    """What `log_predictions` was called on, for rows of the log or of the labelled scores."""
    if PROBABILITIES.name not in rows.column_names:
        single: NDArray[np.float64] = rows.column("prediction").cast(pa.float64()).to_numpy(zero_copy_only=False)
        return single
    column = rows.column(PROBABILITIES.name)
    flat = pc.list_flatten(column).cast(pa.float64()).to_numpy(zero_copy_only=False)
    found: NDArray[np.float64] = flat.reshape(rows.num_rows, -1) if rows.num_rows else np.empty((0, 0))
    return found


def read_first_scores(use_case: UseCaseSpec, partition: str, *, lake: str) -> pa.Table | None:
    """The first score of each row and role of a partition, in the order of role, time and key.

    A row that was scored again, after its outcome or by another release, counts as it was first answered. None where
    nothing of the partition was scored.
    """
    table = Table(lake, use_case.table("predictions"))
    if partition not in table.partitions():
        return None
    names = [*_LOG, *([PROBABILITIES.name] if use_case.problem == "multiclass" else [])]
    return _query(_FIRST, {"predictions": table.read(partitions=[partition], columns=names)})


def join_first_scores(scores: pa.Table, labels: pa.Table, *, cut: datetime) -> pa.Table:
    """Scores with their labels, those alone that were known by the cut.

    Args:
        scores: as `read_first_scores` gives them.
        labels: `key`, `label` (null for none) and `label_known_at`.
        cut: instant.
    """
    schema = labelled_schema("multiclass" if PROBABILITIES.name in scores.column_names else "binary")
    joined = _query(_JOINED, {"scores": scores, "labels": labels}, {"cut": cut})
    return joined.select(schema.names).cast(schema)


def read_labelled(use_case: UseCaseSpec, partition: str, *, lake: str) -> pa.Table:
    """The labelled scores of a partition, in the order of role, time and key; empty where there are none."""
    table = Table(lake, use_case.table("labelled"))
    if partition not in table.partitions():
        return labelled_schema(use_case.problem).empty_table()
    rows = table.read(partitions=[partition], columns=labelled_schema(use_case.problem).names)
    return rows.sort_by([(name, "ascending") for name in ("role", "event_timestamp", "key")])


def of_role(rows: pa.Table, role: str) -> pa.Table:
    """The rows of one role."""
    return rows.filter(pc.equal(rows.column("role"), role))


def main_release(rows: pa.Table) -> int | None:
    """Version that most of the rows are from, the newer of two; None for no rows."""
    sizes = pc.value_counts(rows.column("release")).to_pylist()
    return max(sizes, key=lambda item: (item["counts"], item["values"]))["values"] if sizes else None


def _query(sql: str, tables: dict[str, pa.Table], parameters: dict[str, Any] | None = None) -> pa.Table:
    with connect(threads=1) as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return arrow(connection.sql(sql, params=parameters))
