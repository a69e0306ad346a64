"""What a trainer is given and gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from millrace.package import Encoder, Library, ModelFile
from millrace.training.params import TrainerParams
from millrace.training.run import FitRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Rows of a later partition that a trainer tells its loss on after each round or epoch.

    Attributes:
        matrix: float32 (rows, features), encoded as the training rows are.
        target: float32 label of each row.
    """

    matrix: NDArray[np.float32]
    target: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """Training rows in time order, encoded.

    Attributes:
        matrix: float32 (rows, features), numbers and category codes as `Encoder.encode` makes them. Where
            `block_rows` is set it is a read-only file mapped into memory, larger than what may be held at once.
        target: float32 label of each row; for multiclass the place of the class in `classes`.
        weight: float32 weight of each row; None where all count the same.
        recent: rows of the last training partition, or partitions, which early stopping keeps back.
        encoder: what encoded them.
        problem: `binary`, `multiclass` or `regression`.
        classes: number of classes; 0 for a regression.
        monotone: 1, -1 or 0 for each feature: the prediction may only rise, only fall, or do as it likes.
        block_rows: rows to hold at once; 0 where the matrix is in memory as a whole.
        watch: rows to report `watch_<loss>` on, less being better; the model does not hang on them.
        cache: where a trainer keeps what it made of this data, such as a quantised matrix, for other fits of the
            same data; None where there are none.
    """

    matrix: NDArray[np.float32]
    target: NDArray[np.float32]
    recent: NDArray[np.bool_]
    encoder: Encoder
    problem: str
    classes: int = 0
    weight: NDArray[np.float32] | None = None
    monotone: tuple[int, ...] = ()
    block_rows: int = 0
    watch: Watch | None = None
    cache: dict[Any, Any] | None = None

    def blocks(self, rows: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.int64]]:
        """Numbers of rows, rising (of all or of those given), in blocks of `block_rows`; one block where it is 0."""
        chosen = np.arange(len(self.target)) if rows is None else rows
        size = self.block_rows or max(len(chosen), 1)
        for start in range(0, len(chosen), size):
            yield chosen[start : start + size]


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
    """One library with its parameters; it is made by calling its class with these."""

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

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Train. Equal data, parameters and seed give equal bytes on one machine, also after a kill in between.

        Between segments of `params.checkpoint_every` rounds or epochs the state goes to `run.save`, and a fit begins
        at `run.restore()`; after each round or epoch its metrics go to `run.report`.
        """
        ...
