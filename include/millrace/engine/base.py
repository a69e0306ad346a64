"""What every engine is: it runs one function over pieces of work that need nothing of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa

Piece = TypeVar("Piece")
Result = TypeVar("Result")
RowWork = Callable[[pa.Table], np.ndarray]
"""Gives one value a row, or one row of values."""


class Engine(Protocol):
    """Where heavy work runs. Work and pieces must pickle, since another process or machine may do them."""

    @property
    def width(self) -> int:
        """How many pieces it works on at once."""
        ...

    def map(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[Result]:
        """Results in the order of the pieces; work begins when the first one is asked for.

        A piece may be done twice, where its first worker died: work has to be idempotent.

        Raises:
            MillraceError: what the work of the earliest failing piece raised; pieces not begun are not done.
            EngineError: workers died more often than pieces are tried again.
        """
        ...

    def map_rows(self, open_work: Callable[[], RowWork], rows: pa.Table) -> np.ndarray:
        """What work gives for each row of a table, in the order of the rows.

        Args:
            open_work: loads what the work needs; called once in each process that works.
            rows: the table; a row must need nothing of the others, since they may be worked on elsewhere.

        Raises:
            MillraceError: what the work raised.
            EngineError: workers died more often than work is tried again.
        """
        ...
