"""Training rows as lightgbm's binned datasets: of an array, or of a sequence of blocks where there are too many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from millrace.package import Encoder
from millrace.training.base import TrainingData
from millrace.training.data.row_part import RowPart, split_rows, watched_rows
from millrace.training.params import LightGBMParams

_SAMPLE, _LEAST_SAMPLE = 200_000, 10_000
_RELEASE_EVERY = 256  # single rows: the kernel maps 64 KB of a file around each


class _Blocks(lightgbm.Sequence):
    """Rows of a mapped file; lightgbm draws a sample of them one by one, then reads all by the batch."""

    def __init__(self, part: RowPart) -> None:
        self._part, self._drawn = part, 0
        self.batch_size = part.block_rows

    def __len__(self) -> int:
        return len(self._part.target)

    def __getitem__(self, index: int | slice | list[int]) -> NDArray[Any]:
        rows = self._part.matrix[index]
        found = np.array(rows, np.float64 if rows.ndim == 1 else np.float32)
        self._drawn += 1
        if rows.ndim == 2 or self._drawn % _RELEASE_EVERY == 0:
            self._part.release()
        return found


@dataclass(frozen=True, slots=True)
class Rows:
    """A dataset, and the rows it is made of.

    Attributes:
        part: the rows.
        dataset: made of them when it is first trained on.
        name: what its losses are called.
    """

    part: RowPart
    dataset: lightgbm.Dataset
    name: str

    def start_from(self, model: lightgbm.Booster | None, outputs: int) -> None:
        """Begin with the scores of a model, or without any."""
        if model is None:
            if self.dataset.init_score is not None:
                self.dataset.set_init_score(None)
            return
        scores = np.empty((outputs, len(self.part.target)))
        for block in self.part.blocks():
            scores[:, block] = np.asarray(model.predict(self.part.matrix[block], raw_score=True)).reshape(-1, outputs).T
            self.part.release()
        self.dataset.set_init_score(scores.ravel())


@dataclass(frozen=True, slots=True)
class Datasets:
    """What a fit reads.

    Attributes:
        kept: rows to train on.
        watched: rows to look at after each round.
        outputs: raw scores of a row: one, for multiclass one a class.
    """

    kept: Rows
    watched: list[Rows]
    outputs: int

    def start_from(self, model: lightgbm.Booster | None) -> None:
        """Let the next model be trained on what a model leaves to be learned; on all of it where it is None."""
        for rows in (self.kept, *self.watched):
            rows.start_from(model, self.outputs)


def make_datasets(data: TrainingData, params: LightGBMParams, *, seed: int, folder: Path) -> Datasets:
    """The datasets of a fit, made once for all fits in one piece that share `data.cache`.

    Args:
        data: the rows.
        params: `max_bin`, `threads`, and whether recent rows are kept back.
        seed: of the sample of rows that bins are made of.
        folder: for a file with rows too many for memory.
    """
    cache = None if params.checkpoint_every else data.cache
    key = ("lightgbm", params.max_bin, params.threads, bool(params.early_stopping), seed)
    found = None if cache is None else cache.get(key)
    if found is None:
        found = _make(data, params, seed, folder)
        if cache is not None:
            for rows in (found.kept, *found.watched):
                rows.dataset.construct()
            cache[key] = found
    return found


def _make(data: TrainingData, params: LightGBMParams, seed: int, folder: Path) -> Datasets:
    settings = {
        "max_bin": params.max_bin,
        "num_threads": params.threads,
        "data_random_seed": seed,
        "bin_construct_sample_cnt": _sample(data.block_rows),
        "feature_pre_filter": False,
        "verbosity": -1,
    }
    kept, recent = split_rows(data, folder=folder, keep_back=bool(params.early_stopping))
    train = Rows(kept, _dataset(kept, data.encoder, settings), "train")
    looked = [(part, name) for part, name in ((recent, "recent"), (watched_rows(data), "watch")) if part is not None]
    watched = [Rows(part, _dataset(part, data.encoder, settings, train.dataset), name) for part, name in looked]
    return Datasets(train, watched, data.classes if data.problem == "multiclass" else 1)


def _sample(block_rows: int) -> int:
    """Rows that bins are made of: as many as lightgbm takes itself, or as fit into memory with a block."""
    return min(_SAMPLE, max(block_rows, _LEAST_SAMPLE)) if block_rows else _SAMPLE


def _dataset(
    part: RowPart, encoder: Encoder, settings: Mapping[str, Any], reference: lightgbm.Dataset | None = None
) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        _Blocks(part) if part.block_rows else part.matrix,
        part.target,
        weight=part.weight,
        reference=reference,
        feature_name=encoder.names,
        categorical_feature=encoder.categories,
        params=dict(settings),
        free_raw_data=False,
    )
