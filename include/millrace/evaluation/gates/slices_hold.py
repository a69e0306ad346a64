"""A gain over all rows must not be paid for by some of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Estimate, SliceScore, slice_list
from millrace.evaluation.gate import Answer, Gate
from millrace.evaluation.metric import METRICS, direction_of
from millrace.spec.use_case import UseCaseSpec


class SlicesHold(Gate):
    """Fails where a slice is worse by more than `max_drop` than the champion on that slice.

    Without a champion the measure is the challenger over all rows. Slices of fewer rows than `min_rows`, and those that
    lack a class, are named in the answer and fail nothing; where no other slice is left there is no answer.
    """

    max_drop: Annotated[float, Field(ge=0)]
    min_rows: Annotated[int, Field(ge=1)] = 200

    def answer(self, evidence: Evidence) -> Answer:
        """The worst slice decides."""
        way = direction_of(evidence.metric)
        overall = evidence.challenger_score.metrics[evidence.metric]
        judged = [
            (way * (_other(item, overall) - item.score.value), item)
            for item in evidence.slices
            if item.rows >= self.min_rows and item.score.value is not None
        ]
        small = [item for item in evidence.slices if item.rows < self.min_rows]
        lacking = [item for item in evidence.slices if item.rows >= self.min_rows and item.score.value is None]
        numbers = {
            "slices": float(len(judged)),
            "too_small": float(len(small)),
            "undefined": float(len(lacking)),
            "max_drop": self.max_drop,
        }
        aside = f" Too few rows to judge: {slice_list(small)}." if small else ""
        aside += f" Rows enough, but not of every class: {slice_list(lacking)}." if lacking else ""
        if not judged:
            sentence = f"No slice has {self.min_rows} rows with a defined metric.{aside}"
            return Answer(outcome="insufficient_data", numbers=numbers, sentence=sentence)
        ranked = sorted(judged, key=lambda pair: (-pair[0], pair[1].column, pair[1].value))
        drop, worst = ranked[0]
        numbers["worst_drop"] = drop
        other = "the champion there" if worst.champion is not None else "over all rows"
        text = (
            f"{METRICS[evidence.metric].title} on {worst.name} is "
            f"{abs(drop):.4f} {'worse' if drop > 0 else 'better'} than {other}"
        )
        if drop <= self.max_drop:
            sentence = f"{len(judged)} slices hold; the weakest: {text} ({self.max_drop:g} allowed).{aside}"
            return Answer(outcome="pass", numbers=numbers, sentence=sentence)
        failing = [item for value, item in ranked if value > self.max_drop]
        more = f"; failing slices: {slice_list(failing)}" if len(failing) > 1 else ""
        sentence = f"{text}, more than {self.max_drop:g}{more}.{aside}"
        return Answer(outcome="fail", numbers=numbers, sentence=sentence)

    def check(self, use_case: UseCaseSpec) -> str:
        """There must be slices to hold."""
        return "" if use_case.evaluation.slices else "evaluation.slices of the use case is empty"


def _other(item: SliceScore, overall: Estimate) -> float:
    known = item.champion.value if item.champion is not None else None
    return known if known is not None else float(overall.value or 0.0)


GATE = SlicesHold
