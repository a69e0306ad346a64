"""The model card must say everything it is there to say."""

from __future__ import annotations

from millrace.evaluation.card_section import card_sections
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate
from millrace.spec.use_case import UseCaseSpec


class ModelCardComplete(Gate):
    """Fails where a required section of the model card would be empty."""

    def answer(self, evidence: Evidence) -> Answer:
        """Renders nothing: it looks at what the sections are made of."""
        sections = card_sections(evidence)
        empty = [item.title for item in sections if item.required and not item.filled]
        numbers = {"sections": float(len(sections)), "empty": float(len(empty))}
        if empty:
            sentence = f"Sections of the model card are empty: {', '.join(empty)}."
            return Answer(outcome="fail", numbers=numbers, sentence=sentence)
        return Answer(outcome="pass", numbers=numbers, sentence=f"All {len(sections)} sections of the card are filled.")

    def check(self, use_case: UseCaseSpec) -> str:
        """Without declared slices the card cannot say for whom the model is worse."""
        return "" if use_case.evaluation.slices else "evaluation.slices of the use case is empty, so a section is too"


GATE = ModelCardComplete
