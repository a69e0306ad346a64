"""Nobody may be worse off than under what is released, beyond a margin that the policy grants."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Estimate, SliceScore
from millrace.evaluation.gate import Answer, Gate
from millrace.evaluation.metric import METRICS


class NotWorseThan(Gate):
    """Non-inferiority: the lower 95 % bound of the paired gain over the champion must lie above minus a margin.

    It is asked of all rows, and of each declared slice and crossing with rows enough. Without a champion it passes,
    and says so. Margins are in the unit of the use case's metric.

    Attributes:
        margin: what all rows together may be worse by.
        slice_margin: what one slice may be worse by; slices are fewer rows, so that their bounds are wider.
        min_rows: rows a slice needs to be judged; smaller ones, and those of one class, are named.
    """

    margin: Annotated[float, Field(ge=0)]
    slice_margin: Annotated[float, Field(ge=0)]
    min_rows: Annotated[int, Field(ge=1)] = 500

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where the champion cannot be compared, or slices are declared and none has rows enough."""
        versus = evidence.versus_champion
        if evidence.champion is None and not versus.reason:
            return Answer(outcome="pass", sentence="No champion is in force, so there is none to be worse than.")
        gain = versus.gain
        if versus.reason or gain.value is None or gain.low is None:
            reason = versus.reason or "the metric is undefined on too many resampled days"
            sentence = f"There is no comparison with release {versus.release}: {reason}."
            return Answer(outcome="insufficient_data", sentence=sentence)
        bounds = {id(item): bound for item in evidence.slices if (bound := self._bound(item)) is not None}
        ranked = sorted(
            (item for item in evidence.slices if id(item) in bounds),
            key=lambda item: (bounds[id(item)], item.column, item.value),
        )
        small = [item for item in evidence.slices if id(item) not in bounds]
        aside = f" Not judged, for want of rows: {_names(small)}." if small else ""
        numbers = {"gain": gain.value, "low": gain.low, "margin": self.margin, "slices": float(len(ranked))}
        if ranked:
            numbers |= {"worst_slice_low": bounds[id(ranked[0])], "slice_margin": self.slice_margin}
        failing = [item for item in ranked if bounds[id(item)] <= -self.slice_margin]
        whole = _told(evidence, "all rows", gain, self.margin)
        told = [whole] if gain.low <= -self.margin else []
        told += [self._slice_told(evidence, item) for item in failing[:3]]
        if told:
            more = f"; all failing slices: {_names(failing)}" if len(failing) > 3 else ""
            return Answer(outcome="fail", numbers=numbers, sentence=f"{'; '.join(told)}{more}.{aside}")
        if evidence.slices and not ranked:
            sentence = f"No slice has {self.min_rows} rows with a defined gain.{aside}"
            return Answer(outcome="insufficient_data", numbers=numbers, sentence=sentence)
        weakest = f"; the weakest of {len(ranked)} slices: {self._slice_told(evidence, ranked[0])}" if ranked else ""
        return Answer(outcome="pass", numbers=numbers, sentence=f"{whole}{weakest}.{aside}")

    def _bound(self, item: SliceScore) -> float | None:
        return item.gain.low if item.gain is not None and item.rows >= self.min_rows else None

    def _slice_told(self, evidence: Evidence, item: SliceScore) -> str:
        return _told(evidence, f"{item.column} {item.value}", item.gain or Estimate(), self.slice_margin)


def _told(evidence: Evidence, rows: str, gain: Estimate, margin: float) -> str:
    value, low = gain.value or 0.0, gain.low or 0.0
    bound = "above" if low > -margin else "not above"
    return (
        f"{METRICS[evidence.metric].title} gain on {rows} {value:+.4f}, lower bound {low:+.4f} {bound} "
        f"{-margin or 0.0:g}"
    )


def _names(slices: list[SliceScore]) -> str:
    shown = ", ".join(f"{item.column} {item.value}" for item in slices[:8])
    return shown if len(slices) <= 8 else f"{shown} and {len(slices) - 8} more"


GATE = NotWorseThan
