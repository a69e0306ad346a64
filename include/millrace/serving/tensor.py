"""Tensors of the Open Inference Protocol v2 as columns: JSON lists and raw little-endian bytes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.serving.base import Column, Kind, RequestError

NUMERIC: dict[str, str] = {
    "BOOL": "?",
    **{f"{sign}INT{bits}": f"<{code}{bits // 8}" for sign, code in (("", "i"), ("U", "u")) for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
"""Datatype of the protocol → numpy's; BYTES stands apart."""

_FITTING: dict[str, frozenset[str]] = {
    "number": frozenset(NUMERIC),
    "category": frozenset(["BYTES"]),
    "key": frozenset(["BYTES", *(name for name in NUMERIC if "INT" in name)]),
}
_NONE = type(None)
_NUMBERS: set[type] = {float, int, _NONE}
_INTEGERS: set[type] = {int, _NONE}
_TEXTS: set[type] = {str, _NONE}
_KEYS: set[type] = {str, int, _NONE}
_INFINITE = (float("inf"), float("-inf"))


def column_of_json(name: str, datatype: str, kind: Kind, data: list[Any]) -> Column:
    """The column of a tensor whose data stand in the JSON, one element a row.

    Raises:
        RequestError: datatype or elements do not fit what the model's column holds.
    """
    if datatype not in _FITTING[kind]:
        raise _unfitting(name, datatype, kind)
    if kind == "category":
        return texts(name, data)
    if kind == "key":
        return keys(name, data)
    if datatype == "BOOL":
        if set(map(type, data)) - {bool}:
            raise _unfit(name, data, {bool}, "true or false")
        return np.array(data, dtype=np.float64)
    return numbers(name, data, integer=not datatype.startswith("FP"))


def column_of_bytes(name: str, datatype: str, kind: Kind, raw: memoryview, rows: int) -> Column:
    """The column of a tensor in the binary part of the body.

    Raises:
        RequestError: datatype, length or content are wrong.
    """
    if datatype not in _FITTING[kind]:
        raise _unfitting(name, datatype, kind)
    if datatype == "BYTES":
        return _split_texts(name, raw, rows)
    form = np.dtype(NUMERIC[datatype])
    if len(raw) != rows * form.itemsize:
        raise RequestError(
            400, f"input {name!r}: {len(raw)} bytes of data, but {rows} x {datatype} are {rows * form.itemsize} bytes"
        )
    values = np.frombuffer(raw, dtype=form)
    if kind == "key":
        return [int(value) for value in values]
    return _finite(name, values.astype(np.float64))


def numbers(name: str, data: list[Any], *, integer: bool = False) -> Column:
    """JSON numbers as float64; null is a missing value.

    Raises:
        RequestError: something is not a (finite, where asked whole) number.
    """
    allowed = _INTEGERS if integer else _NUMBERS
    if len(data) == 1 and type(data[0]) in allowed and data[0] not in _INFINITE:
        return data  # one number stays as it is: an array of it costs more than the rest of the parsing
    if not allowed.issuperset(map(type, data)):
        raise _unfit(name, data, allowed, "whole numbers or null" if integer else "numbers or null")
    return _finite(name, np.array(data, dtype=np.float64))


def texts(name: str, data: list[Any]) -> list[Any]:
    """JSON strings; null is a missing value.

    Raises:
        RequestError: something is not a string.
    """
    if not _TEXTS.issuperset(map(type, data)):
        raise _unfit(name, data, _TEXTS, "strings or null")
    return data


def keys(name: str, data: list[Any]) -> list[Any]:
    """Join keys: JSON strings or whole numbers; null is an unknown entity.

    Raises:
        RequestError: something is neither.
    """
    if not _KEYS.issuperset(map(type, data)):
        raise _unfit(name, data, _KEYS, "strings, whole numbers or null")
    return data


def column_of_values(name: str, kind: Kind, data: list[Any]) -> Column:
    """The column of plain JSON values, for protocols that declare no datatype."""
    if kind == "number":
        return numbers(name, data)
    return texts(name, data) if kind == "category" else keys(name, data)


def _unfitting(name: str, datatype: str, kind: Kind) -> RequestError:
    if datatype != "BYTES" and datatype not in NUMERIC:
        known = ", ".join([*NUMERIC, "BYTES"])
        return RequestError(400, f"input {name!r}: unknown datatype {datatype[:20]!r}", remedy=f"send one of {known}")
    word, wanted = {
        "number": ("a number", "FP64 or INT64"),
        "category": ("a category", "BYTES"),
        "key": ("a join key", "BYTES or INT64"),
    }[kind]
    return RequestError(400, f"input {name!r} is {word}, the request sends {datatype}", remedy=f"send it as {wanted}")


def _finite(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.isinf(values).any():
        raise RequestError(
            400, f"input {name!r} holds an infinite number", remedy="send null (or NaN as binary) if missing"
        )
    return values


def _split_texts(name: str, raw: memoryview, rows: int) -> list[Any]:
    """Strings of a BYTES tensor: each a four-byte length and then UTF-8."""
    found: list[Any] = []
    place = 0
    try:
        while place < len(raw):
            (length,) = struct.unpack_from("<I", raw, place)
            place += 4
            if place + length > len(raw):
                raise RequestError(400, f"input {name!r}: the binary data end inside string {len(found)}")
            found.append(str(raw[place : place + length], "utf-8"))
            place += length
    except struct.error as error:
        raise RequestError(400, f"input {name!r}: the binary data end inside a length") from error
    except UnicodeDecodeError as error:
        raise RequestError(400, f"input {name!r}: string {len(found)} is not UTF-8") from error
    if len(found) != rows:
        raise RequestError(400, f"input {name!r}: {len(found)} strings of data, but the shape says {rows}")
    return found


def _unfit(name: str, data: list[Any], allowed: set[type], wanted: str) -> RequestError:
    place, value = next((i, item) for i, item in enumerate(data) if type(item) not in allowed)
    text = repr(value)
    return RequestError(
        400,
        f"input {name!r} holds {text if len(text) <= 40 else text[:37] + '…'} in row {place}",
        remedy=f"send {wanted}",
    )
