"""How far the distribution of a column has moved from a release's reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.artifact import PlainValue
from millrace.monitoring.histogram import Histogram, count
from millrace.monitoring.reference import PREDICTION, Reference

FLOOR = 1e-4
"""Share that stands for an empty bin. It bounds what one emptied bin of a tenth can add to 0.69; a bin that is new
adds its share times ln(share / 0.0001). A PSI with `floored` bins says "very different", not how much."""

_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift(PlainValue):
    """How far one column moved.

    Attributes:
        name: the column.
        psi: population stability index over the bins, missing values as one of them.
        js: Jensen-Shannon divergence over the same bins, in bits (0 to 1).
        missing: share of missing values now.
        missing_before: share of missing values in the reference.
        floored: bins that are empty on one side alone.
    """

    name: str
    psi: float
    js: float
    missing: float
    missing_before: float
    floored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport(PlainValue):
    """How the rows of a partition differ from those the release that scored them was trained on.

    Attributes:
        use_case: its use case.
        partition: key of the partition.
        release: version of the release; 0 where none scored.
        reference: digest of its drift reference.
        rows: rows compared.
        features: number of features compared.
        drifted: features over the limit, the farthest first; at most ten are named.
        drifted_features: how many there are.
        share: share of features over the limit.
        psi: PSI of the named features.
        prediction_psi: PSI of the predictions against those on the holdout; of several classes the greatest, of the
            most probable class and of the probability of each.
        report: path of the Evidently report, "" where there is none.
        reason: why there is no comparison (`no_release`, `no_rows`), else "".
    """

    use_case: str
    partition: str
    release: int = 0
    reference: str = ""
    rows: int = 0
    features: int = 0
    drifted: list[str] = field(default_factory=list)
    drifted_features: int = 0
    share: float = 0.0
    psi: dict[str, float] = field(default_factory=dict)
    prediction_psi: float = 0.0
    report: str = ""
    reason: str = ""


def measure_columns(reference: Reference, columns: Mapping[str, Any]) -> list[ColumnDrift]:
    """The drift of each feature, the farthest first.

    Args:
        reference: what the release was trained on.
        columns: feature → Arrow column of the new rows.
    """
    found = [measure_column(name, item, columns[name]) for name, item in reference.features.items()]
    return sorted(found, key=lambda item: (-item.psi, item.name))


def measure_predictions(
    reference: Reference, shown: Any, predictions: NDArray[np.float64], classes: Sequence[str]
) -> list[ColumnDrift]:
    """The drift of the predictions, the farthest first; of several classes also that of each one's probability.

    Args:
        reference: of the release that predicted.
        shown: what `shown_predictions` gives for them.
        predictions: (n,), or (n, classes) of several classes.
        classes: their names.
    """
    found = [measure_column(PREDICTION, reference.prediction, shown)]
    for place, (name, histogram) in enumerate(zip(classes, reference.probabilities, strict=True)):
        found.append(measure_column(f"probability of {name}", histogram, pa.array(predictions[:, place])))
    return sorted(found, key=lambda item: (-item.psi, item.name))


def measure_column(name: str, histogram: Histogram, column: Any) -> ColumnDrift:
    """The drift of one column against its histogram."""
    before, now = np.array(histogram.counts), count(histogram, column)
    return ColumnDrift(
        name=name,
        psi=round(stability_index(before, now), 6),
        js=round(divergence(before, now), 6),
        missing=round(float(now[-1] / max(now.sum(), 1)), 6),
        missing_before=round(float(before[-1] / max(before.sum(), 1)), 6),
        floored=int(((before == 0) != (now == 0)).sum()),
    )


def stability_index(before: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    """Population stability index: the sum over bins of (now - before) · ln(now / before), of shares.

    Siddiqi, Credit Risk Scorecards, 2006; it is Jeffreys' divergence of the binned distributions. A share under
    `FLOOR` counts as `FLOOR`.
    """
    old, new = np.maximum(_shares(before), FLOOR), np.maximum(_shares(now), FLOOR)
    return float(((new - old) * np.log(new / old)).sum())


def divergence(before: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    """Jensen-Shannon divergence in bits; Lin, IEEE Transactions on Information Theory 37 (1991)."""
    old, new = _shares(before), _shares(now)
    middle = (old + new) / 2
    return max(0.0, (_relative(old, middle) + _relative(new, middle)) / 2)


def summarise(columns: list[ColumnDrift], limit: float) -> tuple[list[str], int, float, dict[str, float]]:
    """Names of the drifted columns (the farthest ten), how many, their share, and the PSI of those named."""
    drifted = [item for item in columns if item.psi > limit]
    named = drifted[:_NAMED]
    share = round(len(drifted) / len(columns), 6) if columns else 0.0
    return [item.name for item in named], len(drifted), share, {item.name: item.psi for item in named}


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return counts / max(int(counts.sum()), 1)


def _relative(shares: NDArray[np.float64], middle: NDArray[np.float64]) -> float:
    there = shares > 0
    return float((shares[there] * np.log2(shares[there] / middle[there])).sum())
