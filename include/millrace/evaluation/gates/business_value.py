"""Decisions must be worth enough money."""

from __future__ import annotations

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import BusinessValue, Estimate
from millrace.evaluation.gate import Answer, Gate
from millrace.spec.use_case import UseCaseSpec


class BusinessValueFloor(Gate):
    """Passes where the lower 95 % bound of the money per row is at least `at_least`.

    Per row, since months have more and fewer rows. With `min_gain`, the lower bound of the paired gain per row must
    reach that too: over the champion's decisions, or over the best single answer to all rows where there is none.
    """

    at_least: float
    min_gain: float | None = None

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where the worth was not measured, or too few days give it an interval."""
        value = evidence.value
        if value is None:
            sentence = "What the decisions are worth was not measured."
            return Answer(outcome="insufficient_data", sentence=sentence)
        over = "the champion" if value.champion is not None else "the best single answer to all rows"
        judged = [("worth", "A row is worth", value.per_row, self.at_least)]
        if self.min_gain is not None:
            judged.append(("gain", f"over {over} it gains", value.gain, self.min_gain))
        if any(found.value is None or found.low is None for _, _, found, _ in judged):
            return Answer(
                outcome="insufficient_data", sentence="Too few days to say within bounds what a row is worth."
            )
        numbers = {"total": value.total}
        for name, _, found, floor in judged:
            numbers |= {name: float(found.value or 0.0), f"{name}_low": float(found.low or 0.0), f"{name}_floor": floor}
        passed = all((found.low or 0.0) >= floor for _, _, found, floor in judged)
        said = "; ".join(_say(value, words, found, floor) for _, words, found, floor in judged)
        return Answer(outcome="pass" if passed else "fail", numbers=numbers, sentence=f"{said}.")

    def check(self, use_case: UseCaseSpec) -> str:
        """The use case must say what decisions are worth."""
        return "" if use_case.evaluation.value else "evaluation.value of the use case is missing: nothing has a worth"


def _say(value: BusinessValue, words: str, found: Estimate, floor: float) -> str:
    verdict = "which reaches" if (found.low or 0.0) >= floor else "which may be below"
    return (
        f"{words} {found.value or 0.0:.4g} {value.currency} (at least {found.low or 0.0:.4g} with 95 % certainty), "
        f"{verdict} the floor of {floor:g}"
    )


GATE = BusinessValueFloor
