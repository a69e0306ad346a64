"""A metric must stay under a ceiling."""

from __future__ import annotations

from typing import ClassVar

from millrace.evaluation.metric_limit import MetricLimit


class MaximumMetric(MetricLimit):
    """Passes where the challenger's metric on the holdout is at most `at_most`; less of it must be better.

    Of the bias, its size counts.
    """

    side: ClassVar[int] = -1
    at_most: float

    @property
    def limit(self) -> tuple[str, float]:
        """The ceiling."""
        return "at_most", self.at_most


GATE = MaximumMetric
