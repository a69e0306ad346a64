"""Monitoring: labels that arrived, drift, performance, the decision to train again, and what names the champion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from millrace_airflow.assets import on_condition, retrain_request_of
from millrace_airflow.lineage import aliases_of, document, online_view, served_model
from millrace_airflow.links import REPORTS, DriftReportLink, RegistryLink, RunbookLink, SkewReportLink
from millrace_airflow.notifiers.alert import send_alert
from millrace_airflow.operators.approval import run_of
from millrace_airflow.operators.base import UseCaseOperator, tell_verdict


class JoinLabelsOperator(UseCaseOperator):
    """Join predictions with the labels known by the partition's end."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return rows, labelled and unlabelled."""
        from millrace.step.monitoring import join_labels

        use_case, domain = self.use_case_spec(), self.domain_spec()
        report = join_labels(use_case, domain, self.partition_key(), settings=self.settings)
        clean = domain.clean_table(use_case.entity.source)
        self.note_tables(use_case.table("predictions"), clean, partition=self.partition_key())
        self.note_wrote(report.ref)
        return report.to_dict()


class MeasureDriftOperator(UseCaseOperator):
    """Compare the partition's features and predictions with the reference of the release that scored it."""

    operator_extra_links: ClassVar[Sequence[Any]] = (DriftReportLink(), RunbookLink())

    def execute(self, context: Any) -> dict[str, Any]:
        """Return drifted features and the largest of them."""
        from millrace.step.monitoring import measure_drift

        use_case = self.use_case_spec()
        report = measure_drift(use_case, self.domain_spec(), self.partition_key(), settings=self.settings)
        tables = (use_case.table("predictions"), use_case.service_table("scored_features"))
        self.note_tables(*tables, partition=self.partition_key())
        self.lineage.inputs.append(document("reference", self.use_case, report.reference))
        self.lineage.outputs.append(document("report", f"{self.use_case}/drift/{self.partition}"))
        if report.report:
            self.links["Drift report"] = f"{REPORTS}/{Path(report.report).relative_to(self.settings.reports)}"
        return report.to_dict()


class MeasurePerformanceOperator(UseCaseOperator):
    """Measure the live metric, with its interval, on the labels that arrived."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the metric by role."""
        from millrace.step.monitoring import measure_performance

        use_case, domain = self.use_case_spec(), self.domain_spec()
        report = measure_performance(use_case, domain, self.partition_key(), settings=self.settings)
        self.note_tables(use_case.table("labelled"), partition=self.partition_key())
        if use_case.window > 1:
            self.note_tables(use_case.table("predictions"), domain.clean_table(use_case.entity.source))
        self.lineage.outputs.append(document("report", f"{self.use_case}/performance/{self.partition}"))
        return report.to_dict()


class MeasureFreshnessOperator(UseCaseOperator):
    """Hold the use case's views in the online store against their objectives, as of the partition's end.

    What is stale, or a store that does not answer, is told to people by `AlertNotifier`'s connection.
    """

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the verdict, the stale views, and a sentence for each of them."""
        from millrace.step.freshness import watch_freshness

        use_case = self.use_case_spec()
        report = watch_freshness(use_case, self.domain_spec(), self.partition_key(), settings=self.settings)
        self.lineage.inputs += [online_view(use_case.domain, view) for view in use_case.features.views]
        if report.reasons:
            title = f"{self.use_case}: features in the online store are {report.verdict}"
            send_alert(title, f"{self.partition}: {' '.join(report.reasons)}", anchor="uc_monitor")
        return report.to_dict()


class MeasureSkewOperator(UseCaseOperator):
    """Hold the features of sampled online rows against those of the lake as of the same instant."""

    operator_extra_links: ClassVar[Sequence[Any]] = (SkewReportLink(), RunbookLink())

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the features that differ, the share of rows, and a sentence where there are any."""
        from millrace.step.noted import tables_of
        from millrace.step.skew import measure_skew

        use_case, domain = self.use_case_spec(), self.domain_spec()
        report = measure_skew(use_case, domain, self.partition_key(), settings=self.settings)
        self.note_tables(*tables_of(use_case, domain)[1:])
        self.lineage.inputs += [online_view(domain.name, view) for view in use_case.features.views]
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
        measures = ("drift", "performance")
        self.lineage.inputs += [document("report", f"{self.use_case}/{name}/{self.partition}") for name in measures]
        self.lineage.outputs.append(document("ledger", f"{self.use_case}/retrain_decided"))
        if decision.retrain:
            asset = retrain_request_of(use_case)
            context["outlet_events"][on_condition(asset)].add(asset, extra={"reasons": decision.reasons})
        return decision.to_dict()


class ReconcileRegistryOperator(UseCaseOperator):
    """Put back MLflow's aliases and the online service's pointer where they name something else than the ledger.

    What was moved is written to the ledger, told to people by `AlertNotifier`'s connection, and put back. MLflow or
    the online service being away is named and fails nothing.
    """

    operator_extra_links: ClassVar[Sequence[Any]] = (RegistryLink(), RunbookLink())

    def execute(self, context: Any) -> dict[str, Any]:
        """Return what was put back, and what could not be looked at.

        Raises:
            ReleaseRefusedError: the ledger does not prove what is in force; people are told, nothing is put back.
        """
        from millrace.errors import ReleaseRefusedError
        from millrace.step.reconcile import reconcile_registry

        self.links["MLflow"] = f"{self.settings.mlflow_url}/#/models/{self.use_case}"
        self.lineage.inputs.append(document("ledger", f"{self.use_case}/released"))
        self.lineage.outputs += [aliases_of(self.use_case), served_model(self.use_case)]
        try:
            report = reconcile_registry(self.use_case_spec(), settings=self.settings, key=run_of(context))
        except ReleaseRefusedError as error:
            send_alert(f"{self.use_case}: nothing proves what is in force", str(error), anchor="the-ledger-is-broken")
            raise
        if report.alarms:
            text = "\n".join(report.alarms)
            send_alert(f"{self.use_case}: something else than the ledger named a release", text, anchor="uc_monitor")
        if report.reasons:
            tell_verdict(context, "; ".join(report.reasons))
        else:
            tell_verdict(context, "aliases and online service name what the ledger says")
        return report.to_dict()
