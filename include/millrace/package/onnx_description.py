"""What an ONNX file says of itself: inputs, outputs, classes, operator sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from millrace.errors import PackageError
from millrace.package.description import Description, Output, unreadable
from millrace.package.layout import Tensor
from millrace.package.onnx_predictor import open_session

_KINDS = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(string)": "object",
}
_CHANCE = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators that answer otherwise each time."""
_FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")


def describe_model(content: bytes, *, wrapped: bool = False) -> Description:
    """Read a file.

    Raises:
        ModelImportError: it is no ONNX model, lies in several files, answers by chance, or ONNX Runtime does not
            run it.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise unreadable("the file is no ONNX model, or is cut off", "export it again, and copy it whole") from error
    if not model.graph.node:
        raise unreadable("the file holds no ONNX graph", "export it again, and copy it whole")
    if outside := sorted(_outside(model)):
        raise unreadable(
            f"tensors of the model lie in other files: {', '.join(outside)[:200]}",
            "save it in one file: onnx.save_model(model, path, save_as_external_data=False)",
        )
    if unsettled := sorted(_unsettled(model)):
        raise unreadable(
            f"operators of the model answer by chance or learn from the batch: {', '.join(unsettled)[:200]}",
            "export it for inference, without random operators or statistics of the batch",
        )
    try:
        session = open_session(content)
    except PackageError as error:
        sets = ", ".join(f"{item.domain or 'ai.onnx'} {item.version}" for item in model.opset_import)
        raise unreadable(f"{error.what} (it asks for the operator sets {sets})", error.remedy) from error
    tensors = [_tensor(item) for item in session.get_inputs()]
    outputs = [_output(item) for item in session.get_outputs()]
    classes, keys = _classes(model)
    widths = [tensor.width for tensor in tensors]
    return Description(
        format="onnx",
        content=content,
        library="onnxruntime",
        version=onnxruntime.__version__,
        names=[tensor.name for tensor in tensors] if len(tensors) > 1 and set(widths) == {1} else [],
        width=0 if 0 in widths else sum(widths),
        tensors=tensors,
        outputs=outputs,
        classes=classes,
        keys=keys,
        facts={
            "producer": f"{model.producer_name} {model.producer_version}".strip(),
            "operator_sets": {item.domain or "ai.onnx": int(item.version) for item in model.opset_import},
        },
    )


def _outside(model: Any) -> set[str]:
    """Files that tensors of the model, however deep in its graphs, lie in."""
    return {
        next((item.value for item in tensor.external_data if item.key == "location"), "?")
        for graph in _graphs(model)
        for tensor in _dense(graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }


def _dense(graph: Any) -> Iterator[Any]:
    """All tensors of a graph; of a sparse one its values and their places."""
    sparse = list(getattr(graph, "sparse_initializer", []))
    yield from getattr(graph, "initializer", [])
    for attribute in _attributes(graph):
        yield from (attribute.t, *attribute.tensors)
        sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _unsettled(model: Any) -> set[str]:
    """Operators, however deep, whose answer is not the row's alone."""
    nodes = [node for graph in _graphs(model) for node in graph.node]
    trained = (node for node in nodes if any(item.name == "training_mode" and item.i for item in node.attribute))
    return {node.op_type for node in nodes if node.op_type in _CHANCE} | {
        f"{node.op_type} (training_mode)" for node in trained
    }


def _graphs(model: Any) -> Iterator[Any]:
    """The graph and the functions of a model, and the graphs within them."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for attribute in _attributes(graph):
            waiting += [attribute.g, *attribute.graphs]


def _attributes(graph: Any) -> Iterator[Any]:
    """Attributes of the nodes of a graph, and the defaults of a function's own."""
    yield from (attribute for node in graph.node for attribute in node.attribute)
    yield from getattr(graph, "attribute_proto", [])


def _tensor(item: Any) -> Tensor:
    kind = _KINDS.get(item.type)
    if kind is None or len(item.shape) not in (1, 2):
        raise unreadable(
            f"input {item.name!r} is a {item.type} of shape {item.shape}",
            "export it with inputs of one or two dimensions: rows, and numbers or texts",
        )
    if type(item.shape[0]) is int and item.shape[0] != -1:
        raise unreadable(
            f"input {item.name!r} takes {item.shape[0]} rows at a time",
            "export it with an open first dimension, so that it takes any number of rows",
        )
    flat = len(item.shape) == 1
    width = 1 if flat else item.shape[1] if type(item.shape[1]) is int and item.shape[1] > 0 else 0
    return Tensor(name=item.name, kind=kind, width=width, flat=flat)


def _output(item: Any) -> Output:
    if item.type.startswith("seq(map("):
        return Output(name=item.name, kind="mapping")
    if item.type not in _FLOATS:
        return Output(name=item.name, kind="label")
    last = item.shape[-1] if len(item.shape) == 2 else 1
    return Output(name=item.name, kind="float", width=last if type(last) is int and last > 0 else 0)


def _classes(model: Any) -> tuple[list[str], list[Any]]:
    """The classes of a classifier of `ai.onnx.ml`, in the order of its answer, and as a mapping has them."""
    wanted = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")
    found = [
        (node.op_type == "ZipMap", attribute)
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.name in wanted and (attribute.ints or attribute.strings)
    ]
    if not found:
        return [], []
    attribute = max(found, key=lambda item: item[0])[1]
    keys: list[Any] = list(attribute.ints) or [text.decode() for text in attribute.strings]
    return [str(key) for key in keys], keys
