"""Probabilities must mean what they say."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate
from millrace.spec.use_case import Problem


class Calibration(Gate):
    """Passes where the expected calibration error on the holdout is at most `max_error`.

    Of several classes, it is the probability of the most probable one that is held against how often it was right.
    """

    problems: ClassVar[tuple[Problem, ...]] = ("binary", "multiclass")
    max_error: Annotated[float, Field(gt=0, le=1)]

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where the error is undefined."""
        estimate = evidence.challenger_score.metrics.get("ece")
        if estimate is None or estimate.value is None:
            return Answer(outcome="insufficient_data", sentence="The calibration error is undefined on the holdout.")
        numbers = {"ece": estimate.value, "max_error": self.max_error}
        sentence = f"Probabilities are off by {estimate.value:.3f} on average; {self.max_error:g} is allowed."
        return Answer(
            outcome="pass" if estimate.value <= self.max_error else "fail", numbers=numbers, sentence=sentence
        )


GATE = Calibration
