"""Learning an encoder on training rows that come in batches; how they are cut changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.errors import FeatureError
from millrace.package.encoder import ColumnEncoder, Encoder
from millrace.package.value import Values, coded_values, listed, read_text, read_texts

_BLOCK_ROWS = 16_384
_MOST = 2**24 - 2
"""Greatest vocabulary whose codes float32 holds exactly."""


class Vocabularies:
    """The categories of training rows, batch by batch.

    Args:
        kinds: column → `number` or `category`, in model order.
    """

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._kinds = dict(kinds)
        self._texts: dict[str, set[str]] = {name: set() for name, kind in kinds.items() if kind == "category"}

    @property
    def categories(self) -> list[str]:
        """Columns that have a vocabulary."""
        return list(self._texts)

    def look(self, columns: Mapping[str, Values]) -> None:
        """Take in the categories of a batch.

        Raises:
            FeatureError: a column is missing or holds what is no category.
        """
        for name, known in self._texts.items():
            if name not in columns:
                raise FeatureError(
                    f"column {name!r} is missing", where="features", remedy="give every feature of the feature service"
                )
            known.update(_texts(name, columns[name]))

    def encoder(self, *, scaled: bool) -> Encoder:
        """The encoder of all that was looked at; numbers are not scaled yet.

        Raises:
            FeatureError: more categories than codes.
        """
        for name, texts in self._texts.items():
            if len(texts) > _MOST:
                raise FeatureError(
                    f"column {name!r} has {len(texts)} categories",
                    where="features",
                    remedy="it is no category but a key; leave it out, or group its values",
                )
        columns = [
            ColumnEncoder(name=name, kind="category", vocabulary=sorted(self._texts[name]))
            if kind == "category"
            else ColumnEncoder(name=name, kind="number")
            for name, kind in self._kinds.items()
        ]
        return Encoder(columns, scaled=scaled)


def with_scaling(encoder: Encoder, matrix: NDArray[np.float32]) -> Encoder:
    """The encoder with mean and deviation of the numbers of encoded training rows.

    Sums are taken over blocks of a fixed size, one after the other, so that they are the same bit for bit wherever the
    rows lie.
    """
    places, width = encoder.numbers, len(encoder.numbers)
    count, total, squares = np.zeros(width, np.int64), np.zeros(width), np.zeros(width)
    for numbers in _blocks(matrix, places):
        count += (~np.isnan(numbers)).sum(axis=0)
        total += np.nansum(numbers, axis=0)
    mean = total / np.maximum(count, 1)
    for numbers in _blocks(matrix, places):
        squares += np.nansum(np.square(np.subtract(numbers, mean, out=numbers), out=numbers), axis=0)
    deviation = np.sqrt(squares / np.maximum(count, 1)).astype(np.float32)
    columns = list(encoder.columns)
    for i, place in enumerate(places):
        spread = float(deviation[i])
        columns[place] = dataclasses.replace(
            columns[place],
            offset=float(np.float32(mean[i])),
            scale=spread if 0 < spread < np.inf else 1.0,
            indicated=0 < int(count[i]) < len(matrix),
        )
    return Encoder(columns, scaled=encoder.scaled)


def _blocks(matrix: NDArray[np.float32], places: list[int]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(matrix), _BLOCK_ROWS):
        yield matrix[start : start + _BLOCK_ROWS][:, places].astype(np.float64)


def _texts(name: str, values: Values) -> set[str]:
    if hasattr(values, "dictionary_encode"):
        distinct = _distinct(name, values)
        texts = read_texts(name, distinct)
        if distinct.type == "string" and not distinct.null_count:
            return set(texts)
    else:
        texts = listed(values)
    found = {text for value in texts if (text := read_text(name, value)) is not None}
    for text in found:
        _check_writable(name, text)
    return found


def _distinct(name: str, values: Any) -> Any:
    """Values that rows have; the dictionary of an Arrow column may hold those of other rows, too."""
    given = coded_values(name, values)
    if not hasattr(values.type, "index_type"):
        return given.dictionary
    used = given.indices.unique().drop_null()
    return given.dictionary if len(used) == len(given.dictionary) else given.dictionary.take(used)


def _check_writable(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FeatureError(
            f"column {name!r} holds a text that is not Unicode: {text!r}",
            where="features",
            remedy="send categories as UTF-8 text",
        ) from error
