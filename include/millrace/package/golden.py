"""Golden rows: real rows with the package's own predictions, to prove a loaded model by."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from millrace.artifact import canonical
from millrace.errors import FeatureError
from millrace.package.value import Values, listed, read_numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRows:
    """Rows and what the package predicts for them.

    Attributes:
        columns: feature → values, null where missing; inputs that only functions read are among them.
        predictions: the package's prediction of each row; for a multiclass model the probability of each class.
    """

    columns: dict[str, list[Any]]
    predictions: list[float] | list[list[float]]

    def __len__(self) -> int:
        return len(self.predictions)

    def row(self, index: int) -> dict[str, Any]:
        """One row, feature → value."""
        return {name: values[index] for name, values in self.columns.items()}

    def to_bytes(self) -> bytes:
        """Canonical JSON; floats keep their shortest exact form, NaN is null."""
        return canonical(dataclasses.asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> GoldenRows:
        """The rows that `to_bytes` was called on."""
        plain: Mapping[str, Any] = orjson.loads(content)
        return cls(columns=plain["columns"], predictions=plain["predictions"])

    def difference(self, predictions: Any) -> float:
        """Greatest absolute difference of other predictions of these rows; infinite where one is not a number."""
        found, sealed = np.asarray(predictions, np.float64), np.asarray(self.predictions, np.float64)
        if found.shape != sealed.shape:
            return math.inf
        gap = float(np.abs(found - sealed).max(initial=0.0))
        return math.inf if math.isnan(gap) else gap


def same_values(found: Values, sealed: Values) -> bool:
    """Whether two columns hold the same, bit for bit; null and NaN are both a missing value."""
    if len(found) != len(sealed):
        return False
    try:
        ours, theirs = read_numbers("found", found), read_numbers("sealed", sealed)
    except FeatureError:
        pairs = zip(listed(found), listed(sealed), strict=True)
        return all(_missing(a) == _missing(b) and (_missing(a) or _same(a, b)) for a, b in pairs)
    missing = np.isnan(ours)
    if not np.array_equal(missing, np.isnan(theirs)):
        return False
    return bool(((ours.view(np.int64) == theirs.view(np.int64)) | missing).all())


def _missing(value: Any) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN alone differs from itself


def _same(a: Any, b: Any) -> bool:
    return a == b and (a != 0 or math.copysign(1.0, a) == math.copysign(1.0, b)) if not isinstance(a, str) else a == b
