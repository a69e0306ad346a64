"""Rates by group, and how far apart they are, by fairlearn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from fairlearn.metrics import (
    MetricFrame,
    count,
    false_positive_rate,
    mean_prediction,
    selection_rate,
    true_positive_rate,
)
from numpy.typing import NDArray

Rate = Literal["selected", "true", "false"]
_RATES: dict[Rate, Any] = {"selected": selection_rate, "true": true_positive_rate, "false": false_positive_rate}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How far one rate is apart between groups.

    Attributes:
        ratio: least over greatest; None where the rate is nought in every group.
        difference: greatest less least.
        least: group with the least.
        greatest: group with the greatest.
    """

    ratio: float | None
    difference: float
    least: str
    greatest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRates:
    """Rows of one group, and its rates; None for a rate of no rows."""

    rows: int
    share_of_ones: float
    selected: float
    true_positive_rate: float | None
    false_positive_rate: float | None


def measure_gap(rate: Rate, truth: NDArray[np.bool_], decided: NDArray[np.bool_], group: NDArray[np.str_]) -> Gap:
    """One rate, held against each other between the groups there are.

    Args:
        rate: share `selected`, or `true` or `false` positive rate.
        truth: (n,) rows that are 1.
        decided: (n,) rows that are decided 1.
        group: (n,) names.
    """
    frame = MetricFrame(
        metrics=_RATES[rate], y_true=truth.astype(int), y_pred=decided.astype(int), sensitive_features=group
    )
    ratio = float(frame.ratio())
    return Gap(
        ratio=None if np.isnan(ratio) else ratio,
        difference=float(frame.difference()),
        least=str(frame.by_group.idxmin()),
        greatest=str(frame.by_group.idxmax()),
    )


def measure_groups(
    truth: NDArray[np.bool_], decided: NDArray[np.bool_], group: NDArray[np.str_]
) -> dict[str, GroupRates]:
    """Every group with its rates, in the order of their names; arguments as of `measure_gap`."""
    ones = truth.astype(int)
    metrics: dict[str, Any] = {"rows": count} | {str(name): metric for name, metric in _RATES.items()}
    frame = MetricFrame(metrics=metrics, y_true=ones, y_pred=decided.astype(int), sensitive_features=group).by_group
    shares = MetricFrame(metrics=mean_prediction, y_true=ones, y_pred=ones, sensitive_features=group).by_group
    found = {}
    for name, row in frame.iterrows():
        share = float(shares[name])
        found[str(name)] = GroupRates(
            rows=int(row["rows"]),
            share_of_ones=share,
            selected=float(row["selected"]),
            true_positive_rate=float(row["true"]) if share > 0 else None,
            false_positive_rate=float(row["false"]) if share < 1 else None,
        )
    return found
