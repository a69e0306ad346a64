"""Validation: contract, clean table and quarantine of one partition of a source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from millrace_airflow.links import REPORTS, DataDocsLink, RunbookLink
from millrace_airflow.operators.base import DomainOperator


class ValidatePartitionOperator(DomainOperator):
    """Hold a raw partition against its contract: rows that pass become clean, rows that fail go to quarantine.

    Args:
        source: name of the source in the domain's spec.
    """

    template_fields: Sequence[str] = ("domain", "source", "partition")
    operator_extra_links: ClassVar[Sequence[Any]] = (DataDocsLink(), RunbookLink())

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def execute(self, context: Any) -> dict[str, Any]:
        """Return counts and verdict. A blocking expectation that fails, fails the task; nothing is published."""
        from millrace.step.validation import validate_partition

        report = validate_partition(self.domain_spec(), self.source, self.partition_key(), settings=self.settings)
        self.links["Data Docs"] = f"{REPORTS}/{Path(report.docs).relative_to(self.settings.reports)}"
        self.note_wrote(report.clean, report.quarantine)
        return report.to_dict()
