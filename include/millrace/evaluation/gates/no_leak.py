"""No feature may hold the answer, or what is known only after it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate


class NoLeak(Gate):
    """Fails where a feature is declared a leak, is of no declared availability, or is suspiciously sufficient alone.

    Attributes:
        max_auc: AUC of one feature alone over which it is suspect (binary; of several classes, the greatest of one
            against the rest).
        max_r2: R² of one feature alone over which it is suspect (regression).
    """

    max_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.95
    max_r2: Annotated[float, Field(gt=0, le=1)] = 0.99

    def answer(self, evidence: Evidence) -> Answer:
        """Judges the features in the challenger's package, not only those of the spec."""
        used = set(evidence.challenger_score.features)
        limit, what = (self.max_auc, "AUC") if evidence.problem != "regression" else (self.max_r2, "R²")
        faults = []
        if leaks := sorted(used & set(evidence.declared_leaks)):
            faults.append(f"declared leaks are among the features: {', '.join(leaks)}")
        if unknown := sorted(used - set(evidence.declared_features)):
            faults.append(f"not in {evidence.feature_service}, so not known when predicting: {', '.join(unknown)}")
        ranked = sorted(evidence.sufficiency, key=lambda item: (-item.score, item.feature))
        for item in ranked:
            if item.score > limit:
                faults.append(f"{item.feature} alone reaches {what} {item.score:.3f}, over {limit:g}")
        if not ranked and not faults:
            return Answer(outcome="insufficient_data", sentence="No feature was measured alone.")
        numbers = {"features": float(len(used)), "limit": limit}
        if ranked:
            numbers["strongest"] = ranked[0].score
        if faults:
            return Answer(outcome="fail", numbers=numbers, sentence=f"{'; '.join(faults)}."[:400])
        best = ranked[0]
        strongest = f"{best.feature} ({what} {best.score:.3f})"
        sentence = f"No declared leak among {len(used)} features; the strongest alone is {strongest}."
        return Answer(outcome="pass", numbers=numbers, sentence=sentence)


GATE = NoLeak
