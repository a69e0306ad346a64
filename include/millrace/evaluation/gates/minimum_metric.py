"""A metric must reach a floor."""

from __future__ import annotations

from typing import ClassVar

from millrace.evaluation.metric_limit import MetricLimit


class MinimumMetric(MetricLimit):
    """Passes where the challenger's metric on the holdout is at least `at_least`; more of it must be better."""

    side: ClassVar[int] = 1
    at_least: float

    @property
    def limit(self) -> tuple[str, float]:
        """The floor."""
        return "at_least", self.at_least


GATE = MinimumMetric
