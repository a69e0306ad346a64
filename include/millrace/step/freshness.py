"""Steps of features: how far the online store lies behind the data."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from millrace.errors import OnlineStoreUnavailableError
from millrace.features.freshness import FreshnessReport, ViewFreshness, judge_freshness
from millrace.governance.materialization import Materializations
from millrace.governance.monitor_result import MonitorResults
from millrace.online.address import open_reader
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec


def measure_freshness(domain: DomainSpec, *, settings: Settings, at: datetime | None = None) -> list[ViewFreshness]:
    """How far each view of a domain lies behind, by the online store's own high-water marks.

    Args:
        domain: the domain.
        settings: the installation.
        at: the instant as of which; None for now. What counts is the last partition that was over by then.

    Raises:
        OnlineStoreUnavailableError: the store does not answer.
    """
    records = Materializations(settings, settings.online_store).all()
    with contextlib.closing(open_reader(settings.online_store)) as reader:
        there = set(reader.views())
        marks = {name: reader.high_water_mark(name) if name in there else None for name in domain.feature_tables}
    found = []
    for name, mark in marks.items():
        record = records.get(name)
        same = record is not None and record.complete and mark is not None
        found.append(
            judge_freshness(
                domain,
                name,
                at=at or datetime.now(UTC),
                high_water_mark=mark,
                newest_event=record.newest_event if record is not None and same else None,
                rows=record.rows if record is not None and same else None,
            )
        )
    return found


def watch_freshness(
    use_case: UseCaseSpec, domain: DomainSpec, partition: str, *, settings: Settings
) -> FreshnessReport:
    """Hold the views that a use case reads against their objectives, as of a partition's end, and keep the result.

    A store that does not answer is a finding too, not an error: what else is monitored goes on.

    Args:
        use_case: the use case.
        domain: its domain.
        partition: key of the partition.
        settings: this installation.
    """
    base = FreshnessReport(use_case=use_case.name, partition=partition)
    try:
        measured = measure_freshness(domain, settings=settings, at=domain.partition(partition).end)
        read = set(use_case.features.views)
        for name in use_case.features.on_demand:
            read |= set(domain.on_demand[name].inputs)
        report = base.of([view for view in measured if view.view in read])
    except OnlineStoreUnavailableError as error:
        report = base.unreachable(error.what)
    MonitorResults(settings).put(use_case.name, partition, "freshness", report.to_dict())
    return report
