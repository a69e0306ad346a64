"""Features to model input: learned on training rows once, then the same code for a batch and for one row.

* A category becomes a code: its place in the sorted vocabulary of the training rows, then one code for what the
  training rows had not (`unseen`), then one for null (`missing`). An empty text is a value like any other.
* A number becomes float32. Null, NaN, infinity and what float32 cannot hold become NaN.
* For networks, numbers are standardised with the mean and deviation of the training rows, cut at ±`_LIMIT`
  deviations; a missing one becomes the mean, with an indicator of its own where training rows had missing ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from millrace.artifact import canonical
from millrace.errors import FeatureError
from millrace.package.value import (
    Values,
    coded_values,
    find_texts,
    is_unicode,
    listed,
    read_numbers,
    read_text,
    read_texts,
)

_FORMAT = 1
_LIMIT = 10.0
_EXACT = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnEncoder:
    """How one column is encoded.

    Attributes:
        name: its name.
        kind: `number` or `category`.
        vocabulary: categories of the training rows, sorted.
        offset: mean of the training rows, where the model wants standardised numbers.
        scale: their standard deviation; 1 where there is none.
        indicated: whether a missing number gets an indicator.
    """

    name: str
    kind: Literal["number", "category"]
    vocabulary: list[str] = field(default_factory=list)
    offset: float = 0.0
    scale: float = 1.0
    indicated: bool = False

    @property
    def unseen(self) -> int:
        """Code of a category that the training rows had not."""
        return len(self.vocabulary)

    @property
    def missing(self) -> int:
        """Code of null."""
        return len(self.vocabulary) + 1

    @property
    def cardinality(self) -> int:
        """Number of codes."""
        return len(self.vocabulary) + 2


class Encoder:
    """The encoders of all columns of a model, in its order."""

    def __init__(self, columns: Sequence[ColumnEncoder], *, scaled: bool = False) -> None:
        self.columns = list(columns)
        self.scaled = scaled
        self._codes = {
            column.name: {text: code for code, text in enumerate(column.vocabulary)} for column in self.columns
        }
        self.categories = [i for i, column in enumerate(self.columns) if column.kind == "category"]
        self.numbers = [i for i, column in enumerate(self.columns) if column.kind == "number"]
        dense = [self.columns[i] for i in self.numbers]
        self._offset = np.array([column.offset for column in dense], np.float32)
        self._scale = np.array([column.scale for column in dense], np.float32)
        self._indicated = [i for i, column in enumerate(dense) if column.indicated]

    @classmethod
    def learn(cls, columns: Mapping[str, Values], kinds: Mapping[str, str], *, scaled: bool) -> Encoder:
        """Learn vocabularies, and scaling where asked, on training rows that are at hand as a whole.

        Args:
            columns: the training rows, column by column.
            kinds: column → `number` or `category`, in model order.
            scaled: whether the model wants standardised numbers.

        Raises:
            FeatureError: a column is missing or holds what its kind cannot be.
        """
        from millrace.package.learning import Vocabularies, with_scaling

        found = Vocabularies(kinds)
        found.look(columns)
        encoder = found.encoder(scaled=scaled)
        return with_scaling(encoder, encoder.encode(columns)) if scaled else encoder

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return [column.name for column in self.columns]

    def encode(self, columns: Mapping[str, Values]) -> NDArray[np.float32]:
        """Rows as the model sees them: one float32 row each, numbers and codes in model order.

        Args:
            columns: column → values; columns the model does not know are ignored.

        Raises:
            FeatureError: a column is missing, longer than another, or holds what its kind cannot be.
        """
        taken = [_column(columns, column.name) for column in self.columns]
        length = len(taken[0]) if taken else 0
        if length == 1 and (row := self._encode_plain_row(taken)) is not None:
            return row
        matrix = np.empty((length, len(taken)), np.float32)
        self._fill(taken, matrix)
        return matrix

    def encode_into(self, columns: Mapping[str, Values], matrix: NDArray[np.float32]) -> None:
        """The same into rows that are there already, as many as the columns have."""
        self._fill([_column(columns, column.name) for column in self.columns], matrix)

    def _fill(self, taken: Sequence[Values], matrix: NDArray[np.float32]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            for position, (column, values) in enumerate(zip(self.columns, taken, strict=True)):
                if len(values) != len(matrix):
                    raise FeatureError(
                        f"column {column.name!r} has {len(values)} values where {self.columns[0].name!r} "
                        f"has {len(matrix)}",
                        where="features",
                        remedy="send as many values for each column",
                    )
                if column.kind == "number":
                    matrix[:, position] = _finite(read_numbers(column.name, values).astype(np.float32))
                else:
                    matrix[:, position] = self._encode_category(column, values)

    def _encode_plain_row(self, taken: Sequence[Values]) -> NDArray[np.float32] | None:
        """One row of plain values without an array a column; None where a value needs a closer look."""
        found: list[float] = []
        for column, values in zip(self.columns, taken, strict=True):
            if values.__class__ is not list or len(values) != 1:
                return None
            value = values[0]
            if column.kind == "category":
                if value is not None and value.__class__ is not str:
                    return None
                codes = self._codes[column.name]
                found.append(column.missing if value is None else codes.get(value, column.unseen))
            elif value is None:
                found.append(np.nan)
            elif value.__class__ is float or (value.__class__ is int and -_EXACT <= value <= _EXACT):
                found.append(value)
            else:
                return None
        with np.errstate(over="ignore"):
            return _finite(np.array([found], np.float64).astype(np.float32))

    def standardise(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """The numbers of encoded rows for a network: standardised, then the indicators of missing ones."""
        numbers = matrix[:, self.numbers]
        missing = np.isnan(numbers)
        with np.errstate(over="ignore"):
            dense = np.clip((numbers - self._offset) / self._scale, -_LIMIT, _LIMIT)
        dense[missing] = 0.0
        return np.concatenate([dense, missing[:, self._indicated].astype(np.float32)], axis=1)

    @property
    def dense_width(self) -> int:
        """Number of columns of `standardise`."""
        return len(self.numbers) + len(self._indicated)

    def _encode_category(self, column: ColumnEncoder, values: Values) -> Any:
        codes = self._codes[column.name]
        if hasattr(values, "dictionary_encode"):  # Arrow: look each distinct value up once
            coded = coded_values(column.name, values)
            table = np.full(len(coded.dictionary) + 1, column.missing, np.float32)
            table[:-1] = self._encode_distinct(column, coded.dictionary)
            return table[coded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)]
        return [self._code(column, codes, value) for value in listed(values)]

    def _encode_distinct(self, column: ColumnEncoder, distinct: Any) -> Any:
        """Codes of the values of an Arrow array."""
        if distinct.type == "string" and not distinct.null_count and is_unicode(distinct):
            return find_texts(distinct, column.vocabulary).fill_null(column.unseen).to_numpy(zero_copy_only=False)
        codes = self._codes[column.name]
        return [self._code(column, codes, value) for value in read_texts(column.name, distinct)]

    @staticmethod
    def _code(column: ColumnEncoder, codes: dict[str, int], value: Any) -> int:
        text = value if value.__class__ is str else read_text(column.name, value)
        return column.missing if text is None else codes.get(text, column.unseen)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(
            {"format": _FORMAT, "scaled": self.scaled, "columns": [dataclasses.asdict(item) for item in self.columns]}
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Encoder:
        """The encoder that `to_bytes` was called on."""
        plain = orjson.loads(content)
        return cls([ColumnEncoder(**item) for item in plain["columns"]], scaled=plain["scaled"])


def _column(columns: Mapping[str, Values], name: str) -> Values:
    try:
        return columns[name]
    except KeyError as error:
        raise FeatureError(
            f"column {name!r} is missing", where="features", remedy="send every feature the model was trained on"
        ) from error


def _finite(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    infinite = np.isinf(numbers)
    if infinite.any():
        numbers[infinite] = np.nan
    return numbers
