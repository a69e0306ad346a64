"""Skew: rows that were answered online, looked up again in the lake as of the instant they were answered for."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence

from millrace.artifact import iso
from millrace.errors import PackageError
from millrace.governance.monitor_result import MonitorResults
from millrace.monitoring.skew import (
    NO_REQUESTS,
    FeatureCount,
    FeatureSkew,
    SkewExample,
    SkewReport,
    rank_features,
    summarise_skew,
)
from millrace.package import Package
from millrace.serving.sampled_row import SampledRow, count_vectors, instant, microseconds, read_sampled
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec

log = logging.getLogger(__name__)


def measure_skew(use_case: UseCaseSpec, domain: DomainSpec, partition: str, *, settings: Settings) -> SkewReport:
    """Compare the features of sampled online rows with those of the lake as of the same instant.

    The rows are those whose data ended within the partition, its end excluded: while a partition lasts, the online
    store stands at the end of the one before. The last partition of a domain takes what follows, too.
    Writes the page `<reports>/<uc>/skew/<partition>.html`.

    Args:
        use_case: its use case.
        domain: the domain of that.
        partition: key of the partition.
        settings: this installation.

    Rows of a package that is gone or was changed are not compared, nor are those that came as full vectors; the report
    counts both.

    Raises:
        FeatureError: a view that was looked up is no longer there.
    """
    sampled = sampled_rows(use_case, domain, partition, settings=settings)
    vectors = count_vectors(settings.serving_dir, use_case.name)
    if not sampled:
        report = SkewReport(use_case=use_case.name, partition=partition, reason=NO_REQUESTS, vectors=vectors)
        return dataclasses.replace(report, report=_write_page(report, [], settings)) if vectors else report
    packages = _packages(sampled, settings)
    rows = [row for row in sampled if row.package in packages]
    columns, mismatched = _measure(domain, rows, packages, settings)
    report = summarise_skew(
        use_case.name,
        partition,
        columns,
        rows=len(rows),
        mismatched=mismatched,
        releases=[row.release for row in rows],
        limit=use_case.monitoring.skew_share,
        uncompared=len(sampled) - len(rows),
    )
    report = dataclasses.replace(report, vectors=vectors)
    report = dataclasses.replace(report, report=_write_page(report, columns, settings))
    stored = {**report.to_dict(), "columns": [item.to_dict() for item in columns]}
    MonitorResults(settings).put(use_case.name, partition, "skew", stored)
    log.info("%s %s: %d of %d sampled rows differ", use_case.name, partition, mismatched, len(rows))
    return report


def sampled_rows(
    use_case: UseCaseSpec, domain: DomainSpec, partition: str, *, settings: Settings
) -> Sequence[SampledRow]:
    """The newest `monitoring.skew_rows` sampled rows whose data ended within a partition."""
    bounds = domain.partition(partition)
    start, end = microseconds(bounds.start), microseconds(bounds.end)
    rows = (
        row
        for row in read_sampled(settings.serving_dir, use_case.name)
        if start <= row.effective_at and (row.effective_at < end or partition == domain.last)
    )
    return deque(rows, maxlen=use_case.monitoring.skew_rows)


def _packages(rows: Sequence[SampledRow], settings: Settings) -> dict[str, Package]:
    """The packages that answered, as far as they are here and sound."""
    found: dict[str, Package] = {}
    for digest in dict.fromkeys(row.package for row in rows):
        try:
            found[digest] = Package.open(settings.packages / digest, digest)
        except PackageError as error:
            log.warning("rows that package %s answered cannot be compared: %s", digest[:12], error.what)
    return found


def _measure(
    domain: DomainSpec, rows: Sequence[SampledRow], packages: Mapping[str, Package], settings: Settings
) -> tuple[list[FeatureSkew], int]:
    """The skew of each feature over the packages that answered, and how many rows have any."""
    from millrace.step.feature_path import compare_paths, example_key

    compared: Counter[tuple[str, str]] = Counter()
    differing: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[SkewExample]] = {}
    mismatched = 0
    for digest, package in packages.items():
        mine = [row for row in rows if row.package == digest]
        found = compare_paths(domain, package, mine, settings=settings)
        compared.update(dict.fromkeys(found.views.items(), found.rows))
        mismatched += len({item.row for item in found.differences})
        for item in found.differences:
            differing[item.feature, item.view] += 1
            row = mine[item.row]
            example = SkewExample(
                key=example_key(package, item.view, row),
                as_of=iso(instant(row.marks.get(item.view, row.effective_at))),
                online=item.online,
                offline=item.offline,
            )
            examples.setdefault((item.feature, item.view), []).append(example)
    counts = [
        FeatureCount(
            name=name, view=view, rows=count, mismatches=differing[name, view], examples=examples.get((name, view), [])
        )
        for (name, view), count in compared.items()
    ]
    return rank_features(counts), mismatched


def _write_page(report: SkewReport, columns: Sequence[FeatureSkew], settings: Settings) -> str:
    from millrace.monitoring.skew_page import write_page

    path = settings.reports / report.use_case / "skew" / f"{report.partition}.html"
    write_page(path, report, columns)
    return str(path)
