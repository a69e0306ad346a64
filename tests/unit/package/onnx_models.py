"""Small ONNX models, made node by node, and what they must answer in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

_FLOAT, _TEXT, _WHOLE = TensorProto.FLOAT, TensorProto.STRING, TensorProto.INT64


def linear(
    weights: Sequence[Sequence[float]],
    intercepts: Sequence[float],
    *,
    classes: Sequence[int] | Sequence[str] | None = (0, 1),
    columns: Sequence[str] = (),
    texts: Mapping[str, Mapping[str, float]] | None = None,
    mapped: bool = False,
    fixed_rows: bool = False,
    whole: Sequence[str] = (),
    operator_set: int = 21,
) -> bytes:
    """A linear model: a classifier with probabilities, or a regression where there are no classes.

    Args:
        weights: one row an output.
        intercepts: one an output.
        classes: labels of the outputs.
        columns: names of one input tensor a column; one tensor of all where empty.
        texts: columns that take texts → text → number that is multiplied.
        mapped: whether probabilities come as one mapping a row.
        fixed_rows: whether it takes one row at a time.
        whole: columns that take whole numbers.
        operator_set: of the standard operators.
    """
    texts, count = dict(texts or {}), len(weights[0])
    rows = 1 if fixed_rows else None
    nodes, inputs, parts = [], [], []
    for name in columns:
        kind = _TEXT if name in texts else _WHOLE if name in whole else _FLOAT
        inputs.append(helper.make_tensor_value_info(name, kind, [rows, 1]))
        parts.append(name)
        if name in texts:
            encoded = helper.make_node(
                "LabelEncoder",
                [name],
                [f"{name}_code"],
                domain="ai.onnx.ml",
                keys_strings=list(texts[name]),
                values_floats=list(texts[name].values()),
                default_float=0.0,
            )
            nodes.append(encoded)
            parts[-1] = f"{name}_code"
        elif name in whole:
            nodes.append(helper.make_node("Cast", [name], [f"{name}_float"], to=_FLOAT))
            parts[-1] = f"{name}_float"
    if columns:
        nodes.append(helper.make_node("Concat", parts, ["X"], axis=1))
    else:
        inputs.append(helper.make_tensor_value_info("X", _FLOAT, [rows, count]))
    outputs = _answer(nodes, weights, intercepts, classes, mapped=mapped)
    graph = helper.make_graph(nodes, "linear", inputs, outputs)
    sets = [helper.make_opsetid("", operator_set), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=sets, producer_name="tests", ir_version=10)
    return bytes(model.SerializeToString())


def _answer(
    nodes: list[Any], weights: Any, intercepts: Any, classes: Any, *, mapped: bool
) -> list[onnx.ValueInfoProto]:
    flat = [float(value) for row in weights for value in row]
    ml = {"domain": "ai.onnx.ml"}
    if classes is None:
        nodes.append(
            helper.make_node("LinearRegressor", ["X"], ["variable"], coefficients=flat, intercepts=intercepts, **ml)
        )
        return [helper.make_tensor_value_info("variable", _FLOAT, [None, len(weights)])]
    key = "classlabels_strings" if isinstance(classes[0], str) else "classlabels_ints"
    zipped = "classlabels_strings" if isinstance(classes[0], str) else "classlabels_int64s"
    kind = _TEXT if isinstance(classes[0], str) else _WHOLE
    shape = "SOFTMAX"
    nodes.append(
        helper.make_node(
            "LinearClassifier",
            ["X"],
            ["label", "scores"],
            coefficients=flat,
            intercepts=list(map(float, intercepts)),
            post_transform=shape,
            **{key: list(classes)},
            **ml,
        )
    )
    label = helper.make_tensor_value_info("label", kind, [None])
    if not mapped:
        return [label, helper.make_tensor_value_info("scores", _FLOAT, [None, len(classes)])]
    nodes.append(helper.make_node("ZipMap", ["scores"], ["mapped"], **{zipped: list(classes)}, **ml))
    name_to = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(_FLOAT, []))
    sequence = helper.make_sequence_type_proto(name_to)
    return [label, helper.make_value_info("mapped", sequence)]


def softmax(matrix: NDArray[Any], weights: Any, intercepts: Any) -> NDArray[np.float64]:
    """What a classifier of `linear` answers."""
    scores = np.asarray(matrix, np.float64) @ np.asarray(weights, np.float64).T + np.asarray(intercepts, np.float64)
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
