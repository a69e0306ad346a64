"""Predictions of a network that torch trained, in numpy and float64: no torch, and a row agrees with its batch.

In float64 the order of a matrix product's sums moves a prediction by some 1e-15, in torch's float32 by 1e-7.
Tensors of the file: `embedding.<i>` (codes × width) a category, `layer.<i>.weight` (out × in) and `layer.<i>.bias`,
ReLU between layers, and `target` = (offset, scale) of the last layer's output, which is one a row, or one a class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors

from millrace.errors import PackageError
from millrace.package.encoder import Encoder

_BLOCK = 16_384


class NetworkModel:
    """Embeddings, dense layers with ReLU, one output or one a class."""

    def __init__(self, content: bytes, *, encoder: Encoder, problem: str, classes: int = 0) -> None:
        tensors = {name: tensor.astype(np.float64) for name, tensor in load_tensors(content).items()}
        self._encoder, self._problem = encoder, problem
        self._offset, self._scale = (float(item) for item in tensors["target"])
        self._embeddings = [tensors[f"embedding.{i}"] for i in range(len(encoder.categories))]
        depth = sum(name.endswith(".weight") for name in tensors)
        self._layers = [
            (np.ascontiguousarray(tensors[f"layer.{i}.weight"].T), tensors[f"layer.{i}.bias"]) for i in range(depth)
        ]
        found = self._layers[0][0].shape[0], self._layers[-1][0].shape[1]
        expected = (
            encoder.dense_width + sum(table.shape[1] for table in self._embeddings),
            classes if problem == "multiclass" else 1,
        )
        if found != expected:
            raise PackageError(
                f"the network takes {found[0]} inputs and gives {found[1]} outputs, "
                f"encoder and classes ask for {expected[0]} and {expected[1]}",
                where="model file",
                remedy="restore the package from the registry",
            )

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of 1, of each class, or the value."""
        return np.concatenate(
            [self._score(matrix[start : start + _BLOCK]) for start in range(0, max(len(matrix), 1), _BLOCK)]
        )

    def _score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        codes = matrix[:, self._encoder.categories].astype(np.int64)
        hidden = np.concatenate(
            [
                self._encoder.standardise(matrix).astype(np.float64),
                *(table[codes[:, i]] for i, table in enumerate(self._embeddings)),
            ],
            axis=1,
        )
        for weight, bias in self._layers[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0.0)
        weight, bias = self._layers[-1]
        output = hidden @ weight + bias
        if self._problem == "multiclass":
            return _softmax(output)
        value = output[:, 0] * self._scale + self._offset
        return _sigmoid(value) if self._problem == "binary" else value

    def contribute(self, matrix: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """A network has no contributions of its own."""
        return None


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    raised: NDArray[np.float64] = np.exp(values - values.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def load(content: bytes, *, encoder: Encoder, problem: str, threads: int, classes: int = 0) -> NetworkModel:
    """Load a network; numpy's own threads serve its products."""
    return NetworkModel(content, encoder=encoder, problem=problem, classes=classes)
