"""From a column of a source forward to everything that rests on it: to the partition, by our own records.

A column's values of some days stand in the clean rows of some partitions, in the features computed of these, in the
training rows that look these up, in the releases trained on them, and in what these predicted.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from millrace.cleanup import compile_cleanup
from millrace.errors import LineageError, SpecError
from millrace.features.lineage import source_columns
from millrace.features.source import clean_partitions
from millrace.features.transformation import read_transformation
from millrace.partition import Partition
from millrace.settings import Settings
from millrace.spec import DomainSpec, list_specs, load_domain
from millrace.spec.cleanup import PythonStep
from millrace.step.snapshot import Snapshots, SourcePartition


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureUse:
    """What a feature table makes of a column.

    Attributes:
        table: the feature table.
        features: the features that rest on it.
        through: clean columns that they are computed from, and that rest on the column.
        partitions: its partitions that rest on the rows asked for; "" of a static table.
    """

    table: str
    features: list[str]
    through: list[str]
    partitions: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanUse:
    """The clean rows that hold a column's values.

    Attributes:
        domain: the domain.
        source: the source.
        column: the column.
        first: first day asked for.
        last: last day.
        late: whether the domain says that it is known too late to be a feature of its own row.
        columns: clean columns made of it, itself included where it is kept.
        partitions: the clean partitions of those days, with what they were made of.
        features: the feature tables that read any of these columns.
    """

    domain: str
    source: str
    column: str
    first: str
    last: str
    late: bool
    columns: list[str]
    partitions: list[SourcePartition] = field(default_factory=list)
    features: list[FeatureUse] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """Keys of the partitions."""
        return [item.partition for item in self.partitions]


def trace_clean(name: str, first: date, last: date, *, settings: Settings) -> CleanUse:
    """The clean rows and feature tables that rest on a column's values of some days.

    Args:
        name: `<source>.<column>`, with the domain before it where several have such a source.
        first: first day, in the domain's calendar.
        last: last day.
        settings: this installation.

    Raises:
        LineageError: no such column, or the days are in the wrong order.
        SpecError: a spec is wrong.
        FeatureError: a transformation cannot be read.
    """
    if last < first:
        raise LineageError(f"{last} lies before {first}", where="lineage", remedy="give the earlier day first")
    domain, source, column = find_column(name, settings)
    spec, snapshots = domain.sources[source], Snapshots(domain, settings)
    columns = clean_columns(domain, source, column)
    begin, end = _bounds(domain, first, last)
    keys = snapshots.partitions(domain.clean_table(source))
    there = [key for key in keys if (not key if spec.static else begin <= key <= end)]
    found = [item for key in there if (item := snapshots.source_partition(source, key)) is not None]
    return CleanUse(
        domain=domain.name,
        source=source,
        column=column,
        first=str(first),
        last=str(last),
        late=column in spec.known_late,
        columns=columns,
        partitions=found,
        features=_features(domain, source, columns, set(there), snapshots),
    )


def find_column(name: str, settings: Settings) -> tuple[DomainSpec, str, str]:
    """Domain, source and column of a name; the column is one of the raw or of the clean rows.

    Raises:
        LineageError: there is none of that name, or it is not clear which is meant.
    """
    parts = name.split(".")
    domains = [load_domain(settings.dags, item) for item in list_specs(settings.dags, "domains")]
    if len(parts) == 3:
        domains = [domain for domain in domains if domain.name == parts[0]]
    source, column = (parts[-2], parts[-1]) if len(parts) in {2, 3} else ("", name)
    having = [domain for domain in domains if source in domain.sources]
    found = [domain for domain in having if column in _columns(domain, source)]
    if len(found) == 1:
        return found[0], source, column
    if found:
        names = ", ".join(f"{domain.name}.{source}.{column}" for domain in found)
        raise LineageError(f"{name!r} stands in several domains", where="specs", remedy=f"name one: {names}")
    folder = settings.dags / "domains"
    if having:
        known = list(_columns(having[0], source))
        near = difflib.get_close_matches(column, known, n=1)
        raise LineageError(
            f"source {source!r} has no column {column!r}",
            where=f"{folder / having[0].name}.yaml: sources.{source}",
            remedy=f"{f'did you mean {near[0]!r}? ' if near else ''}there are: {', '.join(known)}",
        )
    sources = [f"{domain.name}.{item}" for domain in domains for item in domain.sources]
    near = difflib.get_close_matches(source, [item for domain in domains for item in domain.sources], n=1)
    raise LineageError(
        f"no source has a column {name!r}",
        where=str(folder),
        remedy=f"{f'did you mean {near[0]}.{column}? ' if near else ''}write it as SOURCE.COLUMN or "
        f"DOMAIN.SOURCE.COLUMN; there are {', '.join(sources) or 'no sources'}",
    )


def clean_columns(domain: DomainSpec, source: str, column: str) -> list[str]:
    """The clean columns that a column's values go into; what a Python step adds may rest on any."""
    spec = domain.sources[source]
    plan = compile_cleanup(spec, where=f"{domain.name}.sources.{source}")
    if column not in plan.raw:
        return [column]
    added = {name for step in spec.cleanup if isinstance(step, PythonStep) for name in step.adds}
    return [name for name, made in plan.columns.items() if column in made.origins or name in added]


