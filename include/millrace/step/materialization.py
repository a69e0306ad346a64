"""Steps of features: from feature tables to the online store."""

from __future__ import annotations

from millrace.artifact import iso
from millrace.features.base import MaterializationReport, layout_of
from millrace.features.compute import entity_kinds
from millrace.features.materialization import materialize_view
from millrace.lake import Table
from millrace.online.writer import OnlineWriter
from millrace.settings import Settings
from millrace.spec import DomainSpec


def materialize_features(domain: DomainSpec, partition: str, *, settings: Settings) -> MaterializationReport:
    """Bring the online store to the end of a partition: per key the newest fact known and not expired then.

    A store that is already further keeps its newer rows and its high-water mark.
    """
    end = domain.partition(partition).end
    kinds = entity_kinds(domain, settings.sql_folder)
    writer = OnlineWriter(settings.online_store)
    offered, rows = {}, {}
    for name, table in domain.feature_tables.items():
        source = Table(settings.lake, domain.feature_table(name))
        offered[name], rows[name] = materialize_view(writer, source, name, layout_of(table, kinds[name]), at=end)
    return MaterializationReport(
        domain=domain.name, partition=partition, rows=rows, offered=offered, high_water_mark=iso(end)
    )
