"""Nobody can answer for a model that cannot be explained."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate


class ExplanationPresent(Gate):
    """Fails where the evidence does not say what moves the challenger, feature by feature of its package.

    Attributes:
        min_rows: rows that the explanation must rest on.
    """

    min_rows: Annotated[int, Field(ge=1)] = 50

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where the rows were too few to explain by."""
        found = evidence.explanation
        shares = {item.feature: item.share for item in found.features}
        numbers = {"rows": float(found.rows), "features": float(len(shares)), "min_rows": float(self.min_rows)}
        if found.method == "none" or found.rows < self.min_rows:
            sentence = f"{found.rows} rows of the holdout are too few to explain the model by."
            return Answer(outcome="insufficient_data", numbers=numbers, sentence=sentence)
        if absent := sorted(set(evidence.challenger_score.features) - set(shares)):
            sentence = f"The explanation says nothing of {', '.join(absent[:8])}."
            return Answer(outcome="fail", numbers=numbers, sentence=sentence)
        total = sum(shares.values())
        if not math.isfinite(total) or total <= 0:
            return Answer(
                outcome="fail", numbers=numbers, sentence="The explanation names nothing that moves the model."
            )
        first = found.features[0]
        most = f"{first.feature} moves it most ({first.share:.0%} of all)"
        sentence = f"Explained by {found.method} on {found.rows} rows; {most}."
        return Answer(outcome="pass", numbers=numbers, sentence=sentence)


GATE = ExplanationPresent
