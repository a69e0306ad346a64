"""A metric must reach a floor."""

from __future__ import annotations

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate
from millrace.evaluation.metric import METRICS, MetricName
from millrace.spec.use_case import UseCaseSpec


class MinimumMetric(Gate):
    """Passes where the challenger's metric on the holdout is at least `at_least`."""

    metric: MetricName
    at_least: float

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where the metric is undefined on the holdout."""
        estimate = evidence.challenger_score.metrics.get(self.metric)
        title = METRICS[self.metric].title
        if estimate is None or estimate.value is None:
            return Answer(outcome="insufficient_data", sentence=f"{title} is undefined on the holdout.")
        numbers = {self.metric: estimate.value, "at_least": self.at_least}
        sentence = f"{title} {estimate.value:.4f}; at least {self.at_least:g} is asked for."
        return Answer(outcome="pass" if estimate.value >= self.at_least else "fail", numbers=numbers, sentence=sentence)

    def check(self, use_case: UseCaseSpec) -> str:
        """The metric must be one of the use case's problem."""
        problems = METRICS[self.metric].problems
        fits = use_case.problem in problems
        return "" if fits else f"metric {self.metric!r} is for {' and '.join(problems)} problems"


GATE = MinimumMetric
