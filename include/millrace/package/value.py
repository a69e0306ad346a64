"""Values of a column, however it came: a list, a numpy array or an Arrow array, as float64 or as text."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from millrace.errors import FeatureError

Values: TypeAlias = Sequence[Any] | NDArray[Any] | Any
"""A column: a list, a numpy array or an Arrow array."""

_REAL = frozenset({int, float, bool, type(None)})
_NUMERIC_KINDS = "fiub"


def read_numbers(name: str, values: Values) -> NDArray[np.float64]:
    """Values as float64, null as NaN; text and times are refused, never parsed.

    Raises:
        FeatureError: a value is no number, or none that a float64 can hold.
    """
    if isinstance(values, list | tuple):
        if all(value.__class__ in _REAL for value in values):
            with contextlib.suppress(OverflowError):  # a whole number too large is named below
                return np.array(values, np.float64)
        array = np.array([None, *values], object)[1:]
    else:
        array = values if isinstance(values, np.ndarray) else combined(values).to_numpy(zero_copy_only=False)
    if array.dtype.kind in _NUMERIC_KINDS:
        return array.astype(np.float64, copy=False)
    for value in array.tolist() if array.dtype.kind == "O" else array[:1]:
        plain = value.item() if isinstance(value, np.generic) and value.dtype.kind in _NUMERIC_KINDS else value
        if plain.__class__ not in _REAL or (plain.__class__ is int and not _fits(plain)):
            raise FeatureError(
                f"column {name!r} is a number, not {_short(value)}",
                where="features",
                remedy="send a number a float64 can hold, or null where it is not known",
            )
    return array.astype(np.float64)


def read_text(name: str, value: Any) -> str | None:
    """A category as text, None for null; whole numbers and truth values as SQL writes them.

    Raises:
        FeatureError: the value is no category.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise FeatureError(
                f"column {name!r} holds bytes that are not UTF-8: {_short(value)}",
                where="features",
                remedy="send categories as UTF-8 text",
            ) from error
    raise FeatureError(
        f"column {name!r} is a category, not {_short(value)}",
        where="features",
        remedy="send text, or null where it is not known",
    )


def read_texts(name: str, values: Any) -> Sequence[Any]:
    """Values of an Arrow array one by one.

    Raises:
        FeatureError: a text is not UTF-8.
    """
    try:
        found: list[Any] = values.to_pylist()
    except UnicodeDecodeError as error:
        raise FeatureError(
            f"column {name!r} holds text that is not UTF-8: {_short(error.object)}",
            where="features",
            remedy="convert the source to UTF-8",
        ) from error
    return found


def is_unicode(texts: Any) -> bool:
    """Whether all texts of an Arrow array are UTF-8, which nothing looked at before."""
    try:
        texts.validate(full=True)
    except ValueError:
        return False
    return True


def find_texts(texts: Any, among: list[str]) -> Any:
    """Place of each text of an Arrow array in a list; null where it is not there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.index_in(texts, value_set=pa.array(among, pa.string()))


def coded_values(name: str, values: Any) -> Any:
    """An Arrow column as codes into its distinct values.

    Raises:
        FeatureError: values of its type cannot be told apart, such as lists.
    """
    whole = combined(values)
    if hasattr(whole, "dictionary"):
        return whole
    try:
        return whole.dictionary_encode()
    except NotImplementedError as error:
        raise FeatureError(
            f"column {name!r} is a category, not {whole.type}",
            where="features",
            remedy="send text, or null where it is not known",
        ) from error


def listed(values: Values) -> Sequence[Any]:
    """The values one by one, as Python has them."""
    if isinstance(values, np.ndarray):
        found: list[Any] = values.tolist()
        return found
    return values.to_pylist() if hasattr(values, "to_pylist") else values


def combined(values: Any) -> Any:
    """An Arrow column as one array."""
    return values.combine_chunks() if hasattr(values, "combine_chunks") else values


def _fits(value: int) -> bool:
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
