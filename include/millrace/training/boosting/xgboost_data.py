"""Training rows as xgboost's quantised matrices: in memory, or in pages on disk where there are too many."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import xgboost

from millrace.errors import TrainingError
from millrace.package import Encoder
from millrace.training.base import TrainingData
from millrace.training.data.row_part import RowPart, split_rows, watched_rows
from millrace.training.params import XGBoostParams

Matrix: TypeAlias = "xgboost.QuantileDMatrix | xgboost.ExtMemQuantileDMatrix"


@dataclass(frozen=True, slots=True)
class Matrices:
    """What a fit reads.

    Attributes:
        kept: rows to train on.
        watched: matrix and name of the rows to look at after each round.
    """

    kept: Matrix
    watched: list[tuple[Matrix, str]]


class _Blocks(xgboost.DataIter):
    """Hands the rows over block by block; xgboost asks for them several times."""

    def __init__(self, part: RowPart, encoder: Encoder, cache: str | None) -> None:
        super().__init__(cache_prefix=cache)
        self._part, self._names = part, encoder.names
        self._types = ["c" if column.kind == "category" else "q" for column in encoder.columns]
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._left = self._part.blocks()
        self._part.release()

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over one block; False where there is none left."""
        block = next(self._left, None)
        if block is None:
            return False
        part = self._part
        part.release()
        meta = {} if part.weight is None else {"weight": part.weight[block]}
        input_data(
            data=part.matrix[block],
            label=part.target[block],
            feature_names=self._names,
            feature_types=self._types,
            **meta,
        )
        return True


def make_matrices(data: TrainingData, params: XGBoostParams, *, folder: Path) -> Matrices:
    """The matrices of a fit, made once for all fits that share `data.cache`.

    Args:
        data: the rows.
        params: `max_bin`, `threads`, and whether recent rows are kept back.
        folder: for the pages of rows too many for memory.
    """
    key = ("xgboost", params.max_bin, params.threads, bool(params.early_stopping))
    found = None if data.cache is None else data.cache.get(key)
    if found is None:
        found = _make(data, params, folder)
        if data.cache is not None:
            data.cache[key] = found
    return found


def _make(data: TrainingData, params: XGBoostParams, folder: Path) -> Matrices:
    kept, recent = split_rows(data, folder=folder, keep_back=bool(params.early_stopping))
    matrix = _quantised(kept, data.encoder, params, folder)
    watched = [(part, name) for part, name in ((recent, "recent"), (watched_rows(data), "watch")) if part is not None]
    return Matrices(matrix, [(_quantised(part, data.encoder, params, folder, matrix), name) for part, name in watched])


def _quantised(
    part: RowPart, encoder: Encoder, params: XGBoostParams, folder: Path, reference: Matrix | None = None
) -> Matrix:
    settings: dict[str, Any] = {
        "enable_categorical": True,
        "max_bin": params.max_bin,
        "nthread": params.threads,
        "ref": reference,
    }
    if not part.block_rows:
        return xgboost.QuantileDMatrix(_Blocks(part, encoder, None), **settings)
    if not hasattr(xgboost, "ExtMemQuantileDMatrix"):
        raise TrainingError(
            f"xgboost {xgboost.__version__} cannot train on more rows than fit into memory",
            where="resources.memory of the candidate",
            remedy="raise resources.memory, or lock xgboost 3.0 or later",
        )
    folder.mkdir(parents=True, exist_ok=True)
    pages = tempfile.mkdtemp(prefix="pages-", dir=folder)
    matrix = xgboost.ExtMemQuantileDMatrix(_Blocks(part, encoder, str(Path(pages, "rows"))), **settings)
    weakref.finalize(matrix, shutil.rmtree, pages, ignore_errors=True)
    return matrix
