"""A fitted model as a skops file whose bytes hang on the model alone.

skops names arrays and objects by their addresses in memory, and its zip by the clock; both are numbered anew here.
The records of a tree have gaps between their fields that nobody filled; these become 0.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import skops.io

_ENTRY_TIME = (1980, 1, 1, 0, 0, 0)
_SCHEMA = "schema.json"


def write_model(model: Any) -> bytes:
    """The skops file of a model; equal models give equal bytes."""
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as source:
        content = {name: source.read(name) for name in source.namelist()}
    numbers: dict[Any, int] = {}
    schema = _renumbered(json.loads(content.pop(_SCHEMA)), numbers)
    named = {_file_name(name, numbers): _settled(name, data) for name, data in content.items()}
    return _zipped({**dict(sorted(named.items())), _SCHEMA: json.dumps(schema).encode()})


def _renumbered(node: Any, numbers: dict[Any, int]) -> Any:
    """A node with addresses replaced by the order of their first appearance."""
    if isinstance(node, list):
        return [_renumbered(item, numbers) for item in node]
    if not isinstance(node, dict):
        return node
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key == "__id__":
            found[key] = numbers.setdefault(value, len(numbers))
        elif key == "file":
            numbers.setdefault(value, len(numbers))
            found[key] = _file_name(value, numbers)
        else:
            found[key] = _renumbered(value, numbers)
    return found


def _file_name(name: str, numbers: dict[Any, int]) -> str:
    return f"{numbers[name]:08d}.{name.rpartition('.')[2]}"


def _settled(name: str, data: bytes) -> bytes:
    if name.endswith(".npz"):
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            return _zipped({item: source.read(item) for item in sorted(source.namelist())})
    if not name.endswith(".npy"):
        return data
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.names is None:
        return data
    clean = np.zeros(array.shape, array.dtype)
    for field in array.dtype.names:
        clean[field] = array[field]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()


def _zipped(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name, date_time=_ENTRY_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, data)
    return buffer.getvalue()
