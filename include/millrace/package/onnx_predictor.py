"""Predictions of an ONNX model by ONNX Runtime, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from millrace.errors import PackageError
from millrace.package.layout import Layout

_ERRORS = 3
_OUTSIDE = "session.model_external_initializers_file_folder_path"
"""Where tensors outside of the model's file would be read from: a folder that holds nothing, nor can."""


class OnnxModel:
    """A session with a fixed number of threads, which sleep between two calls.

    Args:
        content: the ONNX file.
        layout: its tensors and its output.
        threads: cores to predict with.
    """

    def __init__(self, content: bytes, layout: Layout, *, threads: int) -> None:
        self._session = open_session(content, threads=threads)
        self._tensors, self._output, self._keys = layout.tensors, layout.output, layout.keys

    def run(self, columns: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """The chosen output; of a mapping a row, its values in the order of the keys laid out."""
        answer = self._session.run([self._output], self._feed(columns))[0]
        if isinstance(answer, list):
            return np.array([[row[key] for key in self._keys] for row in answer], np.float64)
        return np.asarray(answer, np.float64)

    def _feed(self, columns: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        feed, start = {}, 0
        for tensor in self._tensors:
            taken = columns[start : start + tensor.width]
            start += tensor.width
            whole = np.column_stack(taken) if tensor.width > 1 or not tensor.flat else taken[0]
            if tensor.kind.startswith("int"):
                whole = np.rint(whole)
            feed[tensor.name] = whole.astype(tensor.kind)
        return feed


def open_session(content: bytes, *, threads: int = 1) -> Any:
    """A session of ONNX Runtime.

    Raises:
        PackageError: it does not read the model: no ONNX, an operator or an operator set it does not know, or tensors
            that lie in other files.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _ERRORS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(_OUTSIDE, os.devnull)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise PackageError(
            f"ONNX Runtime {onnxruntime.__version__} does not read the model: {_told(error)}",
            where="model file",
            remedy="export it again for an operator set that this version knows",
        ) from error


def load_foreign(content: bytes, layout: Layout, problem: str, *, threads: int) -> OnnxModel:
    """Load a model; its problem shows in the layout."""
    return OnnxModel(content, layout, threads=threads)


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.rpartition("] : ")[2][:300] or type(error).__name__
