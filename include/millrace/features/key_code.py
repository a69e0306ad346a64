"""Join keys as whole numbers: those of the entity rows, and the facts' keys by the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import FeatureError
from millrace.features.base import INSTANT

NONE = -1
_FOLD = 2**31 - 1
_WIDE = pa.decimal128(20)


def key_family(kind: pa.DataType) -> str:
    """What a join key's type can be compared with: keys of one family match by value.

    Whole numbers of any width are one family, texts of any layout another. Floats count as whole numbers, because
    pandas makes them of a column with missing keys.
    """
    if pa.types.is_dictionary(kind):
        return key_family(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "a whole number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "a text"
    if pa.types.is_timestamp(kind):
        return "an instant"
    return str(kind)


def require_family(name: str, asked: pa.DataType, held: pa.DataType, *, view: str) -> None:
    """Refuse a join key whose type in the entity frame cannot equal that of the view.

    Raises:
        FeatureError: they cannot.
    """
    if pa.types.is_null(asked) or key_family(asked) == key_family(held):
        return
    raise FeatureError(
        f"join key {name!r} is {key_family(asked)} in the entity frame and {key_family(held)} in view {view!r}",
        where=f"types {asked} and {held}",
        remedy=f"cast the column of the entity frame to {held}",
    )


class KeyCodes:
    """Numbers of the distinct keys of entity rows, each with all columns of its key.

    Attributes:
        codes: number of each entity row's key (int32); -1 where a part of it is null.
        size: all numbers are smaller.
    """

    def __init__(self, columns: Sequence[Any], rows: int) -> None:
        self._steps: list[tuple[Any, int, Any]] = []
        codes, size = np.zeros(rows, np.int32), 1
        for column in columns:
            encoded = _plain(column).dictionary_encode()
            numbers, values = _numbers(encoded.indices), encoded.dictionary
            codes = _joined(codes, numbers, len(values)) if self._steps else numbers
            size *= max(len(values), 1)
            distinct = None
            if size > _FOLD:
                distinct = np.unique(codes[codes >= 0])
                codes = _place(distinct, codes)
                size = max(len(distinct), 1)
            self._steps.append((values, len(values), distinct))
        self.codes, self.size = codes.astype(np.int32, copy=False), size

    def of(self, columns: Sequence[Any], rows: int) -> Any:
        """Numbers of the keys of facts (int32); -1 where no entity row has that key."""
        codes = np.zeros(rows, np.int64)
        for column, (known, count, distinct) in zip(columns, self._steps, strict=True):
            plain, values = _plain(column), known
            if {plain.type, values.type} == {pa.int64(), pa.uint64()}:
                plain, values = plain.cast(_WIDE), values.cast(_WIDE)
            if plain.type != values.type:
                return np.full(rows, NONE, np.int32)
            numbers = _numbers(pc.index_in(plain, value_set=values, skip_nulls=True))
            codes = _joined(codes, numbers, count)
            if distinct is not None:
                codes = _place(distinct, codes)
        return codes.astype(np.int32)


def _plain(column: Any) -> Any:
    """A key column in the one type of its family, without chunks."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(column, pa.ChunkedArray):  # more text than one array can hold
        return _plain(column.cast(pa.large_string()))
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        whole = pc.and_(pc.less(pc.abs(column), 2.0**63), pc.equal(pc.floor(column), column))
        return pc.if_else(whole, column, pa.scalar(None, kind)).cast(pa.int64())
    if pa.types.is_integer(kind):
        return column if pa.types.is_uint64(kind) else column.cast(pa.int64())
    if pa.types.is_timestamp(kind):
        return column.cast(INSTANT if kind.tz else pa.timestamp("us"), safe=False).cast(pa.int64())
    return column.cast(pa.large_string()) if key_family(kind) == "a text" else column


def _numbers(indices: Any) -> Any:
    return pc.fill_null(indices, NONE).to_numpy(zero_copy_only=False)


def _joined(codes: Any, numbers: Any, count: int) -> Any:
    """Numbers of pairs, given the numbers of their first parts and those of the second, of which there are `count`."""
    return np.where((codes < 0) | (numbers < 0), NONE, codes.astype(np.int64) * count + numbers)


def _place(distinct: Any, codes: Any) -> Any:
    """Position of each code among the distinct ones; -1 where it is not one of them."""
    if not len(distinct):
        return np.full(len(codes), NONE, np.int64)
    found = np.minimum(np.searchsorted(distinct, codes), len(distinct) - 1)
    return np.where((codes >= 0) & (distinct[found] == codes), found, NONE)
