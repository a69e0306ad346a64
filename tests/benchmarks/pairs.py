"""Two sides measured in turns, so that what else the machine does meets both alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class DifferentResultsError(AssertionError):
    """The two sides did not compute the same thing, so that their times say nothing. A retry does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of one side.

    Attributes:
        figure: what is compared, such as seconds.
        result: what it computed; equal on both sides.
        peak_mb: peak memory above what the imports take.
    """

    figure: float
    result: Any = None
    peak_mb: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Medians of both sides, and the greatest peak of ours."""

    ours: float
    other: float
    peak_mb: float | None


def compare(
    ours: Callable[[], Sample],
    other: Callable[[], Sample],
    *,
    pairs: int = 3,
    same: Callable[[Any, Any], bool] = lambda a, b: bool(a == b),
) -> Comparison:
    """A warm-up of each, then alternating pairs.

    Args:
        ours: runs our side once.
        other: runs the other side once.
        pairs: how many pairs count.
        same: whether two results are the same.

    Raises:
        DifferentResultsError: results of a pair differ.
    """
    found = []
    for number in range(pairs + 1):
        pair = (ours(), other())
        if not same(pair[0].result, pair[1].result):
            raise DifferentResultsError(f"pair {number}: ours {pair[0].result!r}, other {pair[1].result!r}"[:2000])
        found.append(pair)
    counted = found[1:]
    peaks = [sample.peak_mb for sample, _ in counted if sample.peak_mb is not None]
    return Comparison(
        ours=statistics.median(sample.figure for sample, _ in counted),
        other=statistics.median(sample.figure for _, sample in counted),
        peak_mb=max(peaks, default=None),
    )