def stands_behind(domain: DomainSpec, changed: Sequence[str], partition: str, ttl_hours: int) -> bool:
    """Whether rows of a partition may look up features of one of others: not later ones, nor such as ran out."""
    if "" in changed:
        return True
    start, kept = domain.partition(partition).start, timedelta(hours=ttl_hours)
    return any(
        key <= partition and (not ttl_hours or domain.partition(key).end + kept > start) for key in changed if key
    )


def _columns(domain: DomainSpec, source: str) -> list[str]:
    spec = domain.sources[source]
    return list(dict.fromkeys([*spec.raw_columns, *spec.clean_columns]))


def _bounds(domain: DomainSpec, first: date, last: date) -> tuple[str, str]:
    """Keys of the partitions that two days lie in."""
    zone = ZoneInfo(domain.timezone)
    days = (datetime.combine(day, time(12), zone) for day in (first, last))
    try:
        begin, end = (Partition.at(day, domain.grain, domain.timezone).key for day in days)
    except (ArithmeticError, ValueError, SpecError) as error:
        raise LineageError(
            f"{first} to {last} reaches beyond the years that partitions are told for",
            where="lineage",
            remedy="give days between 1000-01-01 and 9998-12-31",
        ) from error
    return begin, end


def _features(
    domain: DomainSpec, source: str, columns: Sequence[str], changed: set[str], snapshots: Snapshots
) -> list[FeatureUse]:
    found = []
    for name, table in domain.feature_tables.items():
        made_by = read_transformation(domain, name, snapshots.settings.sql_folder)
        if source not in made_by.sources(domain):
            continue
        read = {item: set(by.get(source, [])) & set(columns) for item, by in source_columns(domain, made_by).items()}
        if features := [item for item, through in read.items() if through]:
            keys = snapshots.partitions(domain.feature_table(name))
            through = set().union(*read.values())
            found.append(
                FeatureUse(
                    table=name,
                    features=features,
                    through=[item for item in columns if item in through],
                    partitions=[key for key in keys if _rests_on(domain, key, changed, table.look_back_days)],
                )
            )
    return found


def _rests_on(domain: DomainSpec, key: str, changed: set[str], look_back_days: int) -> bool:
    """Whether a partition of features is computed of any of the changed ones; those of a static source are in all."""
    if not changed:
        return False
    if "" in changed or not key:
        return True
    return bool(changed & {item.key for item in clean_partitions(domain, key, look_back_days)})
