"""What a trainer is given and gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from millrace.package import Encoder, Library, ModelFile
from millrace.training.params import TrainerParams


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """Training rows in time order, encoded.

    Attributes:
        matrix: float32 (rows, features), numbers and category codes as `Encoder.encode` makes them.
        target: float32 label of each row.
        recent: rows of the last training partition, which early stopping keeps back.
        encoder: what encoded them.
        problem: `binary` or `regression`.
    """

    matrix: NDArray[np.float32]
    target: NDArray[np.float32]
    recent: NDArray[np.bool_]
    encoder: Encoder
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A trained model in its native form.

    Attributes:
        content: bytes of the model file.
        facts: what goes into the manifest; the same for equal inputs.
        metrics: what goes to the tracking server alone.
    """

    content: bytes
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


class Trainer(Protocol):
    """One library with its parameters."""

    @property
    def params(self) -> TrainerParams:
        """Parameters, defaults resolved."""
        ...

    @property
    def library(self) -> Library:
        """What trains."""
        ...

    @property
    def model(self) -> ModelFile:
        """Name and format of the model file."""
        ...

    @property
    def scaled(self) -> bool:
        """True where the model wants standardised numbers."""
        ...

    def fit(self, data: TrainingData, *, seed: int) -> Fit:
        """Train. Equal data, parameters and seed give equal bytes on one machine."""
        ...
