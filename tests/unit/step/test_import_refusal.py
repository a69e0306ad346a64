"""What an import refuses beyond a wrong signature: other answers beside other rows, archives that swell."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tests.unit.package.onnx_models import linear
from tests.unit.step.foreign import FEATURES, Elsewhere, number, signature

from millrace.errors import ModelImportError, SpecError
from millrace.package.description import describe
from millrace.settings import Settings
from millrace.step.import_source import check_signature, load_signature

WEIGHTS = [[-0.4, 0.1, 0.3, 0.02, -0.1, 0.0], [0.8, -0.1, -0.2, -0.05, 0.2, 0.0]]


@pytest.fixture
def there(settings: Settings) -> Elsewhere:
    return Elsewhere(settings)


def of_the_batch() -> bytes:
    """A model that takes the mean of the batch away."""
    float_ = onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("ReduceMean", ["z"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["z", "mean"], ["centred"]),
        helper.make_node("Sigmoid", ["centred"], ["p"]),
    ]
    weights = numpy_helper.from_array(np.full((len(FEATURES), 1), 0.01, np.float32), "w")
    inputs = [helper.make_tensor_value_info("x", float_, [None, len(FEATURES)])]
    outputs = [helper.make_tensor_value_info("p", float_, [None, 1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=[weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return bytes(made.SerializeToString())


def test_a_model_whose_answer_depends_on_the_other_rows_is_refused(there: Elsewhere, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(of_the_batch())
    with pytest.raises(ModelImportError, match="answers otherwise when each row comes alone") as raised:
        there.take(tmp_path / "model.onnx", signature())
    assert "statistics of the batch" in raised.value.remedy
    assert not list(there.settings.packages.glob("*"))


@pytest.mark.parametrize("through", ["2020-03", "2021-01"])
def test_a_model_that_learned_from_the_holdout_is_refused(there: Elsewhere, tmp_path: Path, through: str) -> None:
    (tmp_path / "model.onnx").write_bytes(linear(WEIGHTS, [0, 0]))
    with pytest.raises(SpecError, match=f"rows through {through}, and is to be measured on 2020-03"):
        there.take(tmp_path / "model.onnx", signature(trained_through=through))


def test_columns_of_the_answer_that_are_no_classes_are_counted(there: Elsewhere, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(linear([*WEIGHTS, *WEIGHTS, WEIGHTS[0]], [0.0] * 5, classes=None))
    with pytest.raises(ModelImportError, match="answers with 5 columns, for the 2 classes 0, 1"):
        there.take(tmp_path / "model.onnx", signature())


def skops_file(schema: bytes, *, more: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", schema)
        if more:
            archive.writestr("array.npy", b"x")
    content = buffer.getvalue()
    if not more:
        return content
    at = content.rindex(b"PK\x01\x02")
    return content[: at + 24] + more.to_bytes(4, "little") + content[at + 28 :]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (skops_file(b"[" + b" " * (65 << 20) + b"]"), "schema in the file has 65 MiB"),
        (skops_file(b"{}", more=2 << 30), "unpacks to 2048 MiB"),
        (skops_file(b'{"__module__":"sklearn"}'), "__class__"),
        (skops_file(b"[" * 5000 + b"]" * 5000), "no skops file"),
    ],
    ids=["schema", "whole", "class", "deep"],
)
def test_a_skops_file_that_swells_or_lacks_parts_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ModelImportError, match=said):
        describe("skops", content)


def test_what_xgboost_says_of_garbage_is_told_without_its_stack() -> None:
    with pytest.raises(ModelImportError, match="Unknown construct") as raised:
        describe("xgboost", b"hello")
    assert "[bt]" not in raised.value.what
    assert ".so" not in raised.value.what


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": [number("size", missing=True)]},
        {"inputs": [number("size", missing="3")]},
        {"inputs": [{"type": "category", "name": "kind", "categories": {"a": True}}]},
        {"inputs": [{"type": "category", "name": "kind", "categories": ["a"], "unseen": True}]},
        {"examples": {"rows": [{}], "predictions": [True]}},
    ],
)
def test_a_truth_value_is_no_number(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="valid number"):
        check_signature(signature(**change), where="s")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source: abc\nsource: abd\n", "'source' stands twice"),
        ("[a]: 1\n", "a list or mapping stands as a key"),
        ("source: 2013-13-45\n", "month must be"),
        ("- a\n", "not a mapping"),
    ],
)
def test_a_signature_is_read_as_strictly_as_a_spec(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "signature.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=said):
        load_signature(tmp_path / "signature.yaml")
