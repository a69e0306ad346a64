"""Encoded rows as batches of tensors: all in memory, or a block at a time out of a file that is mapped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from millrace.training.base import TrainingData
from millrace.training.data.row_part import RowPart

_SLICE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows as a network takes them.

    Attributes:
        dense: standardised numbers and indicators of missing ones.
        codes: codes of the categories.
        target: label, or the place of its class.
        weight: how much each row counts; 1 on average over the rows trained on.
    """

    dense: torch.Tensor
    codes: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor

    def __len__(self) -> int:
        return len(self.target)

    def pick(self, rows: torch.Tensor) -> Batch:
        """Some of the rows, in that order."""
        return Batch(dense=self.dense[rows], codes=self.codes[rows], target=self.target[rows], weight=self.weight[rows])

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(
            dense=self.dense.to(device),
            codes=self.codes.to(device),
            target=self.target.to(device),
            weight=self.weight.to(device),
        )


class BlockedRows:
    """A part of the training rows, read block by block; a single block is prepared once and kept."""

    def __init__(self, data: TrainingData, rows: NDArray[np.int64], target: NDArray[np.float32], unit: float) -> None:
        """Take some rows.

        Args:
            data: all rows.
            rows: numbers of those to take, rising.
            target: target of all rows as the loss wants it.
            unit: weight that counts as 1.
        """
        self._data, self._target, self._unit = data, target, unit
        self._source = RowPart(matrix=data.matrix, target=target, block_rows=data.block_rows)
        self._blocks = list(data.blocks(rows))
        self._kept: Batch | None = None

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """All rows once, in random order: blocks are shuffled, and the rows of each."""
        for place in torch.randperm(len(self._blocks), generator=generator).tolist():
            block = self._prepare(place)
            for rows in torch.randperm(len(block), generator=generator).split(size):
                yield block.pick(rows)

    def steps(self, size: int) -> int:
        """Number of batches that `batches` gives."""
        return sum(-(-len(block) // size) for block in self._blocks)

    def in_order(self, size: int) -> Iterator[Batch]:
        """All rows once, as they come."""
        for place in range(len(self._blocks)):
            block = self._prepare(place)
            for rows in torch.arange(len(block)).split(size):
                yield block.pick(rows)

    def count_codes(self) -> list[torch.Tensor]:
        """For each category, how many rows have each of its codes."""
        encoder = self._data.encoder
        counts = [np.zeros(encoder.columns[i].cardinality, np.int64) for i in encoder.categories]
        for block in self._blocks:
            matrix = _taken(self._data.matrix, block)
            for place, column in enumerate(encoder.categories):
                counts[place] += np.bincount(matrix[:, column].astype(np.int64), minlength=len(counts[place]))
            self._source.release()
        return [torch.from_numpy(found) for found in counts]

    def _prepare(self, place: int) -> Batch:
        if self._kept is not None:
            return self._kept
        data, rows = self._data, self._blocks[place]
        encoder = data.encoder
        dense = np.empty((len(rows), encoder.dense_width), np.float32)
        codes = np.empty((len(rows), len(encoder.categories)), np.int32)
        for start in range(0, len(rows), _SLICE):
            part = slice(start, start + _SLICE)
            matrix = _taken(data.matrix, rows[part])
            dense[part], codes[part] = encoder.standardise(matrix), matrix[:, encoder.categories]
        weight = np.ones(len(rows), np.float32) if data.weight is None else data.weight[rows] / np.float32(self._unit)
        target = self._target[rows]
        block = Batch(
            dense=torch.from_numpy(dense),
            codes=torch.from_numpy(codes),
            target=torch.from_numpy(target.astype(np.int64) if data.problem == "multiclass" else target),
            weight=torch.from_numpy(weight),
        )
        self._source.release()
        if len(self._blocks) == 1:
            self._kept = block
        return block


def _taken(matrix: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Some rows, by a view where they follow each other."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return matrix[rows[0] : rows[-1] + 1]
    return matrix[rows]
