"""Training rows cut into shares, one a worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from millrace.errors import TrainingError
from millrace.training.base import TrainingData


def share_rows(recent: NDArray[np.bool_], worker: int, workers: int, *, watched: bool, even: bool) -> NDArray[np.int64]:
    """Numbers of the rows of one worker, rising: every n-th, so that each has rows of all times.

    lightgbm makes the bins of a feature of the rows of one worker alone, so none may have rows of a kind of its own.

    Args:
        recent: rows of the last training partition.
        worker: which one, counted from 0.
        workers: how many there are.
        watched: early stopping watches the recent rows: each worker then has all of them, and so sees the same figure.
        even: every worker must have as many rows; the first ones are taken once more to make up for it.

    Raises:
        TrainingError: fewer rows than workers.
    """
    rows = np.flatnonzero(~recent) if watched else np.arange(len(recent))
    if len(rows) < workers:
        raise TrainingError(
            f"{len(rows)} rows to train on cannot be shared by {workers} workers",
            where="candidates: workers",
            remedy="train on more partitions, or ask for fewer workers",
        )
    if even:
        rows = np.concatenate([rows, rows[: -len(rows) % workers]])
    own = rows[worker::workers]
    return np.sort(np.concatenate([own, np.flatnonzero(recent)]) if watched else own)


@contextmanager
def cut_share(data: TrainingData, rows: NDArray[np.int64], folder: Path) -> Iterator[TrainingData]:
    """Those rows of the training data, for the time of a block; what lies in a file is cut into a file.

    Args:
        data: all rows.
        rows: numbers of those taken.
        folder: for the file of a matrix that is larger than what may be held at once.
    """
    path = folder / "share.f32"
    try:
        matrix = _cut_file(data, rows, path) if data.block_rows else data.matrix[rows]
        yield dataclasses.replace(
            data,
            cache=None,
            matrix=matrix,
            target=data.target[rows],
            recent=data.recent[rows],
            weight=None if data.weight is None else data.weight[rows],
        )
    finally:
        path.unlink(missing_ok=True)


def _cut_file(data: TrainingData, rows: NDArray[np.int64], path: Path) -> NDArray[np.float32]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for block in data.blocks(rows):
            data.matrix[block].tofile(file)
    # The view without the map's class is pickled by its pages, not by a copy.
    return np.memmap(path, np.float32, "r", shape=(len(rows), data.matrix.shape[1])).view(np.ndarray)
