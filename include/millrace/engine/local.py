"""The engine that is always there: piece after piece, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from millrace.engine.base import Piece, Result, RowWork


class LocalEngine:
    """Works on one piece after the other; a piece may use all the threads it is allowed."""

    @property
    def width(self) -> int:
        """One."""
        return 1

    def map(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[Result]:
        """Results in the order of the pieces, each worked on when it is asked for."""
        return map(work, pieces)

    def map_rows(self, open_work: Callable[[], RowWork], rows: pa.Table) -> np.ndarray:
        """All rows at once."""
        return open_work()(rows)
