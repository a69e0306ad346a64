"""Ingestion: one partition of one source into its raw table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millrace_airflow.connections import airflow_connections
from millrace_airflow.lineage import place
from millrace_airflow.operators.base import DomainOperator, tell_verdict


class IngestPartitionOperator(DomainOperator):
    """Replace one partition of a source's raw table; unchanged input commits nothing.

    Args:
        source: name of the source in the domain's spec.
    """

    template_fields: Sequence[str] = ("domain", "source", "partition")

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the reference of the raw partition, what was set aside, and a line that tells it."""
        from millrace.step.ingestion import ingest_partition
        from millrace.step.noted import places_of

        domain = self.domain_spec()
        report = ingest_partition(
            domain, self.source, self.partition_key(), settings=self.settings, connections=airflow_connections
        )
        self.lineage.inputs += [place(uri) for uri in places_of(domain, report, settings=self.settings)]
        self.note_wrote(report.raw, report.rejected)
        tell_verdict(context, report.line)
        return report.to_dict()
