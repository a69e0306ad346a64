"""Predictions of a model that was trained elsewhere, through the layout it was imported with."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from millrace.errors import PackageError
from millrace.package.encoder import ColumnEncoder, Encoder
from millrace.package.layout import Layout, Translation, as_matrix, unpack

_BLOCK = 65_536
_READERS = {"onnx": "millrace.package.onnx_predictor", "skops": "millrace.package.sklearn_frame"}
_BOOSTERS = {"xgboost": "millrace.package.xgboost_predictor", "lightgbm": "millrace.package.lightgbm_predictor"}


class ForeignModel(Protocol):
    """A model of another maker, read from its bytes."""

    def run(self, columns: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Its answer to rows that are given input by input: (rows,) or (rows, width)."""
        ...


class ImportedModel:
    """The model, with what translates encoded rows for it."""

    def __init__(self, content: bytes, *, encoder: Encoder, problem: str, threads: int, classes: int) -> None:
        self._layout, model = unpack(content)
        self._translation, self._problem = Translation(self._layout, encoder), problem
        self._classes = classes if problem == "multiclass" else 0
        self._booster: Any = None
        self._foreign: ForeignModel | None = None
        if self._layout.format in _BOOSTERS:
            module = importlib.import_module(_BOOSTERS[self._layout.format])
            inner = _inputs(self._layout)
            self._booster = module.load(model, encoder=inner, problem=problem, threads=threads, classes=classes)
        elif self._layout.format in _READERS:
            module = importlib.import_module(_READERS[self._layout.format])
            self._foreign = cast("ForeignModel", module.load_foreign(model, self._layout, problem, threads=threads))
        else:
            raise PackageError(
                f"no reader for imported models of format {self._layout.format!r}",
                where="model file",
                remedy="use the version of Millrace that imported it",
            )

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of 1, of each class, or the value."""
        if not len(matrix):
            return np.empty((0, self._classes) if self._classes else 0)
        starts = range(0, len(matrix), _BLOCK)
        return np.concatenate([self._score(matrix[start : start + _BLOCK]) for start in starts])

    def _score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        columns = self._translation.columns(matrix)
        answer = self._booster.score(as_matrix(columns)) if self._foreign is None else self._foreign.run(columns)
        return self._layout.predictions(np.asarray(answer, np.float64), self._problem)

    def contribute(self, matrix: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Those of a booster; other models from elsewhere tell none."""
        if self._booster is None:
            return None
        own = self._booster.contribute(as_matrix(self._translation.columns(matrix)))
        found = np.zeros(matrix.shape)
        found[:, self._translation.places] = own
        return found


def _inputs(layout: Layout) -> Encoder:
    """The inputs as the booster names them."""
    return Encoder(
        [
            ColumnEncoder(name=item.name, kind="number" if item.codes is None else "category", vocabulary=[])
            for item in layout.inputs
        ]
    )


def load(content: bytes, *, encoder: Encoder, problem: str, threads: int, classes: int = 0) -> ImportedModel:
    """Load a model with its layout.

    Raises:
        PackageError: it is no such file, or the model holds what is not let in.
    """
    return ImportedModel(content, encoder=encoder, problem=problem, threads=threads, classes=classes)
