"""Work on each row of a table by Ray Data: slices of it through processes that loaded what they need once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.engine.base import RowWork
from millrace.errors import MillraceError

SLICE_ROWS = 100_000
_AT = "__row"
RowResult = np.ndarray | MillraceError


def slices_of(rows: pa.Table) -> Iterator[pa.Table]:
    """The table in slices, the number of each row beside it."""
    for start in range(0, rows.num_rows, SLICE_ROWS):
        part = rows.slice(start, SLICE_ROWS)
        yield part.append_column(_AT, pa.array(np.arange(start, start + part.num_rows)))


def run_rows(open_work: Callable[[], RowWork], slices: Sequence[Any], *, cores: int, width: int) -> RowResult:
    """Values of all rows in order, or why there are none; runs on the cluster.

    Args:
        open_work: loads what the work needs.
        slices: references to what `slices_of` gave.
        cores: of one process.
        width: processes at once.
    """
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_arrow_refs(list(slices)).map_batches(
        _RowWorker,
        fn_constructor_args=(open_work,),
        batch_format="pyarrow",
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=width),
        num_cpus=cores,
    )
    found: dict[int, np.ndarray] = {}
    for row in dataset.iter_rows():
        told = pickle.loads(row["told"])
        if isinstance(told, MillraceError):
            return told
        found[row["start"]] = told
    return np.concatenate([found[start] for start in sorted(found)])


class _RowWorker:
    """One process that works on slices; an error travels as a value, since Ray would keep no more than its text."""

    def __init__(self, open_work: Callable[[], RowWork]) -> None:
        self._work = open_work()

    def __call__(self, part: pa.Table) -> pa.Table:
        """One row: where the slice begins, and its values or the error."""
        told: RowResult
        try:
            told = np.asarray(self._work(part.drop_columns([_AT])))
        except MillraceError as error:
            told = error
        start = part.column(_AT)[0].as_py()
        return pa.table({"start": [start], "told": pa.array([pickle.dumps(told)], pa.large_binary())})
