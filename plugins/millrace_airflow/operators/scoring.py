"""Batch scoring with the release in force."""

from __future__ import annotations

from typing import Any

from millrace_airflow.assets import on_condition, predictions_of
from millrace_airflow.connections import airflow_connections
from millrace_airflow.lineage import release_of
from millrace_airflow.operators.base import UseCaseOperator


class ScorePartitionOperator(UseCaseOperator):
    """Score a partition's rows and announce the predictions; without a release it succeeds and announces nothing."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the number of rows and the release, or the reason `no_release`."""
        from millrace.step.noted import tables_of
        from millrace.step.scoring import score_partition

        use_case, domain = self.use_case_spec(), self.domain_spec()
        report = score_partition(
            use_case, domain, self.partition_key(), settings=self.settings, connections=airflow_connections
        )
        self.note_tables(*tables_of(use_case, domain), partition=self.partition_key())
        for version, digest in ((report.release, report.package), (report.shadow_release, "")):
            if version:
                self.lineage.inputs.append(
                    release_of(
                        {"use_case": use_case.name, "version": version, **({"package": digest} if digest else {})}
                    )
                )
        self.note_wrote(report.features, *report.predictions)
        if report.predictions:
            asset = predictions_of(use_case)
            context["outlet_events"][on_condition(asset)].add(asset, extra={"release": report.release})
        return report.to_dict()
