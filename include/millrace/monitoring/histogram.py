"""Histograms whose bins were learned on a release's own data, and counts of new data in the same bins."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

QUANTILE_BINS = 10
TOP_CATEGORIES = 20


class Histogram(BaseModel):
    """Counts of one column, bin by bin; the last count is of missing values.

    Attributes:
        kind: `number` (quantile bins) or `category` (the most frequent ones, and all others together).
        edges: upper bounds of all bins but the last, which is open; a value on a bound is in the bin below it.
        values: the categories that have a bin.
        counts: rows in each bin; for a category the bin of all others; at last the missing.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["number", "category"]
    edges: list[float] = []
    values: list[str] = []
    counts: list[int]

    @property
    def rows(self) -> int:
        """All rows, missing ones too."""
        return sum(self.counts)


def learn_histogram(column: Any, kind: Literal["number", "category"]) -> Histogram:
    """Bins of a column and its counts in them: ten quantile bins, or the twenty most frequent categories.

    Args:
        column: Arrow column.
        kind: how it is read.
    """
    if kind == "number":
        values = _numbers(column)
        known = values[np.isfinite(values)]
        edges = (
            np.unique(np.quantile(known, np.linspace(0, 1, QUANTILE_BINS + 1)[1:-1], method="lower")).tolist()
            if len(known)
            else []
        )
        empty = Histogram(kind=kind, edges=edges, counts=[0] * (len(edges) + 2))
    else:
        sizes = pc.value_counts(_texts(column)).to_pylist()
        named = [(item["counts"], item["values"]) for item in sizes if item["values"] is not None]
        top = sorted(text for _, text in sorted(named, key=lambda pair: (-pair[0], pair[1]))[:TOP_CATEGORIES])
        empty = Histogram(kind=kind, values=top, counts=[0] * (len(top) + 2))
    return empty.model_copy(update={"counts": count(empty, column).tolist()})


def count(histogram: Histogram, column: Any) -> NDArray[np.int64]:
    """Rows of a column in the bins of a histogram, missing ones last."""
    bins = len(histogram.counts)
    if histogram.kind == "number":
        values = _numbers(column)
        place = np.where(np.isfinite(values), np.searchsorted(np.array(histogram.edges), values, side="left"), bins - 1)
        return np.bincount(place, minlength=bins)
    texts = _texts(column)
    known = pc.index_in(texts, value_set=pa.array(histogram.values, pa.string()))
    place = pc.if_else(pc.is_null(texts), bins - 1, pc.coalesce(known, pa.scalar(bins - 2, pa.int32())))
    return np.bincount(place.to_numpy(zero_copy_only=False), minlength=bins)


def _numbers(column: Any) -> NDArray[np.float64]:
    found: NDArray[np.float64] = _single(column).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def _texts(column: Any) -> Any:
    return _single(column).cast(pa.string())


def _single(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
