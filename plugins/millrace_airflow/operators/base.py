"""What all operators share: the partition, specs, links, lineage, retries by class of error."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, BaseOperatorLink

from millrace.artifact import DatasetRef
from millrace.errors import ReleaseRefusedError, SpecError
from millrace.settings import Settings, settings
from millrace.spec import DomainSpec, PolicySpec, UseCaseSpec, load_domain, load_policy, load_use_case
from millrace_airflow.lineage import Lineage
from millrace_airflow.links import RunbookLink
from millrace_airflow.retry import RETRIES

log = logging.getLogger(__name__)
PARTITION_KEY = "{{ partition_key or '' }}"


class MillraceOperator(BaseOperator):
    """Base of the operators.

    Args:
        partition: key of the partition the task works on; by default that of its DAG run.

    Attributes:
        links: name of an extra link → address, filled by `execute`.
        lineage: datasets read and written, filled by `execute`.
    """

    template_fields: Sequence[str] = ("partition",)
    operator_extra_links: ClassVar[Sequence[BaseOperatorLink]] = (RunbookLink(),)
    ui_color: ClassVar[str] = "#eaf1f7"

    def __init__(self, *, partition: str = PARTITION_KEY, **kwargs: Any) -> None:
        super().__init__(**{**RETRIES, **kwargs})
        self.partition = partition
        self.links: dict[str, str] = {}
        self.lineage = Lineage()

    @property
    def settings(self) -> Settings:
        """The installation the task runs in."""
        return settings()

    def partition_key(self) -> str:
        """The rendered key.

        Raises:
            SpecError: the run carries none.
        """
        if not self.partition:
            domain = getattr(self, "domain_spec", None)
            example = domain().first if domain else "2013-03 or 2013-03-14"
            raise SpecError(
                "this run carries no partition",
                where=f"task {self.task_id}",
                remedy=f"trigger the DAG with a partition key, such as {example}",
            )
        return self.partition

    def note_read(self, *refs: DatasetRef | None, assertions: Sequence[Mapping[str, Any]] = ()) -> None:
        """Note snapshots read, for OpenLineage, with the expectations that they were held against."""
        self.lineage.read(self.settings.lake, *(ref for ref in refs if ref is not None), assertions=assertions)

    def note_wrote(self, *refs: DatasetRef | None) -> None:
        """Note snapshots written, for OpenLineage."""
        self.lineage.wrote(self.settings.lake, *(ref for ref in refs if ref is not None))

    def note_tables(self, *names: str, partition: str = "") -> None:
        """Note tables read as they are now, for OpenLineage: one partition of them, or all."""
        self.lineage.read_tables(self.settings.lake, names, partition)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What OpenLineage's provider asks a custom operator for."""
        return self.lineage.to_openlineage()

    def on_kill(self) -> None:
        """Say that nothing half-written stays: every write is one Delta commit, one transaction or one rename."""
        log.warning(
            "%s of %r was stopped. What it had committed stands, what it had not is not visible: clear it to run again",
            self.task_id,
            self.partition,
        )


class DomainOperator(MillraceOperator):
    """An operator on a domain.

    Args:
        domain: name of the domain's spec.
    """

    template_fields: Sequence[str] = ("domain", "partition")

    def __init__(self, *, domain: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.domain = domain

    def domain_spec(self) -> DomainSpec:
        """The domain as it stands in its file now."""
        return load_domain(self.settings.dags, self.domain)


class UseCaseOperator(MillraceOperator):
    """An operator on a use case.

    Args:
        use_case: name of the use case's spec.
    """

    template_fields: Sequence[str] = ("use_case", "partition")

    def __init__(self, *, use_case: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_case = use_case

    def use_case_spec(self) -> UseCaseSpec:
        """The use case as it stands in its file now."""
        return load_use_case(self.settings.dags, self.use_case)

    def domain_spec(self) -> DomainSpec:
        """The use case's domain."""
        return load_domain(self.settings.dags, self.use_case_spec().domain)

    def policy_spec(self) -> PolicySpec:
        """The policy of the use case's tier."""
        return load_policy(self.settings.dags, self.use_case_spec().tier)


def handed_on(value: Any, what: str) -> Mapping[str, Any]:
    """What an earlier task handed on.

    Args:
        value: the task's XCom.
        what: its name, for people.

    Raises:
        ReleaseRefusedError: the task handed on nothing.
    """
    if isinstance(value, Mapping):
        return value
    raise ReleaseRefusedError(
        f"no {what} was handed on: the task that gives it was skipped, cleared or marked a success by hand",
        where="release",
        remedy="clear that task and let it run; nothing goes on without what it finds",
    )


def acting_user(context: Mapping[str, Any]) -> str:
    """Name of the person who triggered the run, or `system`."""
    return getattr(context["dag_run"], "triggering_user_name", None) or "system"


def tell_verdict(context: Mapping[str, Any], line: str) -> None:
    """Put one line for people where they look: XCom `verdict`, and the end of the task's log."""
    log.info("%s", line)
    context["ti"].xcom_push(key="verdict", value=line)
