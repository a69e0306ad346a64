"""Feast's protobufs from and to the values of packed rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from feast import FeatureView, ValueType
from feast.protos.feast.types.Value_pb2 import Value

from millrace.errors import FeatureError
from millrace.online import ViewLayout

KINDS = {
    ValueType.INT32: "int32",
    ValueType.INT64: "int64",
    ValueType.FLOAT: "float32",
    ValueType.DOUBLE: "float64",
    ValueType.STRING: "string",
    ValueType.BOOL: "bool",
    ValueType.UNIX_TIMESTAMP: "timestamp",
}
_MICROSECONDS = 1_000_000
_MAKERS: dict[str, Callable[[Any], Value]] = {
    "int16": lambda value: Value(int32_val=value),
    "int32": lambda value: Value(int32_val=value),
    "int64": lambda value: Value(int64_val=value),
    "float32": lambda value: Value(float_val=value),
    "float64": lambda value: Value(double_val=value),
    "string": lambda value: Value(string_val=value),
    "bool": lambda value: Value(bool_val=value),
    "timestamp": lambda value: Value(unix_timestamp_val=value // _MICROSECONDS),
}
NULL = Value()


def layout_of_view(view: FeatureView) -> ViewLayout:
    """Layout of a Feast feature view in the online store.

    Raises:
        FeatureError: a feature or a join key has a type that the store cannot hold.
    """
    return ViewLayout(
        entities=tuple((field.name, _key_kind(field)) for field in view.entity_columns),
        features=tuple((field.name, _kind(field)) for field in view.features),
        ttl_us=int(view.ttl.total_seconds() * _MICROSECONDS) if view.ttl else 0,
    )


def key_of(names: Sequence[str], values: Mapping[str, Value]) -> list[Any]:
    """Plain values of an entity's key, in this order of join keys; None where one is null or not given."""
    found = []
    for name in names:
        value = values.get(name)
        which = value.WhichOneof("val") if value is not None else None
        found.append(None if which is None or which == "null_val" else getattr(value, which))
    return found


def to_plain(value: Value | None, kind: str) -> Any:
    """What a packed row holds of a value."""
    which = None if value is None else value.WhichOneof("val")
    if which is None or which == "null_val":
        return None
    found = getattr(value, which)
    return found * _MICROSECONDS if kind == "timestamp" else found


def to_protos(column: Iterable[Any], kind: str) -> Sequence[Value]:
    """Feast's values of a feature; a timestamp loses what is less than a second, as Feast's do."""
    make = _MAKERS[kind]
    return [NULL if value is None else make(value) for value in column]


def to_pythons(column: list[Any], kind: str) -> list[Any]:
    """What Feast's `to_dict` makes of the values of a feature."""
    if kind != "timestamp":
        return column
    return [None if value is None else datetime.fromtimestamp(value // _MICROSECONDS, UTC) for value in column]


def _kind(field: Any) -> str:
    kind = (field.tags or {}).get("kind") or KINDS.get(field.dtype.to_value_type())
    if kind is None:
        raise FeatureError(
            f"feature {field.name!r} has type {field.dtype}, which the online store cannot hold",
            remedy="use numbers, texts, booleans or timestamps",
        )
    return str(kind)


def _key_kind(field: Any) -> str:
    kind = KINDS.get(field.dtype.to_value_type())
    return "int64" if kind in ("int32", "int64") else str(kind)
