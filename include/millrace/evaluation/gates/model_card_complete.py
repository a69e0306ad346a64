"""The model card must say everything it is there to say."""

from __future__ import annotations

from millrace.evaluation.model_card import card_sections
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate


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


GATE = ModelCardComplete
