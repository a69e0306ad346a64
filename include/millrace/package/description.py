"""What the file of a model from elsewhere says of itself, format by format."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, cast

from millrace.errors import ModelImportError
from millrace.package.layout import Tensor

_MODULES = {
    "onnx": "millrace.package.onnx_description",
    "xgboost": "millrace.package.xgboost_description",
    "lightgbm": "millrace.package.lightgbm_description",
    "skops": "millrace.package.sklearn_frame",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output of an ONNX model.

    Attributes:
        name: its name.
        kind: `float`, `label` (whole numbers or texts) or `mapping` (class → probability a row).
        width: columns; 0 where they are not fixed.
    """

    name: str
    kind: str
    width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a model file says.

    Attributes:
        format: how it is read.
        content: the file; without what only training needs.
        library: import name of what reads it.
        version: its version here.
        names: what the model calls its inputs, in order; empty where it does not say.
        width: number of its inputs; 0 where it does not say.
        tensors: input tensors of an ONNX model; a width of 0 is open.
        outputs: its outputs, of an ONNX model.
        classes: classes in the order of its answer, where it says so.
        keys: the same as the answer's mappings have them.
        columns: columns of its answer; 0 where it does not say.
        facts: what else is worth keeping.
    """

    format: str
    content: bytes
    library: str
    version: str
    names: list[str] = field(default_factory=list)
    width: int = 0
    tensors: list[Tensor] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)
    columns: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def describe(model_format: str, content: bytes, *, wrapped: bool = False) -> Description:
    """Read a model file as far as is needed to say what it is.

    Args:
        model_format: `onnx`, `xgboost`, `lightgbm` or `skops`.
        content: the file.
        wrapped: whether it was saved by a booster's wrapper for scikit-learn, which predicts with its best rounds only.

    Raises:
        ModelImportError: it is not of that format, is damaged, or holds what is not let in.
    """
    module = _MODULES.get(model_format)
    if module is None:
        raise ModelImportError(
            f"models of format {model_format!r} are not taken in",
            where="format of the model",
            remedy=f"export it as one of: {', '.join(_MODULES)}",
        )
    try:
        read = importlib.import_module(module).describe_model
    except ImportError as error:
        raise ModelImportError(
            f"what reads {model_format} models is not installed: {error}",
            where="format of the model",
            remedy=f"install the extra of Millrace for it, or export the model otherwise than as {model_format}",
        ) from error
    return cast("Description", read(content, wrapped=wrapped))


def unreadable(what: str, remedy: str) -> ModelImportError:
    """A file that is not what it should be."""
    return ModelImportError(what, where="model file", remedy=remedy)
