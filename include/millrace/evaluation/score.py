"""What a model is worth on the holdout: metrics with intervals, and gains over another model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from millrace.evaluation.block import DayBlocks
from millrace.evaluation.bootstrap import Floats, resample
from millrace.evaluation.finding import Estimate, shortened
from millrace.evaluation.metric import DecisionRule, direction_of
from millrace.evaluation.sklearn_metric import measure
from millrace.spec.use_case import Problem

CONFIDENCE = 0.95
_MAX_UNDEFINED = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The metrics of one model on all rows, and in every round of the bootstrap.

    Attributes:
        days: days that have rows.
    """

    value: dict[str, float]
    rounds: dict[str, Floats]
    days: int

    def estimates(self) -> dict[str, Estimate]:
        """Each metric with its interval."""
        return {name: estimate(value, self.rounds[name], days=self.days) for name, value in self.value.items()}


def score(
    problem: Problem, label: Floats, prediction: Floats, blocks: DayBlocks, *, rule: DecisionRule | None = None
) -> Scored:
    """Metrics of one model; `f_beta` under the threshold and beta of `rule`.

    Raises:
        EvaluationError: the rows define no metrics (see `sklearn_metric.measure`).
    """
    return Scored(
        value=measure(problem, label, prediction, rule=rule),
        rounds=resample(problem, label, prediction, blocks, rule=rule),
        days=len(blocks.days),
    )


def estimate(value: float, rounds: Floats, *, days: int) -> Estimate:
    """A figure with its percentile interval; without one on a single day, which no round can draw otherwise.

    There is none either where over a tenth of the rounds are undefined.

    Args:
        value: on all rows.
        rounds: in each round of the bootstrap.
        days: days that were drawn from.
    """
    if not np.isfinite(value):
        return Estimate()
    known = rounds[np.isfinite(rounds)]
    if days < 2 or len(known) < (1 - _MAX_UNDEFINED) * len(rounds):
        return Estimate(value=shortened(value))
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(known, [tail, 100 - tail])
    return Estimate(value=shortened(value), low=shortened(low), high=shortened(high))


def gain(metric: str, ours: Scored, theirs: Scored) -> Estimate:
    """How much better one model is than another on the same rows and the same resampled days; positive is better."""
    way = direction_of(metric)
    return paired(
        way * (ours.value[metric] - theirs.value[metric]),
        way * (ours.rounds[metric] - theirs.rounds[metric]),
        days=min(ours.days, theirs.days),
    )


def paired(value: float, rounds: Floats, *, days: int) -> Estimate:
    """A mean over rows, or a difference of two models, with its t-interval over days; without one on a single day.

    The deviation is the bootstrap's, mended for days that are few: a resample of n days varies by (n - 1) / n of what
    the days do, and Student's t with n - 1 degrees of freedom is wider than the percentiles (Cameron, Gelbach and
    Miller 2008, on few clusters).

    Args:
        value: on all rows.
        rounds: in each round of the bootstrap.
        days: days that were drawn from.
    """
    from scipy.special import stdtrit

    found = estimate(value, rounds, days=days)
    if found.low is None:
        return found
    deviation = float(np.std(rounds[np.isfinite(rounds)], ddof=1)) * (days / (days - 1)) ** 0.5
    half = float(stdtrit(days - 1, (1 + CONFIDENCE) / 2)) * deviation
    return Estimate(value=found.value, low=shortened(value - half), high=shortened(value + half))
