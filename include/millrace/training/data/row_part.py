"""A part of the training rows for a library's own matrix, without a copy of what lies in one piece."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from millrace.training.base import TrainingData


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPart:
    """Rows to train on, or to look at.

    Attributes:
        matrix: float32 (rows, features).
        target: label of each row.
        weight: weight of each row; None where all count the same.
        block_rows: rows to hold at once; 0 where the matrix is in memory.
    """

    matrix: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32] | None = None
    block_rows: int = 0

    def blocks(self) -> Iterator[slice]:
        """The rows in blocks of `block_rows`; all at once where it is 0."""
        size = self.block_rows or max(len(self.target), 1)
        for start in range(0, len(self.target), size):
            yield slice(start, min(start + size, len(self.target)))

    def release(self) -> None:
        """Give the pages of a mapped file back that were read; they are read again when they are needed."""
        owner: object = self.matrix if self.block_rows else None
        while owner is not None:
            if isinstance(owner, mmap.mmap):
                with contextlib.suppress(OSError):
                    owner.madvise(mmap.MADV_DONTNEED)
                return
            owner = getattr(owner, "base", None)


def split_rows(data: TrainingData, *, folder: Path, keep_back: bool) -> tuple[RowPart, RowPart | None]:
    """Rows to train on, and the recent ones where these are kept back.

    Args:
        data: all rows.
        folder: for a file with rows that do not lie in one piece and are too many for memory.
        keep_back: whether the recent rows are kept back.
    """
    if not keep_back:
        return _part(data, slice(None)), None
    return _chosen(data, ~data.recent, folder), _chosen(data, data.recent, folder)


def watched_rows(data: TrainingData) -> RowPart | None:
    """Rows of `data.watch`."""
    return None if data.watch is None else RowPart(matrix=data.watch.matrix, target=data.watch.target)


def _chosen(data: TrainingData, mask: NDArray[np.bool_], folder: Path) -> RowPart:
    rows = np.flatnonzero(mask)
    if not len(rows) or len(rows) == rows[-1] - rows[0] + 1:
        return _part(data, slice(rows[0], rows[-1] + 1) if len(rows) else slice(0))
    if not data.block_rows:
        return _part(data, rows)
    return RowPart(
        matrix=_gathered(data, rows, folder),
        target=data.target[rows],
        weight=None if data.weight is None else data.weight[rows],
        block_rows=data.block_rows,
    )


def _part(data: TrainingData, rows: slice | NDArray[np.int64]) -> RowPart:
    return RowPart(
        matrix=data.matrix[rows],
        target=data.target[rows],
        weight=None if data.weight is None else data.weight[rows],
        block_rows=data.block_rows,
    )


def _gathered(data: TrainingData, rows: NDArray[np.int64], folder: Path) -> NDArray[np.float32]:
    """The rows in a mapped file without a name, which is gone with the array, also after a kill."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        for block in data.blocks(rows):
            file.write(np.ascontiguousarray(data.matrix[block]).data)
        file.flush()
        return np.memmap(file, np.float32, "r", shape=(len(rows), data.matrix.shape[1]))
