"""Steps of features: from feature tables to the online store, exact on re-run."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from millrace.artifact import DatasetRef, iso
from millrace.errors import FeatureError
from millrace.features.base import MaterializationReport, ViewReport, layout_of
from millrace.features.compute import entity_kinds
from millrace.features.materialization import (
    Brought,
    Extent,
    Held,
    Plan,
    bring_view,
    instant,
    layout_digest,
    plan_view,
)
from millrace.features.newest import Facts
from millrace.features.transformation import feature_table
from millrace.governance.materialization import Materialization, Materializations
from millrace.governance.state import exclusive
from millrace.lake import Table
from millrace.online import ViewLayout
from millrace.online.address import open_writer
from millrace.online.base import OnlineWriter, to_datetime
from millrace.settings import Settings
from millrace.spec import DomainSpec

log = logging.getLogger(__name__)


def materialize_features(domain: DomainSpec, partition: str, *, settings: Settings) -> MaterializationReport:
    """Bring all views of a domain to the end of a partition, one after the other."""
    views = [materialize_view(domain, name, partition, settings=settings) for name in domain.feature_tables]
    return MaterializationReport(domain=domain.name, partition=partition, views=views)


def materialize_view(domain: DomainSpec, view: str, partition: str, *, settings: Settings) -> ViewReport:
    """Bring one view of the online store to the end of a partition: per key the newest fact known, not expired then.

    A view that is further already stays as far as it is, with the facts of this partition in it. Two runs of one view
    take turns; one that was killed is made good by the next.

    Args:
        domain: its domain.
        view: name of the feature table.
        partition: key of the partition.
        settings: the installation.

    Raises:
        FeatureError: there is no such view, or its table is not there or lacks a column.
        OnlineStoreUnavailableError: the store does not answer; the mark stands where it stood.
    """
    spec = feature_table(domain, view)
    end = domain.partition(partition).end
    layout = layout_of(spec, entity_kinds(domain, settings.sql_folder, [view])[view])
    table = Table(settings.lake, domain.feature_table(view))
    records = Materializations(settings, settings.online_store)
    with exclusive(settings, f"materialize.{records.digest}.{view}"):
        newest = table.newest()
        if not newest:
            raise FeatureError(
                f"feature table {table.name!r} is not there yet",
                where=table.uri,
                remedy="build the features of a partition first",
            )
        writer = open_writer(settings.online_store)
        try:
            return _bring(domain, view, layout, table, newest, end=instant(end), writer=writer, records=records)
        finally:
            writer.close()


def _bring(
    domain: DomainSpec,
    view: str,
    layout: ViewLayout,
    table: Table,
    newest: Mapping[str, DatasetRef],
    *,
    end: int,
    writer: OnlineWriter,
    records: Materializations,
) -> ViewReport:
    known, stored = records.get(view), writer.state(view)
    held = None if known is None else _held(known)
    plan = plan_view(layout, extents_of(domain, newest), end=end, held=held, stored=stored)
    if plan.window is None and stored is not None:
        log.info("%s: as of %s already, nothing to write", view, iso(to_datetime(plan.mark)))
        return _report(view, plan, offered=0, rows=stored.rows)
    if plan.replace:
        log.info("%s: written anew, for %s", view, plan.replace)
    # The dataset is of the version that the digests were read at, whatever is committed meanwhile.
    facts = Facts(dataset=table.open(max(ref.version for ref in newest.values())).to_pyarrow_dataset())
    records.begin(view, domain.name)
    limits = domain.compute
    done = bring_view(
        writer, facts, view, layout, plan, held=held, memory_limit=limits.memory_limit, threads=limits.threads
    )
    records.finish(_noted(domain, view, layout, plan, done))
    told = iso(to_datetime(plan.mark))
    log.info("%s: %d keys written as of %s, the online store holds %d", view, done.offered, told, done.rows)
    return _report(view, plan, offered=done.offered, rows=done.rows)


def _noted(domain: DomainSpec, view: str, layout: ViewLayout, plan: Plan, done: Brought) -> Materialization:
    """What is known of a view after a complete run."""
    return Materialization(
        view=view,
        domain=domain.name,
        complete=True,
        high_water_mark=to_datetime(plan.noted),
        newest_event=None if done.newest_event is None else to_datetime(done.newest_event),
        layout=layout_digest(layout),
        partitions=plan.partitions,
        rows=done.rows,
    )


def extents_of(domain: DomainSpec, newest: Mapping[str, DatasetRef]) -> dict[str, Extent]:
    """The partitions of a feature table, with what they can hold."""
    found = {}
    for key, ref in newest.items():
        if key:
            bounds = domain.partition(key)
            found[key] = Extent(digest=ref.digest, start=instant(bounds.start), end=instant(bounds.end))
        else:
            found[key] = Extent(digest=ref.digest)
    return found


def _held(known: Materialization) -> Held:
    mark, newest = known.high_water_mark, known.newest_event
    return Held(
        complete=known.complete,
        high_water_mark=0 if mark is None else instant(mark),
        layout=known.layout,
        partitions=known.partitions,
        newest_event=None if newest is None else instant(newest),
    )


def _report(view: str, plan: Plan, *, offered: int, rows: int) -> ViewReport:
    return ViewReport(
        view=view,
        rows=rows,
        offered=offered,
        high_water_mark=iso(to_datetime(plan.mark)),
        anew=plan.replace,
    )
