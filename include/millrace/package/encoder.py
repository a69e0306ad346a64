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
from millrace.package.value import Values, combined, listed, read_numbers, read_text

_FORMAT = 1
_LIMIT = 10.0


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
        """Learn vocabularies, and scaling where asked, on training rows.

        Args:
            columns: the training rows, column by column.
            kinds: column → `number` or `category`, in model order.
            scaled: whether the model wants standardised numbers.

        Raises:
            FeatureError: a column is missing or holds what its kind cannot be.
        """
        learned = []
        for name, kind in kinds.items():
            values = _column(columns, name)
            if kind == "category":
                texts = {read_text(name, value) for value in _distinct(values)}
                vocabulary = sorted(text for text in texts if text is not None)
                learned.append(ColumnEncoder(name=name, kind="category", vocabulary=vocabulary))
            elif scaled:
                with np.errstate(over="ignore"):
                    learned.append(_scaling(name, _finite(read_numbers(name, values).astype(np.float32))))
            else:
                learned.append(ColumnEncoder(name=name, kind="number"))
        return cls(learned, scaled=scaled)

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
        matrix = np.empty((length, len(taken)), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for position, (column, values) in enumerate(zip(self.columns, taken, strict=True)):
                if len(values) != length:
                    raise FeatureError(
                        f"column {column.name!r} has {len(values)} values where {self.columns[0].name!r} has {length}",
                        where="features",
                        remedy="send as many values for each column",
                    )
                if column.kind == "number":
                    matrix[:, position] = read_numbers(column.name, values)
                else:
                    matrix[:, position] = self._encode_category(column, values)
        return _finite(matrix)

    def standardise(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """The numbers of encoded rows for a network: standardised, then the indicators of missing ones."""
        numbers = matrix[:, self.numbers]
        missing = np.isnan(numbers)
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
            coded = combined(values).dictionary_encode()
            table = [self._code(column, codes, value) for value in coded.dictionary.to_pylist()]
            indices = coded.indices.fill_null(len(table)).to_numpy(zero_copy_only=False)
            return np.array([*table, column.missing], np.float32)[indices]
        return [self._code(column, codes, value) for value in listed(values)]

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


def _finite(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    infinite = np.isinf(matrix)
    if infinite.any():
        matrix[infinite] = np.nan
    return matrix


def _scaling(name: str, numbers: NDArray[np.float32]) -> ColumnEncoder:
    present = numbers[~np.isnan(numbers)].astype(np.float64)
    if not len(present):
        return ColumnEncoder(name=name, kind="number")
    deviation = float(np.float32(present.std()))
    return ColumnEncoder(
        name=name,
        kind="number",
        offset=float(np.float32(present.mean())),
        scale=deviation if 0 < deviation < np.inf else 1.0,
        indicated=len(present) < len(numbers),
    )


def _distinct(values: Values) -> Sequence[Any]:
    if hasattr(values, "dictionary_encode"):
        found: list[Any] = combined(values).dictionary_encode().dictionary.to_pylist()
        return found
    return listed(values)
