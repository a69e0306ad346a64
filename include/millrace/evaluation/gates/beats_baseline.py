"""The challenger must be better than guessing from the training labels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate
from millrace.evaluation.gates.better_than_champion import judge_gain


class BeatsBaseline(Gate):
    """Passes where the lower 95 % bound of the paired gain over the baseline candidate is above `min_gain`."""

    min_gain: Annotated[float, Field(ge=0)] = 0.0

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where no baseline was trained."""
        return judge_gain(evidence, evidence.versus_baseline, "the baseline", self.min_gain)


GATE = BeatsBaseline
