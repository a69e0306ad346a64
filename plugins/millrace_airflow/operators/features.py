"""Features: tables of a partition, and their latest values in the online store."""

from __future__ import annotations

from typing import Any

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
    """Bring the newest values known at the partition's end to the online store, and announce the features."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return rows per view and the high-water mark."""
        from millrace.step.features import materialize_features

        report = materialize_features(self.domain_spec(), self.partition_key(), settings=self.settings)
        self.lineage.outputs.append(("online_store", self.domain, {}))
        return report.to_dict()
