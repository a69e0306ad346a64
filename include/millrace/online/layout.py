"""How one row of a feature view is packed into bytes, and how an entity key is written.

A row is a bitmap of nulls (one bit a feature, little-endian), then the fixed-width features one after the other
(little-endian, no padding, zero under a null), then the texts in order, each with its length in four bytes. NaN
is a value and stays one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
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
        self._all = list(range(len(self.kinds)))
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

    def picker(self, positions: list[int]) -> Callable[[bytes], list[Any]]:
        """A function that unpacks only the values at these places, in this order."""
        unpack = self.unpack
        if positions == self._all:
            return unpack
        return lambda row: list(map(unpack(row).__getitem__, positions))


def key_encoder(layout: ViewLayout) -> Callable[[Sequence[Any]], bytes | None]:
    """The function that writes the keys of a view: bytes, or None where a part is null (no row has such a key).

    It raises `FeatureError` where the number or the types of the parts are not those of the view.
    """
    encoders = [_ENCODERS[kind] for _, kind in layout.entities]
    if len(encoders) == 1:
        (encode,) = encoders

        def one(entity: Sequence[Any]) -> bytes | None:
            try:
                (value,) = entity
                return None if value is None else encode(value)
            except (TypeError, ValueError, OverflowError):
                raise _no_key(layout, entity) from None

        return one

    def several(entity: Sequence[Any]) -> bytes | None:
        try:
            if any(value is None for value, _ in zip(entity, encoders, strict=True)):
                return None
            parts = [encode(value) for value, encode in zip(entity, encoders, strict=True)]
        except (TypeError, ValueError, OverflowError):
            raise _no_key(layout, entity) from None
        return b"".join(len(part).to_bytes(4, "little") + part for part in parts)

    return several


def encode_key(layout: ViewLayout, entity: Sequence[Any]) -> bytes | None:
    """Bytes an entity is found under; `key_encoder` is quicker for many."""
    return key_encoder(layout)(entity)


def _no_key(layout: ViewLayout, entity: Sequence[Any]) -> FeatureError:
    names = [name for name, _ in layout.entities]
    if len(entity) != len(names):
        return FeatureError(
            f"{len(entity)} key values for {len(names)} entities", remedy=f"give values for {names}, in that order"
        )
    for value, (name, kind) in zip(entity, layout.entities, strict=True):
        try:
            if value is not None:
                _ENCODERS[kind](value)
        except (TypeError, ValueError, OverflowError):
            return FeatureError(f"{value!r} is no key of entity {name!r}", remedy=f"give a value of kind {kind}")
    return FeatureError(f"{entity!r} is no key", remedy=f"give values for {names}, in that order")


def _whole(value: Any) -> bytes:
    if not isinstance(value, int):
        raise TypeError
    return value.to_bytes(8, "little", signed=True)


_ENCODERS: dict[str, Callable[[Any], bytes]] = {"string": str.encode, "int64": _whole}
