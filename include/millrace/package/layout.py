"""How encoded features become the input of a model from elsewhere, and its answer a prediction.

A model from elsewhere has its own names, order, codes and outputs. Its file in a package is a zip archive of the model
as it came and of `layout.json`, which says how the one is translated into the other.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from millrace.artifact import canonical
from millrace.errors import PackageError
from millrace.package.encoder import Encoder

IMPORTED = "imported"
"""Trainer of packages whose model was trained elsewhere."""
_MODEL, _LAYOUT = "model", "layout.json"
_STAMP = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """One input of the model.

    Attributes:
        name: what the model calls it.
        feature: the feature of the package it is.
        codes: of a category given as a code: what stands for each code of the encoder (vocabulary, unseen, missing),
            None for NaN.
        texts: of a category given as text: the same as text.
        missing: of a number: what stands for a missing one, None for NaN.
    """

    name: str
    feature: str
    codes: list[float | None] | None = None
    texts: list[str] | None = None
    missing: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input tensor of an ONNX model.

    Attributes:
        name: its name.
        kind: numpy type of its values, `object` for texts.
        width: how many inputs it holds.
        flat: whether it has one dimension only.
    """

    name: str
    kind: str
    width: int
    flat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The translation.

    Attributes:
        format: how the model is read.
        inputs: in the model's order.
        tensors: of an ONNX model, in the order that they take up the inputs.
        output: name of the output of an ONNX model.
        places: column of the answer that is each class of the use case, 1 alone of a binary one; empty where the
            answer is a column.
        keys: what the answer calls its columns, where it is a mapping a row.
        link: what makes probabilities of the answer.
    """

    format: str
    inputs: list[ModelInput]
    tensors: list[Tensor] = field(default_factory=list)
    output: str = ""
    places: list[int] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)
    link: Literal["identity", "logit", "softmax"] = "identity"

    def predictions(self, answer: NDArray[np.float64], problem: str) -> NDArray[np.float64]:
        """What the model answered, as predictions: (rows,), or (rows, classes).

        Raises:
            PackageError: the answer has another shape than it was laid out for.
        """
        if answer.ndim == 2 and answer.shape[1] == 1:
            answer = answer[:, 0]
        linked = _LINKS[self.link](answer)
        if self.places and (linked.ndim != 2 or linked.shape[1] <= max(self.places)):
            raise PackageError(
                f"the model answers with shape {answer.shape}, {len(self.places)} classes were laid out",
                where="model file",
                remedy="import it again with the output and classes that it has",
            )
        if problem == "multiclass":
            return linked[:, self.places]
        return linked[:, self.places[0]] if self.places else linked

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(dataclasses.asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> Layout:
        """The value that `to_bytes` was called on."""
        plain: Mapping[str, Any] = orjson.loads(content)
        return cls(
            **{
                **plain,
                "inputs": [ModelInput(**item) for item in plain["inputs"]],
                "tensors": [Tensor(**item) for item in plain["tensors"]],
            }
        )


class Translation:
    """Encoded rows to the inputs of a model, with tables that are made once.

    Args:
        layout: says what stands for what.
        encoder: of the rows.
    """

    def __init__(self, layout: Layout, encoder: Encoder) -> None:
        names = encoder.names
        self.places = [names.index(item.feature) for item in layout.inputs]
        self._tables = [_table(item) for item in layout.inputs]
        self._missing = [None if item.missing is None else np.float32(item.missing) for item in layout.inputs]

    def columns(self, matrix: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Each input's values, in the model's order: float32, or texts."""
        found: list[NDArray[Any]] = []
        for place, table, missing in zip(self.places, self._tables, self._missing, strict=True):
            values = matrix[:, place]
            if table is not None:
                values = table[values.astype(np.int64)]
            elif missing is not None:
                values = np.where(np.isnan(values), missing, values)
            found.append(values)
        return found


def _table(item: ModelInput) -> NDArray[Any] | None:
    """What stands for each code of the encoder; None for a number."""
    if item.texts is not None:
        return np.array(item.texts, object)
    if item.codes is not None:
        return np.array([np.nan if code is None else code for code in item.codes], np.float32)
    return None


def pack(layout: Layout, model: bytes) -> bytes:
    """Layout and model as one file; equal parts give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in ((_LAYOUT, layout.to_bytes()), (_MODEL, model)):
            archive.writestr(zipfile.ZipInfo(name, _STAMP), content)
    return buffer.getvalue()


def unpack(content: bytes) -> tuple[Layout, bytes]:
    """What `pack` made a file of.

    Raises:
        PackageError: it is no such file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return Layout.from_bytes(archive.read(_LAYOUT)), archive.read(_MODEL)
    except (zipfile.BadZipFile, KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise PackageError(
            f"not a model with its layout: {error}", where="model file", remedy="import the model again"
        ) from error


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    raised: NDArray[np.float64] = np.exp(values - values.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _logistic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def _same(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values


_LINKS: dict[str, Any] = {"identity": _same, "logit": _logistic, "softmax": _softmax}


def as_matrix(columns: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Columns of numbers side by side."""
    return np.column_stack(columns).astype(np.float32, copy=False)
