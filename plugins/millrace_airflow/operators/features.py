"""Features: tables of a partition, and their latest values in the online store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millrace_airflow.assets import features_of
from millrace_airflow.connections import airflow_connections
from millrace_airflow.lineage import asset, online_view
from millrace_airflow.operators.base import DomainOperator


class BuildFeaturesOperator(DomainOperator):
    """Compute a partition of every feature table of the domain."""

    def execute(self, context: Any) -> list[dict[str, Any]]:
        """Return the references of the feature tables."""
        from millrace.step.features import build_features
        from millrace.step.noted import clean_behind

        domain = self.domain_spec()
        refs = build_features(domain, self.partition_key(), settings=self.settings, connections=airflow_connections)
        self.note_read(*clean_behind(domain, refs, settings=self.settings))
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

        domain = self.domain_spec()
        report = materialize_view(domain, self.view, self.partition_key(), settings=self.settings)
        self.note_tables(domain.feature_table(self.view))
        mark = report.high_water_mark
        self.lineage.outputs.append(online_view(self.domain, self.view, rows=report.rows, version=mark))
        return report.to_dict()


class MaterializeFeaturesOperator(DomainOperator):
    """Bring all views of the online store to the partition's end, one after the other.

    For where there is a task group a partition, in which Airflow maps no further.
    """

    def execute(self, context: Any) -> dict[str, Any]:
        """Return what was done by view."""
        from millrace.step.materialization import materialize_features

        domain = self.domain_spec()
        report = materialize_features(domain, self.partition_key(), settings=self.settings)
        self.note_tables(*(domain.feature_table(name) for name in domain.feature_tables))
        self.lineage.outputs += [
            online_view(self.domain, view.view, rows=view.rows, version=view.high_water_mark) for view in report.views
        ]
        return report.to_dict()


class AnnounceFeaturesOperator(DomainOperator):
    """Announce the features of a partition, once all views have it.

    They are announced under the task's own partition, which in a replay is not that of its run.
    """

    def execute(self, context: Any) -> str:
        """Return the partition."""
        domain = self.domain_spec()
        context["outlet_events"][features_of(domain)].add_partitions(self.partition_key())
        self.note_tables(
            *(domain.feature_table(name) for name in domain.feature_tables), partition=self.partition_key()
        )
        self.lineage.outputs.append(asset(domain.asset, self.partition_key()))
        return self.partition_key()
