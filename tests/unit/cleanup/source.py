"""A small source to try clean-up on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millrace.spec.source import FileSourceSpec

COLUMNS = {
    "id": "int32",
    "text": "string",
    "value": "float64",
    "small": "int16",
    "big": "int64",
    "light": "float32",
    "flag": "bool",
    "seen": "timestamp",
}


def make_source(*steps: dict[str, Any], key: Sequence[str] = ("id",), **values: Any) -> FileSourceSpec:
    """A source of eight columns with these clean-up steps; more arguments go into it."""
    plain = {"uri": "x.csv", "columns": COLUMNS, "key": list(key), "cleanup": list(steps), **values}
    return FileSourceSpec.model_validate(plain)
