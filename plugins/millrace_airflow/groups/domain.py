"""The DAGs of a domain, and their tasks by name: a DAG file says in which order they stand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronPartitionTimetable, TaskGroup, task_group

from millrace.errors import SpecError
from millrace.settings import settings
from millrace.spec import DomainSpec, FileSourceSpec, load_domain
from millrace_airflow.assets import arrivals_of, features_of, requests_of
from millrace_airflow.groups import text
from millrace_airflow.groups.argument import Step
from millrace_airflow.groups.form import replay_form
from millrace_airflow.notifiers.alert import AlertNotifier
from millrace_airflow.operators.arrival import FindArrivalsOperator, RequestPartitionOperator
from millrace_airflow.operators.base import PARTITION_KEY
from millrace_airflow.operators.features import (
    AnnounceFeaturesOperator,
    BuildFeaturesOperator,
    MaterializeFeaturesOperator,
    MaterializeViewOperator,
)
from millrace_airflow.operators.ingestion import IngestPartitionOperator
from millrace_airflow.operators.replay import STALE, ListStalePartitionsOperator, ReplayQuarantineOperator
from millrace_airflow.operators.validation import ValidatePartitionOperator
from millrace_airflow.retry import RETRIES

_UNATTENDED = {"data", "arrivals"}
"""DAGs that nobody watches: one alert a failed run."""
_CRON = {"month": ("0 0 1 * *", "%Y-%m"), "day": ("0 0 * * *", "%Y-%m-%d")}


class DomainDags:
    """DAGs and tasks of one domain.

    Args:
        name: stem of the domain's YAML; prefix of its DAG ids.
    """

    def __init__(self, name: str) -> None:
        self.spec: DomainSpec = load_domain(settings().dags, name)

    @property
    def watched(self) -> list[str]:
        """The sources whose new files start the data DAG."""
        return [name for name, spec in self.spec.sources.items() if isinstance(spec, FileSourceSpec) and spec.watch]

    # --- DAGs

    def data(self) -> DAG:
        """`<domain>_data`: a run a partition, when the partition is over, by backfill, and when files arrive."""
        domain = self.spec
        return self._dag(
            "data",
            description=f"{domain.description} One {domain.grain} a run.",
            schedule=self._timetable(),
            start_date=domain.first_start,
            end_date=None if domain.last is None else domain.partition(domain.last).end,
            doc_md=text.data(domain),
        )

    def replay(self) -> DAG:
        """`<domain>_replay`: started by a person, by form."""
        return self._dag(
            "replay",
            description="Bring rows back from quarantine: judged again, waived or corrected; then what rests on them.",
            schedule=None,
            doc_md=text.replay(self.spec),
            params=replay_form(self.spec),
        )

    def arrivals(self) -> DAG:
        """`<domain>_arrivals`: started by new files of the sources with `watch: true`.

        Raises:
            SpecError: the domain watches nothing.
        """
        if not self.watched:
            raise SpecError(
                f"domain {self.spec.name!r} watches nothing",
                where=f"{self.spec.name}.sources",
                remedy="set watch: true on a source of kind file, or take the arrivals DAG out of the DAG file",
            )
        assets: Any = arrivals_of(self.spec, self.watched[0])
        for source in self.watched[1:]:
            assets = assets | arrivals_of(self.spec, source)
        return self._dag(
            "arrivals",
            description=f"New files of {', '.join(self.watched)} start {self.spec.name}_data for their partitions.",
            schedule=assets,
            doc_md=text.arrivals(self.spec, self.watched),
        )

    def _dag(self, kind: str, **kwargs: Any) -> DAG:
        domain = self.spec
        return DAG(
            dag_id=f"{domain.name}_{kind}",
            catchup=False,
            max_active_runs=1,
            default_args={**RETRIES, "owner": domain.owners[0], "execution_timeout": timedelta(hours=2)},
            tags=["millrace", domain.name, kind],
            on_failure_callback=AlertNotifier(anchor=f"domain_{kind}") if kind in _UNATTENDED else None,
            **kwargs,
        )

    def _step(self, call: str) -> Step:
        return Step(call, owner="domain", name=self.spec.name)

    def _timetable(self) -> Any:
        domain = self.spec
        if self.watched:
            from millrace_airflow.timetable import PartitionTimetable

            return PartitionTimetable(grain=domain.grain, timezone=domain.timezone, asset=requests_of(domain))
        cron, key_format = _CRON[domain.grain]
        return CronPartitionTimetable(cron, timezone=domain.timezone, run_offset=-1, key_format=key_format)

    # --- tasks of data

    def source(self, name: str) -> TaskGroup:
        """ingest → validate of one source."""
        with TaskGroup(group_id=name) as group:
            ingest = IngestPartitionOperator(task_id="ingest_partition", domain=self.spec.name, source=name)
            validate = ValidatePartitionOperator(task_id="validate_partition", domain=self.spec.name, source=name)
            ingest >> validate
        return group

    def sources(self) -> list[TaskGroup]:
        """ingest → validate of every source, side by side."""
        return [self.source(name) for name in self.spec.sources]

    def build_features(self, partition: Any = PARTITION_KEY) -> BuildFeaturesOperator:
        """The feature tables of the partition."""
        return BuildFeaturesOperator(task_id="build_features", domain=self.spec.name, partition=partition)

    def materialize_features(self) -> TaskGroup:
        """The online store, one mapped task a view; then `<domain>/features` is announced."""
        with TaskGroup(group_id="materialize_features") as group:
            views = MaterializeViewOperator.partial(
                task_id="materialize_view", domain=self.spec.name, map_index_template="{{ task.view }}"
            ).expand(view=list(self.spec.feature_tables))
            views >> self.announce_features()
        return group

    def announce_features(self, partition: Any = PARTITION_KEY) -> AnnounceFeaturesOperator:
        """Announces `<domain>/features` of the partition, once: when all views have it."""
        return AnnounceFeaturesOperator(
            task_id="announce_features",
            domain=self.spec.name,
            partition=partition,
            outlets=[features_of(self.spec)],
            # Mapping over no views at all is a skip, not a success.
            trigger_rule="all_success" if self.spec.feature_tables else "none_failed",
        )

    # --- tasks of replay

    def replay_quarantine(self) -> ReplayQuarantineOperator:
        """The rows that the form names, out of quarantine."""
        return ReplayQuarantineOperator(
            task_id="replay_quarantine",
            domain=self.spec.name,
            source="{{ params.source }}",
            action="{{ params.action }}",
            reasons="{{ (params.reasons or []) | join(',') }}",
            partitions="{{ (params.partitions or []) | join(',') }}",
            ids="{{ params.ids or '' }}",
            reason="{{ params.reason or '' }}",
            corrections="{{ params.corrections or '' }}",
        )

    def list_stale_partitions(self, replayed: ReplayQuarantineOperator) -> ListStalePartitionsOperator:
        """The partitions whose clean rows changed by it."""
        step = self._step("list_stale_partitions(replayed)")
        step.require(replayed, "replay_quarantine()", ReplayQuarantineOperator)
        return ListStalePartitionsOperator(
            task_id="list_stale_partitions", domain=self.spec.name, changed=replayed.output[STALE]
        )

    def recompute(self, stale: ListStalePartitionsOperator) -> Any:
        """build → materialize → announce of each of them by itself, under its own key.

        Airflow maps no task within a mapped group, so one task brings all views to the store.
        """
        self._step("recompute(stale)").require(stale, "list_stale_partitions(replayed)", ListStalePartitionsOperator)

        @task_group(group_id="recompute")
        def recompute(partition: Any) -> None:
            materialize = MaterializeFeaturesOperator(
                task_id="materialize_features", domain=self.spec.name, partition=partition
            )
            self.build_features(partition) >> materialize >> self.announce_features(partition)

        return recompute.expand(partition=stale.output)

    # --- tasks of arrivals

    def find_arrivals(self) -> FindArrivalsOperator:
        """The partitions that files which arrived bring something new for."""
        return FindArrivalsOperator(
            task_id="find_arrivals",
            domain=self.spec.name,
            inlets=[arrivals_of(self.spec, source) for source in self.watched],
        )

    def request_partitions(self, arrived: FindArrivalsOperator) -> Any:
        """A run of `<domain>_data` for each of them, asked for one after the other, the earliest first."""
        self._step("request_partitions(arrived)").require(arrived, "find_arrivals()", FindArrivalsOperator)
        return RequestPartitionOperator.partial(
            task_id="request_partition",
            domain=self.spec.name,
            outlets=[requests_of(self.spec)],
            max_active_tis_per_dagrun=1,
            map_index_template="{{ task.partition }}",
        ).expand(partition=arrived.output)
