"""ONNX files that read other files, or answer by chance, are not taken in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from millrace.errors import MillraceError
from millrace.package.description import describe
from millrace.package.onnx_predictor import open_session

COUNT = 3
ANSWER = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])]
WEIGHTS = numpy_helper.from_array(np.full((COUNT, 1), 0.1, np.float32), "w")


def model(nodes: list[Any], *tensors: Any) -> Any:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, COUNT])]
    outputs = [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=list(tensors))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return made


def sparse(location: str) -> Any:
    """A sparse tensor whose values lie in a file."""
    found = onnx.SparseTensorProto()
    found.values.name, found.values.data_type, found.values.data_location = "w", TensorProto.FLOAT, TensorProto.EXTERNAL
    found.values.dims[:], found.dims[:] = [COUNT], [COUNT, 1]
    for key, value in (("location", location), ("offset", "0"), ("length", str(4 * COUNT))):
        found.values.external_data.add(key=key, value=value)
    found.indices.CopyFrom(numpy_helper.from_array(np.arange(COUNT, dtype=np.int64), "w_idx"))
    return found


@pytest.mark.parametrize("place", ["initializer", "constant", "nested"])
def test_sparse_tensors_in_other_files_are_not_followed(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.bin").write_bytes(np.full(COUNT, 0.5, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    constant = helper.make_node("Constant", [], ["w"], sparse_value=sparse("secret.bin"))
    made = model(ANSWER if place == "initializer" else [constant, *ANSWER])
    if place == "initializer":
        made.graph.sparse_initializer.add().CopyFrom(sparse("secret.bin"))
    if place == "nested":
        inner = helper.make_graph(
            [constant], "inner", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, None)]
        )
        truth = numpy_helper.from_array(np.array(True), "truth")
        branch = helper.make_node("If", ["truth"], ["w"], then_branch=inner, else_branch=inner)
        made = model([branch, *ANSWER], truth)
    with pytest.raises(MillraceError, match=r"lie in other files: secret\.bin"):
        describe("onnx", made.SerializeToString())
    with pytest.raises(MillraceError, match="does not read the model"):
        open_session(made.SerializeToString())


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([ANSWER[0], helper.make_node("RandomUniformLike", ["z"], ["p"])], "RandomUniformLike"),
        ([*ANSWER[:1], helper.make_node("Sigmoid", ["z"], ["q"]), helper.make_node("Bernoulli", ["q"], ["p"])], "Bern"),
        (
            [
                ANSWER[0],
                helper.make_node("Dropout", ["z"], ["y"]),
                helper.make_node("BatchNormalization", ["y", "s", "s", "s", "s"], ["p", "m", "v"], training_mode=1),
            ],
            r"BatchNormalization \(training_mode\)",
        ),
    ],
)
def test_operators_of_chance_and_of_training_are_refused(nodes: list[Any], said: str) -> None:
    ones = numpy_helper.from_array(np.ones(1, np.float32), "s")
    with pytest.raises(MillraceError, match=f"by chance or learn from the batch: {said}") as raised:
        describe("onnx", model(nodes, WEIGHTS, ones).SerializeToString())
    assert "for inference" in raised.value.remedy
    assert describe("onnx", model(ANSWER, WEIGHTS).SerializeToString()).width == COUNT
