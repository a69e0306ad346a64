"""What gates that hold one metric against a limit have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate
from millrace.evaluation.metric import METRICS, MetricName
from millrace.spec.use_case import UseCaseSpec


class MetricLimit(Gate):
    """A metric of the challenger on the holdout must not be worse than a limit.

    Attributes:
        metric: the metric; only one whose better side is the side the gate lets pass.
    """

    side: ClassVar[int]
    metric: MetricName

    @property
    @abstractmethod
    def limit(self) -> tuple[str, float]:
        """The argument that limits, and its value."""

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where the metric is undefined on the holdout."""
        metric, found = METRICS[self.metric], evidence.challenger_score.metrics.get(self.metric)
        if found is None or found.value is None:
            return Answer(outcome="insufficient_data", sentence=f"{metric.title} is undefined on the holdout.")
        name, limit = self.limit
        value = found.value if metric.direction else abs(found.value)
        asked = f"at least {limit:g} is asked for" if self.side > 0 else f"at most {limit:g} is allowed"
        return Answer(
            outcome="pass" if self.side * (value - limit) >= 0 else "fail",
            numbers={self.metric: found.value, name: limit},
            sentence=f"{metric.title} {found.value:.4f}; {asked}.",
        )

    def check(self, use_case: UseCaseSpec) -> str:
        """The metric must be one of the use case's problem, and must not get better beyond the limit."""
        metric = METRICS[self.metric]
        if use_case.problem not in metric.problems:
            return f"metric {self.metric!r} is for {' and '.join(metric.problems)} problems"
        if (metric.direction or -1) != self.side:
            better, kind = ("more", "minimum_metric") if self.side < 0 else ("less", "maximum_metric")
            return f"{better} of {self.metric} is better, so it would let the worse models pass; use {kind}"
        return ""
