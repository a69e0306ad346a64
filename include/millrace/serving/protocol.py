"""Requests and responses of the Open Inference Protocol v2 (KServe's; JSON and the binary tensor extension).

Source: https://github.com/kserve/open-inference-protocol, and Triton's `extension_binary_data` for
`Inference-Header-Content-Length`: the JSON comes first, the raw tensors follow in the order of the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from millrace.serving.base import Answer, Column, InferenceRequest, Kind, RequestError
from millrace.serving.tensor import column_of_bytes, column_of_json

EXTENSIONS = ["binary_tensor_data", "model_repository"]
DATATYPES = {"f": "FP64", "b": "BOOL", "O": "BYTES"}
"""Kind of an output's numpy dtype → datatype of the protocol."""

_JSON = (b"content-type", b"application/json")
_OCTETS = (b"content-type", b"application/octet-stream")


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        RequestError: it is not one.
    """
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        nan = b"NaN" in body or b"Infinity" in body
        remedy = "JSON has no NaN or Infinity: send null for a missing number" if nan else "send one JSON object"
        raise RequestError(400, f"the body is not JSON: {error}", remedy=remedy) from error
    if not isinstance(message, dict):
        raise RequestError(400, "the body is not a JSON object")
    return message


def parse_inference(body: bytes, json_length: int | None, kinds: Mapping[str, Kind]) -> InferenceRequest:
    """An inference request as columns.

    Args:
        body: the whole body.
        json_length: value of `Inference-Header-Content-Length`, or None where all is JSON.
        kinds: inputs that the model knows.

    Raises:
        RequestError: anything about it is wrong; the message names the input.
    """
    if json_length is not None and json_length > len(body):
        raise RequestError(400, f"Inference-Header-Content-Length is {json_length}, the body has {len(body)} bytes")
    message = parse_json(body if json_length is None else body[:json_length])
    inputs = message.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise RequestError(
            400, "the request has no `inputs`", remedy='send {"inputs": [{"name", "shape", "datatype", "data"}]}'
        )
    rest = memoryview(b"" if json_length is None else body)[json_length or 0 :]
    columns: dict[str, Column] = {}
    rows, first = -1, ""
    for tensor in inputs:
        name, count, column, rest = _parse_tensor(tensor, rest, kinds)
        if rows < 0:
            rows, first = count, name
        elif count != rows:
            raise RequestError(
                400, f"input {name!r} has {count} rows, {first!r} has {rows}", remedy="send one value a row and input"
            )
        if name in columns:
            raise RequestError(400, f"input {name!r} stands twice in the request")
        columns[name] = column
    if len(rest):
        raise RequestError(400, f"{len(rest)} bytes of binary data belong to no input", remedy="set binary_data_size")
    binary = _parameters(message, "the request").get("binary_data_output", False) is True
    outputs = message.get("outputs")
    return InferenceRequest(
        columns=columns,
        rows=rows,
        id=_text(message.get("id", ""), "id"),
        outputs=None if not outputs else _parse_outputs(outputs, binary),
        binary_output=binary,
    )


def _parse_tensor(tensor: Any, rest: memoryview, kinds: Mapping[str, Kind]) -> tuple[str, int, Column, memoryview]:
    if type(tensor) is not dict:
        raise RequestError(400, "an element of `inputs` is not an object")
    name, datatype = tensor.get("name"), tensor.get("datatype")
    if type(name) is not str or type(datatype) is not str:
        raise RequestError(400, f"input {str(name)[:80]!r}: `name` and `datatype` must be strings")
    kind = kinds.get(name)
    if kind is None:
        raise RequestError(400, f"the model has no input {name[:80]!r}", remedy=f"it knows: {', '.join(kinds)}")
    rows = _rows(name, tensor.get("shape"))
    data = tensor.get("data")
    if "parameters" in tensor and (size := _parameters(tensor, f"input {name!r}").get("binary_data_size")) is not None:
        if type(size) is not int or not 0 <= size <= len(rest):
            raise RequestError(
                400, f"input {name!r}: binary_data_size is {size!r}, {len(rest)} bytes are left in the body"
            )
        return name, rows, column_of_bytes(name, datatype, kind, rest[:size], rows), rest[size:]
    if not isinstance(data, list):
        raise RequestError(
            400, f"input {name!r} has no `data`", remedy="send a list, or binary data with binary_data_size"
        )
    if data and type(data[0]) is list:
        data = _flat(name, data)
    if len(data) != rows:
        raise RequestError(400, f"input {name!r}: {len(data)} values in `data`, but the shape says {rows}")
    return name, rows, column_of_json(name, datatype, kind, data), rest


def _rows(name: str, shape: Any) -> int:
    if type(shape) is list and shape and (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        rows = shape[0]
        if type(rows) is int and rows > 0:
            return rows
    raise RequestError(
        400, f"input {name!r} has shape {str(shape)[:40]}", remedy="send [n] or [n, 1] with n >= 1: one value a row"
    )


def _flat(name: str, data: list[Any]) -> list[Any]:
    if any(type(row) is not list or len(row) != 1 for row in data):
        raise RequestError(400, f"input {name!r}: nested `data` must hold one value a row")
    return [row[0] for row in data]


def _parse_outputs(outputs: Any, binary: bool) -> tuple[tuple[str, bool], ...]:
    if not isinstance(outputs, list) or not all(isinstance(item, dict) for item in outputs):
        raise RequestError(400, "`outputs` is not a list of objects")
    asked = []
    for item in outputs:
        name = _text(item.get("name"), "name of an output")
        parameters = _parameters(item, f"output {name!r}")
        if parameters.get("classification"):
            raise RequestError(
                400, "the classification extension is not offered", remedy="read `prediction` or `decision`"
            )
        asked.append((name, parameters.get("binary_data", binary) is True))
    return tuple(asked)


def _parameters(holder: dict[str, Any], what: str) -> dict[str, Any]:
    found = holder.get("parameters", {})
    if not isinstance(found, dict):
        raise RequestError(400, f"`parameters` of {what} is not an object")
    return found


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise RequestError(400, f"{what} is missing or not a string")
    return value


def encode_inference(
    request: InferenceRequest,
    outputs: Mapping[str, NDArray[Any]],
    *,
    model: str,
    version: str,
    parameters: Mapping[str, Any],
) -> Answer:
    """The response to an inference request; binary tensors follow the JSON where they were asked for.

    Raises:
        RequestError: the request asks for an output that the model does not have.
    """
    asked = request.outputs or tuple((name, request.binary_output) for name in outputs)
    head: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, binary in asked:
        values = outputs.get(name)
        if values is None:
            raise RequestError(400, f"the model has no output {name[:80]!r}", remedy=f"it has: {', '.join(outputs)}")
        kind = values.dtype.kind
        tensor: dict[str, Any] = {"name": name, "datatype": DATATYPES[kind], "shape": list(values.shape)}
        if binary:
            tail.append(_joined_texts(values) if kind == "O" else np.ascontiguousarray(values).tobytes())
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = values.tolist()
        head.append(tensor)
    message: dict[str, Any] = {"model_name": model, "model_version": version, "parameters": parameters, "outputs": head}
    if request.id:
        message["id"] = request.id
    text = orjson.dumps(message)
    if not tail:
        return Answer(status=200, body=text, headers=(_JSON,))
    length = (b"inference-header-content-length", str(len(text)).encode())
    return Answer(status=200, body=b"".join([text, *tail]), headers=(_OCTETS, length))


def _joined_texts(values: NDArray[Any]) -> bytes:
    """Strings as a BYTES tensor holds them: each a four-byte length and then UTF-8."""
    texts = [text.encode() for text in values.tolist()]
    return b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))


def encode_json(value: Any, status: int = 200) -> Answer:
    """Any value as a JSON answer."""
    return Answer(status=status, body=orjson.dumps(value), headers=(_JSON,))
