"""A model must not hang on the last digit of its inputs, nor break when one of them is missing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from millrace.evaluation.audit_finding import StabilityTest
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate
from millrace.evaluation.metric import METRICS
from millrace.spec.use_case import UseCaseSpec

_UP_TO_ONE = frozenset({"auc", "average_precision", "accuracy", "macro_f1", "brier", "ece", "f_beta"})


class Stability(Gate):
    """Fails where noise on the numbers moves predictions or the metric too much, or a prediction is not a number.

    The noise is a twentieth of each number's spread over the holdout. A feature that goes missing in every row must
    leave a finite prediction in each; what it may cost is asked only where `max_missing_drop` is given, since a model
    that lives on few features must lose much without one of them.

    Attributes:
        max_moved: mean change of the prediction under noise: of a probability, or in standard deviations of the label.
        max_drop: what the use case's metric may lose under noise, in its own unit.
        max_missing_drop: what it may lose with any one feature missing.
    """

    max_moved: Annotated[float, Field(gt=0)] = 0.05
    max_drop: Annotated[float, Field(ge=0)] | None = None
    max_missing_drop: Annotated[float, Field(ge=0)] | None = None

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where nothing was tried, or a metric that is asked for is undefined."""
        tests = evidence.stability
        if not tests:
            return Answer(outcome="insufficient_data", sentence="What changed inputs do to it was not measured.")
        noise = [item for item in tests if item.change == "perturbed"]
        missing = [item for item in tests if item.change == "missing"]
        numbers = {"tests": float(len(tests)), "broken": float(sum(item.broken for item in tests))}
        if noise:
            numbers |= {"moved": max(item.moved for item in noise), "max_moved": self.max_moved}
        faults = [_broken(item) for item in tests if item.broken]
        faults += [_moved(item, self.max_moved) for item in noise if item.moved > self.max_moved]
        unknown = []
        for name, limit, some in (("drop", self.max_drop, noise), ("missing_drop", self.max_missing_drop, missing)):
            if limit is None or not some:
                continue
            drops = [item.drop for item in some if item.drop is not None]
            unknown += [item for item in some if item.drop is None and not item.broken]
            numbers |= {f"max_{name}": limit} | ({name: max(drops)} if drops else {})
            faults += [_cost(evidence, item, limit) for item in some if item.drop is not None and item.drop > limit]
        if faults:
            more = f"; and {len(faults) - 4} more" if len(faults) > 4 else ""
            return Answer(outcome="fail", numbers=numbers, sentence=f"{'; '.join(faults[:4])}{more}.")
        if unknown:
            sentence = f"{METRICS[evidence.metric].title} is undefined on {unknown[0].rows} changed rows."
            return Answer(outcome="insufficient_data", numbers=numbers, sentence=sentence)
        return Answer(outcome="pass", numbers=numbers, sentence=self._held(noise, missing))

    def check(self, use_case: UseCaseSpec) -> str:
        """No metric that lies between 0 and 1 can lose more than 1."""
        if use_case.evaluation.metric not in _UP_TO_ONE:
            return ""
        given = {"max_drop": self.max_drop, "max_missing_drop": self.max_missing_drop}
        large = [name for name, value in given.items() if value is not None and value > 1]
        return f"{large[0]} is over 1, more than {use_case.evaluation.metric} can lose" if large else ""

    def _held(self, noise: list[StabilityTest], missing: list[StabilityTest]) -> str:
        told = "It sees no numbers that noise could change."
        if noise:
            told = f"Noise on all numbers moves predictions by {noise[0].moved:.4f}; {self.max_moved:g} is allowed."
        if not missing:
            return told
        worst = max(missing, key=lambda item: (item.moved, item.feature))
        return (
            f"{told} Every prediction stays finite when any of {len(missing)} features is missing; {worst.feature} "
            f"moves them most, by {worst.moved:.4f}."
        )


def _what(item: StabilityTest) -> str:
    return f"{item.feature or 'all inputs'} missing" if item.change == "missing" else "noise on the numbers"


def _broken(item: StabilityTest) -> str:
    return f"with {_what(item)} {item.broken} of {item.rows} predictions are no numbers"


def _moved(item: StabilityTest, limit: float) -> str:
    return f"{_what(item)} moves predictions by {item.moved:.4f}, over {limit:g}"


def _cost(evidence: Evidence, item: StabilityTest, limit: float) -> str:
    return f"{_what(item)} costs {item.drop:.4f} of {METRICS[evidence.metric].title}, over {limit:g}"


GATE = Stability
