"""The DAG of a domain, and its tasks by name: a DAG file says in which order they stand."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronPartitionTimetable, TaskGroup

from millrace.settings import settings
from millrace.spec import DomainSpec, load_domain
from millrace_airflow.assets import features_of
from millrace_airflow.operators.features import BuildFeaturesOperator, MaterializeFeaturesOperator
from millrace_airflow.operators.ingestion import IngestPartitionOperator
from millrace_airflow.operators.validation import ValidatePartitionOperator
from millrace_airflow.retry import RETRIES

_CRON = {"month": ("0 0 1 * *", "%Y-%m"), "day": ("0 0 * * *", "%Y-%m-%d")}


class DomainDags:
    """DAG and tasks of one domain.

    Args:
        name: stem of the domain's YAML; prefix of its DAG ids.
    """

    def __init__(self, name: str) -> None:
        self.spec: DomainSpec = load_domain(settings().dags, name)

    def data(self) -> DAG:
        """`<domain>_data`: a run a partition, when the partition is over; Airflow's backfill works over partitions."""
        domain = self.spec
        cron, key_format = _CRON[domain.grain]
        return DAG(
            dag_id=f"{domain.name}_data",
            description=f"{domain.description} One {domain.grain} a run.",
            schedule=CronPartitionTimetable(cron, timezone=domain.timezone, run_offset=-1, key_format=key_format),
            start_date=domain.first_start,
            end_date=None if domain.last is None else domain.partition(domain.last).end,
            catchup=False,
            max_active_runs=1,
            default_args={**RETRIES, "owner": domain.owners[0], "execution_timeout": timedelta(hours=2)},
            tags=["millrace", domain.name, "data"],
            doc_md=f"""### {domain.name}: data
{domain.description}

Each source is ingested and held against its contract; rows that fail it go to quarantine, never away. Then the
feature tables of the {domain.grain} are computed and their newest values brought to the online store, which starts
the scoring of every use case on this domain.

**To run it again:** trigger it with the same partition key, clear the run, or start a backfill over partition
dates. What is there already stays as it is. **If a task fails:** its log names the table, the partition and the
remedy; *Data Docs* on the validate tasks shows which expectation failed, on which rows.
""",
        )

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

    def build_features(self) -> BuildFeaturesOperator:
        """The feature tables of the partition."""
        return BuildFeaturesOperator(task_id="build_features", domain=self.spec.name)

    def materialize_features(self) -> MaterializeFeaturesOperator:
        """The online store; announces `<domain>/features`."""
        return MaterializeFeaturesOperator(
            task_id="materialize_features", domain=self.spec.name, outlets=[features_of(self.spec)]
        )
