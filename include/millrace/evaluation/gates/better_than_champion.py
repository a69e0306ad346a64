"""The challenger must be provably better than what is released."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Comparison, Estimate
from millrace.evaluation.gate import Answer, Gate
from millrace.evaluation.metric import METRICS

_LEAST_DAYS = 2


class BetterThanChampion(Gate):
    """Passes where the lower 95 % bound of the paired gain over the champion is above `min_gain`.

    The gain is in the direction of the use case's metric: 0.01 AUC more, or one minute of RMSE less, is positive.
    """

    min_gain: Annotated[float, Field(ge=0)] = 0.002

    def answer(self, evidence: Evidence) -> Answer:
        """Passes without a champion too, and says so."""
        if evidence.champion is None and not evidence.versus_champion.reason:
            return Answer(outcome="pass", sentence="No champion is in force, so there is none to beat.")
        return judge_gain(
            evidence, evidence.versus_champion, f"release {evidence.versus_champion.release}", self.min_gain
        )


def judge_gain(evidence: Evidence, comparison: Comparison, other: str, min_gain: float) -> Answer:
    """The answer that a paired gain gives."""
    title, gain = METRICS[evidence.metric].title, comparison.gain
    if comparison.reason or gain.value is None or gain.low is None or gain.high is None:
        sentence = f"There is no comparison with {other}: {comparison.reason or why_unbounded(evidence, gain)}."
        return Answer(outcome="insufficient_data", sentence=sentence)
    numbers = {"gain": gain.value, "low": gain.low, "high": gain.high, "min_gain": min_gain}
    figures = f"{title} gain {gain.value:+.4f} over {other} (95 % interval {gain.low:+.4f} to {gain.high:+.4f})"
    if gain.low > min_gain:
        sentence = f"{figures}: the lower bound is above {min_gain:g}."
        return Answer(outcome="pass", numbers=numbers, sentence=sentence)
    sentence = f"{figures}: the lower bound is not above {min_gain:g}."
    return Answer(outcome="fail", numbers=numbers, sentence=sentence)


def why_unbounded(evidence: Evidence, gain: Estimate) -> str:
    """Why a gain on the holdout's days has no interval."""
    title, days = METRICS[evidence.metric].title, evidence.data.holdout_days
    if gain.value is None:
        return f"{title} is undefined on the holdout"
    if days < _LEAST_DAYS:
        return f"the holdout has {days} day{'' if days == 1 else 's'}; an interval needs several"
    if evidence.problem == "regression":
        return f"{title} is undefined in too many resamples of the holdout's {days} days"
    classes = "every class" if evidence.problem == "multiclass" else "both classes"
    return f"too few of the holdout's {days} days hold {classes}"


GATE = BetterThanChampion
