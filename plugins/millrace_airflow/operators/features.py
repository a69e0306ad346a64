"""Features: tables of a partition, and their latest values in the online store."""

from __future__ import annotations

from typing import Any

from millrace_airflow.assets import features_of
from millrace_airflow.operators.base import DomainOperator


class BuildFeaturesOperator(DomainOperator):
    """Compute a partition of every feature table of the domain."""

    def execute(self, context: Any) -> list[dict[str, Any]]:
        """Return the references of the feature tables."""
        from millrace.step.features import build_features

        refs = build_features(self.domain_spec(), self.partition_key(), settings=self.settings)
        self.note_wrote(*refs)
        return [ref.to_dict() for ref in refs]


class MaterializeFeaturesOperator(DomainOperator):
    """Bring the newest values known at the partition's end to the online store, and announce the features.

    They are announced under the task's own partition, which in a replay is not that of its run.
    """

    def execute(self, context: Any) -> dict[str, Any]:
        """Return rows per view and the high-water mark."""
        from millrace.step.materialization import materialize_features

        domain = self.domain_spec()
        report = materialize_features(domain, self.partition_key(), settings=self.settings)
        self.lineage.outputs.append(("online_store", self.domain, {}))
        context["outlet_events"][features_of(domain)].add_partitions(self.partition_key())
        return report.to_dict()
