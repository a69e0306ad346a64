"""A metric must stay under a ceiling."""

from __future__ import annotations

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate
from millrace.evaluation.metric import METRICS, MetricName
from millrace.spec.use_case import UseCaseSpec


class MaximumMetric(Gate):
    """Passes where the challenger's metric on the holdout is at most `at_most`; of the bias, its size counts."""

    metric: MetricName
    at_most: float

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where the metric is undefined on the holdout."""
        estimate = evidence.challenger_score.metrics.get(self.metric)
        title = METRICS[self.metric].title
        if estimate is None or estimate.value is None:
            return Answer(outcome="insufficient_data", sentence=f"{title} is undefined on the holdout.")
        value = abs(estimate.value) if METRICS[self.metric].direction == 0 else estimate.value
        numbers = {self.metric: estimate.value, "at_most": self.at_most}
        sentence = f"{title} {estimate.value:.4f}; at most {self.at_most:g} is allowed."
        return Answer(outcome="pass" if value <= self.at_most else "fail", numbers=numbers, sentence=sentence)

    def check(self, use_case: UseCaseSpec) -> str:
        """The metric must be one of the use case's problem."""
        problems = METRICS[self.metric].problems
        fits = use_case.problem in problems
        return "" if fits else f"metric {self.metric!r} is for {' and '.join(problems)} problems"


GATE = MaximumMetric
