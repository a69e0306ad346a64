"""Golden rows: real rows with the package's own predictions, to prove a loaded model by."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from millrace.artifact import canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRows:
    """Rows and what the package predicts for them.

    Attributes:
        columns: feature → values, null where missing.
        predictions: the package's prediction of each row.
    """

    columns: dict[str, list[Any]]
    predictions: list[float]

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
        if len(predictions) != len(self.predictions):
            return math.inf
        gaps = [abs(float(a) - b) for a, b in zip(predictions, self.predictions, strict=True)]
        return math.inf if any(math.isnan(gap) for gap in gaps) else max(gaps, default=0.0)
