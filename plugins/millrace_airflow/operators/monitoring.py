"""Monitoring: labels that arrived, drift, performance, and the decision to train again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from millrace_airflow.assets import on_condition, retrain_request_of
from millrace_airflow.links import REPORTS, DriftReportLink, RunbookLink, SkewReportLink
from millrace_airflow.operators.base import UseCaseOperator


class JoinLabelsOperator(UseCaseOperator):
    """Join predictions with the labels known by the partition's end."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return rows, labelled and unlabelled."""
        from millrace.step.monitoring import join_labels

        report = join_labels(self.use_case_spec(), self.domain_spec(), self.partition_key(), settings=self.settings)
        self.note_wrote(report.ref)
        return report.to_dict()


class MeasureDriftOperator(UseCaseOperator):
    """Compare the partition's features and predictions with the reference of the release that scored it."""

    operator_extra_links: ClassVar[Sequence[Any]] = (DriftReportLink(), RunbookLink())

    def execute(self, context: Any) -> dict[str, Any]:
        """Return drifted features and the largest of them."""
        from millrace.step.monitoring import measure_drift

        report = measure_drift(self.use_case_spec(), self.domain_spec(), self.partition_key(), settings=self.settings)
        if report.report:
            self.links["Drift report"] = f"{REPORTS}/{Path(report.report).relative_to(self.settings.reports)}"
        return report.to_dict()


class MeasurePerformanceOperator(UseCaseOperator):
    """Measure the live metric, with its interval, on the labels that arrived."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the metric by role."""
        from millrace.step.monitoring import measure_performance

        report = measure_performance(
            self.use_case_spec(), self.domain_spec(), self.partition_key(), settings=self.settings
        )
        return report.to_dict()


class MeasureFreshnessOperator(UseCaseOperator):
    """Hold the use case's views in the online store against their objectives, as of the partition's end."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the verdict, the stale views, and a sentence for each of them."""
        from millrace.step.freshness import watch_freshness

        report = watch_freshness(self.use_case_spec(), self.domain_spec(), self.partition_key(), settings=self.settings)
        return report.to_dict()


class MeasureSkewOperator(UseCaseOperator):
    """Hold the features of sampled online rows against those of the lake as of the same instant."""

    operator_extra_links: ClassVar[Sequence[Any]] = (SkewReportLink(), RunbookLink())

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the features that differ, the share of rows, and a sentence where there are any."""
        from millrace.step.skew import measure_skew

        report = measure_skew(self.use_case_spec(), self.domain_spec(), self.partition_key(), settings=self.settings)
        if report.report:
            self.links["Skew report"] = f"{REPORTS}/{Path(report.report).relative_to(self.settings.reports)}"
        return report.to_dict()


class DecideRetrainingOperator(UseCaseOperator):
    """Decide whether to train again, and say why or why not; a yes starts the training DAG by asset event.

    Args:
        drift: what `MeasureDriftOperator` returned.
        performance: what `MeasurePerformanceOperator` returned.
        beside: what else was measured, each with its `reasons`: they are named and decide nothing.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "drift", "performance", "beside")

    def __init__(self, *, drift: Any, performance: Any, beside: Any = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drift = drift
        self.performance = performance
        self.beside = beside

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the decision with its reasons."""
        from millrace.monitoring.drift import DriftReport
        from millrace.monitoring.performance import PerformanceReport
        from millrace.step.monitoring import decide_retraining

        use_case = self.use_case_spec()
        decision = decide_retraining(
            use_case,
            self.partition_key(),
            DriftReport.from_dict(self.drift),
            PerformanceReport.from_dict(self.performance),
            settings=self.settings,
            beside=[reason for report in self.beside for reason in report["reasons"]],
        )
        if decision.retrain:
            asset = retrain_request_of(use_case)
            context["outlet_events"][on_condition(asset)].add(asset, extra={"reasons": decision.reasons})
        return decision.to_dict()
