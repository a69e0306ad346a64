"""Features: tables of a partition, and their latest values in the online store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millrace_airflow.assets import features_of
from millrace_airflow.connections import airflow_connections
from millrace_airflow.operators.base import DomainOperator


class BuildFeaturesOperator(DomainOperator):
    """Compute a partition of every feature table of the domain."""

    def execute(self, context: Any) -> list[dict[str, Any]]:
        """Return the references of the feature tables."""
        from millrace.step.features import build_features

        refs = build_features(
            self.domain_spec(), self.partition_key(), settings=self.settings, connections=airflow_connections
        )
        self.note_wrote(*refs)
        return [ref.to_dict() for ref in refs]


class MaterializeViewOperator(DomainOperator):
    """Bring one view of the online store to the partition's end; a view that is further stays as far as it is.

    Args:
        view: name of the feature table.
    """

    template_fields: Sequence[str] = ("domain", "partition", "view")

    def __init__(self, *, view: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.view = view

    def execute(self, context: Any) -> dict[str, Any]:
        """Return keys written, rows of the view, its high-water mark, and why it was written anew where it was."""
        from millrace.step.materialization import materialize_view

        report = materialize_view(self.domain_spec(), self.view, self.partition_key(), settings=self.settings)
        self.lineage.outputs.append(("online_store", f"{self.domain}/{self.view}", {}))
        return report.to_dict()


class MaterializeFeaturesOperator(DomainOperator):
    """Bring all views of the online store to the partition's end, one after the other.

    For where there is a task group a partition, in which Airflow maps no further.
    """

    def execute(self, context: Any) -> dict[str, Any]:
        """Return what was done by view."""
        from millrace.step.materialization import materialize_features

        report = materialize_features(self.domain_spec(), self.partition_key(), settings=self.settings)
        self.lineage.outputs.append(("online_store", self.domain, {}))
        return report.to_dict()


class AnnounceFeaturesOperator(DomainOperator):
    """Announce the features of a partition, once all views have it.

    They are announced under the task's own partition, which in a replay is not that of its run.
    """

    def execute(self, context: Any) -> str:
        """Return the partition."""
        context["outlet_events"][features_of(self.domain_spec())].add_partitions(self.partition_key())
        return self.partition_key()
