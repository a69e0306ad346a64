from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.serving.base import InferenceRequest, Kind, RequestError
from millrace.serving.protocol import encode_inference, parse_inference

KINDS: dict[str, Kind] = {"x": "number", "c": "category", "k": "key"}


def tensor(name: str = "x", shape: Any = (2,), datatype: str = "FP64", data: Any = (1.0, 2.0), **more: Any) -> dict:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": list(data), **more}


def parse(*tensors: Any, **more: Any) -> InferenceRequest:
    return parse_inference(orjson.dumps({"inputs": list(tensors), **more}), None, KINDS)


def test_inputs_become_columns_in_both_shapes() -> None:
    request = parse(tensor(), tensor("c", (2, 1), "BYTES", [["a"], [None]]), tensor("k", (2,), "INT64", [7, 8]), id="7")
    assert request.rows == 2
    assert list(request.columns["x"]) == [1.0, 2.0]
    assert request.columns["c"] == ["a", None]
    assert request.columns["k"] == [7, 8]
    assert request.id == "7"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"inputs": [tensor(), tensor("c", (1,), "BYTES", ["a"])]}, "'c' has 1 rows, 'x' has 2"),
        ({"inputs": [tensor(shape=(3,))]}, "2 values in `data`, but the shape says 3"),
        ({"inputs": [tensor(shape=(1, 2))]}, "shape [1, 2]"),
        ({"inputs": [tensor(shape=(0,), data=[])]}, "shape [0]"),
        ({"inputs": [tensor(shape=(True,), data=[1.0])]}, "shape [True]"),
        ({"inputs": [tensor("y")]}, "no input 'y'"),
        ({"inputs": [tensor(), tensor()]}, "twice"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64"}]}, "no `data`"),
        ({"inputs": [{"name": "x", "shape": [1], "data": [1]}]}, "must be strings"),
        ({"inputs": [tensor(parameters=3)]}, "`parameters`"),
        ({"inputs": [tensor(parameters={"binary_data_size": 99})]}, "binary_data_size is 99"),
        ({"inputs": [tensor(data=[[1.0, 2.0], [1.0, 2.0]])]}, "one value a row"),
        ({"inputs": []}, "no `inputs`"),
        ({"inputs": [3]}, "not an object"),
        ([], "not a JSON object"),
        (
            {"inputs": [tensor()], "outputs": [{"name": "prediction", "parameters": {"classification": 1}}]},
            "classification",
        ),
        ({"inputs": [tensor()], "outputs": 3}, "`outputs`"),
        ({"inputs": [tensor()], "id": 3}, "id is missing or not a string"),
    ],
)
def test_a_malformed_request_is_told_what_is_wrong(body: Any, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_inference(orjson.dumps(body), None, KINDS)
    assert caught.value.status == 400
    assert told in str(caught.value)


def test_nan_in_json_is_refused_with_what_to_send_instead() -> None:
    with pytest.raises(RequestError, match="send null"):
        parse_inference(b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [NaN]}]}', None, KINDS)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.one_of(st.none(), st.integers(0, 80)))
def test_no_body_ends_in_anything_but_a_request_error(body: bytes, length: int | None) -> None:
    with pytest.raises(RequestError):
        parse_inference(body, length, KINDS)


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data_size"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({"inputs": st.lists(json, max_size=3)}, optional={"outputs": json, "parameters": json}))
def test_no_json_ends_in_anything_but_columns_or_a_request_error(message: Any) -> None:
    try:
        request = parse_inference(orjson.dumps(message), None, KINDS)
    except RequestError as error:
        assert error.status == 400
    else:
        assert all(len(column) == request.rows for column in request.columns.values())


def test_binary_inputs_follow_the_json_in_order() -> None:
    head = orjson.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
                {"name": "c", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 10}},
            ]
        }
    )
    tail = np.array([1, 2], np.float32).tobytes() + b"\x01\x00\x00\x00a\x01\x00\x00\x00b"
    request = parse_inference(head + tail, len(head), KINDS)
    assert list(request.columns["x"]) == [1.0, 2.0]
    assert request.columns["c"] == ["a", "b"]
    with pytest.raises(RequestError, match="belong to no input"):
        parse_inference(head + tail + b"?", len(head), KINDS)
    with pytest.raises(RequestError, match="binary_data_size is 10"):
        parse_inference(head + tail[:-1], len(head), KINDS)


def test_outputs_go_out_as_asked() -> None:
    outputs = {"prediction": np.array([0.25, 0.75]), "decision": np.array([False, True])}
    request = parse(
        tensor(),
        outputs=[{"name": "decision"}, {"name": "prediction", "parameters": {"binary_data": True}}],
    )
    answer = encode_inference(request, outputs, model="m", version="3", parameters={"release": 3})
    length = int(dict(answer.headers)[b"inference-header-content-length"])
    head = orjson.loads(answer.body[:length])
    assert head["model_version"] == "3"
    assert head["outputs"][0] == {"name": "decision", "datatype": "BOOL", "shape": [2], "data": [False, True]}
    assert head["outputs"][1]["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(answer.body[length:]).tolist() == [0.25, 0.75]
    with pytest.raises(RequestError, match="no output 'score'"):
        encode_inference(parse(tensor(), outputs=[{"name": "score"}]), outputs, model="m", version="3", parameters={})
