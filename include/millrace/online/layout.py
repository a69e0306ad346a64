"""How one row of a feature view is packed into bytes, and how an entity key is written.

A row is a bitmap of nulls (one bit a feature, little-endian), then the fixed-width features one after the other
(little-endian, no padding, zero under a null), then the texts in order, each with its length in four bytes. NaN
is a value and stays one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from millrace.errors import FeatureError

FORMATS = {
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "float32": "f",
    "float64": "d",
    "bool": "?",
    "timestamp": "q",
}
TEXT = "string"
KEY_KINDS = ("string", "int64")


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewLayout:
    """What the online store knows of a feature view.

    Attributes:
        entities: (join key, `string` or `int64`), in the order keys are given.
        features: (feature, column type of the spec), in the order values are packed.
        ttl_us: how long a value stays usable after its event_timestamp (microseconds); 0 for ever.
    """

    entities: tuple[tuple[str, str], ...]
    features: tuple[tuple[str, str], ...]
    ttl_us: int = 0

    def __post_init__(self) -> None:
        for name, kind in self.entities:
            if kind not in KEY_KINDS:
                raise FeatureError(
                    f"entity {name!r} is of kind {kind!r}", remedy=f"use a join key of kind {' or '.join(KEY_KINDS)}"
                )
        for name, kind in self.features:
            if kind not in FORMATS and kind != TEXT:
                raise FeatureError(
                    f"feature {name!r} is of kind {kind!r}, which the online store cannot hold",
                    remedy=f"use one of: {', '.join([*FORMATS, TEXT])}",
                )

    def to_json(self) -> str:
        """Text form, as kept in the store."""
        return orjson.dumps([self.entities, self.features, self.ttl_us]).decode()

    @classmethod
    def from_json(cls, text: str) -> ViewLayout:
        """The layout that `to_json` was called on."""
        entities, features, ttl_us = orjson.loads(text)
        return cls(
            entities=tuple((name, kind) for name, kind in entities),
            features=tuple((name, kind) for name, kind in features),
            ttl_us=ttl_us,
        )


class RowCodec:
    """Packs and unpacks the values of one layout."""

    def __init__(self, layout: ViewLayout) -> None:
        self.layout = layout
        self.kinds = [kind for _, kind in layout.features]
        self.bitmap_bytes = (len(self.kinds) + 7) // 8
        self._texts = [index for index, kind in enumerate(self.kinds) if kind == TEXT]
        self._fixed = [index for index, kind in enumerate(self.kinds) if kind != TEXT]
        self._struct = struct.Struct("<" + "".join(FORMATS[self.kinds[index]] for index in self._fixed))
        self._start = self.bitmap_bytes
        self._end = self._start + self._struct.size

    def pack(self, values: Sequence[Any]) -> bytes:
        """Bytes of one row; None is null."""
        nulls = 0
        for index, value in enumerate(values):
            if value is None:
                nulls |= 1 << index
        head = nulls.to_bytes(self.bitmap_bytes, "little")
        fixed = self._struct.pack(*(0 if values[index] is None else values[index] for index in self._fixed))
        return head + fixed + self.pack_texts([values[index] for index in self._texts])

    @staticmethod
    def pack_texts(texts: Sequence[str | None]) -> bytes:
        """The part of a row that holds its texts."""
        encoded = [(text or "").encode() for text in texts]
        return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)

    def unpack(self, row: bytes) -> list[Any]:
        """Values of one row in the layout's order; null is None."""
        values: list[Any] = list(self._struct.unpack_from(row, self._start))
        if self._texts:
            offset = self._end
            for index in self._texts:
                size = int.from_bytes(row[offset : offset + 4], "little")
                values.insert(index, row[offset + 4 : offset + 4 + size].decode())
                offset += 4 + size
        if nulls := int.from_bytes(row[: self._start], "little"):
            for index in range(len(values)):
                if nulls >> index & 1:
                    values[index] = None
        return values


def encode_key(layout: ViewLayout, entity: Sequence[Any]) -> bytes | None:
    """Bytes an entity is found under; None where a part of the key is null (no row has such a key).

    Raises:
        FeatureError: the number or the types of the parts are not those of the view.
    """
    kinds = layout.entities
    if len(entity) != len(kinds):
        names = [name for name, _ in kinds]
        raise FeatureError(
            f"{len(entity)} key values for {len(kinds)} entities", remedy=f"give values for {names}, in that order"
        )
    parts: list[bytes] = []
    for value, (name, kind) in zip(entity, kinds, strict=True):
        if value is None:
            return None
        if kind == "string" and isinstance(value, str):
            parts.append(value.encode())
        elif kind == "int64" and isinstance(value, int):
            parts.append(value.to_bytes(8, "little", signed=True))
        else:
            raise FeatureError(f"{value!r} is no key of entity {name!r}", remedy=f"give a value of kind {kind}")
    if len(parts) == 1:
        return parts[0]
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)
