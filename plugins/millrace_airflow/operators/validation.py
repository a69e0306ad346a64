"""Validation: contract, clean table and quarantine of one partition of a source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from millrace.errors import ContractError
from millrace.spec import DomainSpec
from millrace_airflow.links import REPORTS, DataDocsLink, ReplayLink, RunbookLink
from millrace_airflow.operators.base import DomainOperator, tell_verdict


class ValidatePartitionOperator(DomainOperator):
    """Hold a raw partition against its contract: rows that pass become clean, rows that fail go to quarantine.

    Args:
        source: name of the source in the domain's spec.
    """

    template_fields: Sequence[str] = ("domain", "source", "partition")
    operator_extra_links: ClassVar[Sequence[Any]] = (DataDocsLink(), ReplayLink(), RunbookLink())

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def execute(self, context: Any) -> dict[str, Any]:
        """Return counts and verdict.

        Raises:
            ContractError: a blocking expectation fails; nothing is published, and *Data Docs* shows which.
        """
        from millrace.step.validation import validate_partition

        domain = self.domain_spec()
        try:
            report = validate_partition(domain, self.source, self.partition_key(), settings=self.settings)
        except ContractError as error:
            self._link_docs(error.where.partition(", page ")[2])
            self._note_judged(domain)
            raise
        self._link_docs(report.docs)
        self._note_judged(domain)
        if report.rows_quarantined:
            self.links["Replay"] = f"/dags/{self.domain}_replay"
        self.note_wrote(report.clean, report.quarantine)
        warnings = len(report.verdict.reasons) - 1
        tell_verdict(context, report.verdict.reasons[0] + (f"; {warnings} more to read" if warnings else ""))
        return report.to_dict()

    def _note_judged(self, domain: DomainSpec) -> None:
        from millrace.step.noted import assertions_of, raw_of

        of = (domain, self.source, self.partition_key())
        self.note_read(raw_of(*of, settings=self.settings), assertions=assertions_of(*of, settings=self.settings))

    def _link_docs(self, page: str) -> None:
        if page:
            self.links["Data Docs"] = f"{REPORTS}/{Path(page).relative_to(self.settings.reports)}"
