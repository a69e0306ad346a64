"""Nobody may be worse off than under what is released, beyond a margin that the policy grants."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Estimate, SliceScore, slice_list
from millrace.evaluation.gate import Answer, Gate
from millrace.evaluation.gates.better_than_champion import why_unbounded
from millrace.evaluation.metric import METRICS


class NotWorseThan(Gate):
    """Non-inferiority: the lower 95 % bound of the paired gain over the champion must lie above minus a margin.

    It is asked of all rows, and of each declared slice and crossing with rows enough. Without a champion it passes,
    and says so. Margins are in the unit of the use case's metric.

    Attributes:
        margin: what all rows together may be worse by.
        slice_margin: what one slice may be worse by; slices are fewer rows, so that their bounds are wider.
        min_rows: rows a slice needs to be judged; smaller ones, and those that lack a class, are named.
    """

    margin: Annotated[float, Field(ge=0)]
    slice_margin: Annotated[float, Field(ge=0)]
    min_rows: Annotated[int, Field(ge=1)] = 500

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where the champion cannot be compared on all rows, or on a slice of rows enough."""
        versus = evidence.versus_champion
        if evidence.champion is None and not versus.reason:
            return Answer(outcome="pass", sentence="No champion is in force, so there is none to be worse than.")
        gain = versus.gain
        if versus.reason or gain.value is None or gain.low is None:
            reason = versus.reason or why_unbounded(evidence, gain)
            sentence = f"There is no comparison with release {versus.release}: {reason}."
            return Answer(outcome="insufficient_data", sentence=sentence)
        return self._judge(evidence, gain, gain.low)

    def _judge(self, evidence: Evidence, gain: Estimate, low: float) -> Answer:
        large = [item for item in evidence.slices if item.rows >= self.min_rows and item.score.value is not None]
        bounded = [(bound, item) for item in large if (bound := _bound(item)) is not None]
        ranked = sorted(bounded, key=lambda pair: (pair[0], pair[1].column, pair[1].value))
        numbers = {"gain": gain.value or 0.0, "low": low, "margin": self.margin, "slices": float(len(ranked))}
        if ranked:
            numbers |= {"worst_slice_low": ranked[0][0], "slice_margin": self.slice_margin}
        failing = [item for bound, item in ranked if bound <= -self.slice_margin]
        aside = self._aside(evidence)
        whole = _told(evidence, "all rows", gain, self.margin)
        told = [whole] if low <= -self.margin else []
        told += [self._slice_told(evidence, item) for item in failing[:3]]
        if told:
            more = f"; all failing slices: {slice_list(failing)}" if len(failing) > 3 else ""
            return Answer(outcome="fail", numbers=numbers, sentence=f"{'; '.join(told)}{more}.{aside}")
        if unbounded := [item for item in large if _bound(item) is None]:
            sentence = f"The gain has no bounds, for want of days, on {slice_list(unbounded)}.{aside}"
            return Answer(outcome="insufficient_data", numbers=numbers, sentence=sentence)
        if evidence.slices and not ranked:
            sentence = f"No slice has {self.min_rows} rows with a defined gain.{aside}"
            return Answer(outcome="insufficient_data", numbers=numbers, sentence=sentence)
        weakest = f"; the weakest of {len(ranked)} slices: {self._slice_told(evidence, ranked[0][1])}" if ranked else ""
        return Answer(outcome="pass", numbers=numbers, sentence=f"{whole}{weakest}.{aside}")

    def _aside(self, evidence: Evidence) -> str:
        small = [item for item in evidence.slices if item.rows < self.min_rows]
        lacking = [item for item in evidence.slices if item.rows >= self.min_rows and item.score.value is None]
        told = f" Not judged, for want of rows: {slice_list(small)}." if small else ""
        return told + (f" Not judged, for want of a class: {slice_list(lacking)}." if lacking else "")

    def _slice_told(self, evidence: Evidence, item: SliceScore) -> str:
        return _told(evidence, item.name, item.gain or Estimate(), self.slice_margin)


def _bound(item: SliceScore) -> float | None:
    return None if item.gain is None else item.gain.low


def _told(evidence: Evidence, rows: str, gain: Estimate, margin: float) -> str:
    value, low = gain.value or 0.0, gain.low or 0.0
    bound = "above" if low > -margin else "not above"
    return (
        f"{METRICS[evidence.metric].title} gain on {rows} {value:+.4f}, lower bound {low:+.4f} {bound} "
        f"{-margin or 0.0:g}"
    )


GATE = NotWorseThan
