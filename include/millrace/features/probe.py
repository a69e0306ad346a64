"""What transformations are tried on: made-up clean rows of a domain, and the partition that they are tried for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.cleanup import ROW, clean_schema
from millrace.errors import MillraceError
from millrace.features.difference import differing
from millrace.features.future import known_column
from millrace.features.source import clean_partitions, register_rows
from millrace.features.synthetic import make_rows, required_columns
from millrace.features.synthetic_key import scattered
from millrace.features.transformation import Transformation
from millrace.lake.duck import arrow, quoted
from millrace.partition import Partition
from millrace.spec import DomainSpec, SourceSpec

Cleaner = Callable[[SourceSpec, pa.Table, str], pa.Table]
"""Source, raw rows and a name for messages → clean rows, with the place of their raw row in the column `ROW`."""
Rows = Mapping[str, pa.Table]
"""Source → clean rows."""

SEED = 20_130_101
_ROWS = 3_000
_FEW = 5
_SOON = 300_000_000  # five minutes
_BEFORE_DAYS = 62  # how much further back than the declared look-back the history reaches that is compared with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Made-up clean rows of a domain, and one partition to compute.

    Attributes:
        connection: DuckDB that it all runs on.
        domain: the domain, beginning early enough.
        partition: the partition computed.
        rows: source → partition → clean rows.
        instants: by which the future begins.
        refused: source → why no made-up row passes its clean-up.
    """

    connection: Any
    domain: DomainSpec
    partition: Partition
    rows: Mapping[str, Mapping[str, pa.Table]]
    instants: list[datetime]
    refused: Mapping[str, str] = field(default_factory=dict)

    def blind(self, source: str, rows: pa.Table) -> str:
        """Why a leak by a source could not be seen, with these rows of it; "" where it could."""
        spec = self.domain.sources[source]
        if source in self.refused:
            return f"no made-up row of {source} passes its clean-up: {self.refused[source]}"
        if spec.static:
            return "" if rows.num_rows else f"the clean-up of {source} leaves no made-up row"
        if (column := known_column(spec, rows.schema)) is None:
            return (
                f"nothing says when a row of {source} is known: derive known_at in its clean-up, or list what comes "
                "late in known_late"
            )
        known = np.sort(rows[column].drop_null().cast(pa.int64()).to_numpy())
        before = np.searchsorted(known, [int(instant.timestamp() * 1e6) for instant in self.instants], side="right")
        if max(np.minimum(before, len(known) - before)) >= _FEW:
            return ""
        return (
            f"too few made-up rows of {source} are known just before and after an instant that is tried "
            f"({rows.num_rows} rows are left by its clean-up and its key)"
        )

    def reached(self, sources: Iterable[str], look_back_days: int | None) -> dict[str, pa.Table]:
        """Rows of sources as far as a look-back reaches; all there are, where it is None."""
        found = {}
        keys = None
        if look_back_days is not None:
            keys = {item.key for item in clean_partitions(self.domain, self.partition.key, look_back_days)} | {""}
        for source in sources:
            parts = [rows for key, rows in self.rows[source].items() if keys is None or key in keys]
            found[source] = pa.concat_tables(parts).combine_chunks()
        return found

    def run(self, made_by: Transformation, rows: Rows) -> pa.Table:
        """What the transformation makes of rows."""
        for source, table in rows.items():
            register_rows(self.connection, source, table)
        return made_by.run(self.connection, list(rows), self.partition)

    def differing(
        self, made_by: Transformation, one: pa.Table, other: pa.Table, until: datetime | None = None
    ) -> list[str]:
        """Features in which two computations differ."""
        return differing(self.connection, one, other, made_by.table, until=until)


def probes(connection: Any, domain: DomainSpec, clean: Cleaner) -> Iterator[tuple[Probe, list[str]]]:
    """Made-up rows, and the tables to try on them: one for each partition that is tightest for a look-back."""
    named: dict[str, list[str]] = {}
    tables = sorted(domain.feature_tables.items(), key=lambda item: -item[1].look_back_days)
    for name, table in tables:
        named.setdefault(_tightest(domain, table.look_back_days, list(named)), []).append(name)
    for key, names in named.items():
        days = max(domain.feature_tables[name].look_back_days for name in names)
        yield make_probe(connection, domain, domain.partition(key), days, clean), names


def make_probe(connection: Any, domain: DomainSpec, partition: Partition, look_back_days: int, clean: Cleaner) -> Probe:
    """Rows for a partition, and for a look-back from it and some way beyond."""
    oldest = partition
    while oldest.start > partition.start - timedelta(days=look_back_days + _BEFORE_DAYS):
        oldest = oldest.shift(-1)
    crowd = partition.start + (partition.end - partition.start) / 2
    rows, refused = {}, {}
    grouped = {column for table in domain.feature_tables.values() for column in table.entities}
    for number, (name, source) in enumerate(domain.sources.items()):
        raw = make_rows(
            source,
            oldest.until(partition),
            rows=_ROWS,
            crowd=crowd,
            seed=SEED + number,
            foreign=_keys(domain) - set(source.key),
            grouped=grouped,
        )
        try:
            rows[name] = _cleaned(connection, source, raw, name, clean)
        except MillraceError as error:
            refused[name] = error.what
            rows[name] = dict.fromkeys(raw, clean_schema(source).empty_table())
    instants = _instants(partition, crowd, _known(domain, rows))
    wide = domain.model_copy(update={"first": oldest.key, "last": None})
    return Probe(connection=connection, domain=wide, partition=partition, rows=rows, instants=instants, refused=refused)


def _keys(domain: DomainSpec) -> set[str]:
    """Names of one column that tell rows of a source apart."""
    return {source.key[0] for source in domain.sources.values() if len(source.key) == 1 and not source.static}


def _known(domain: DomainSpec, rows: Mapping[str, Mapping[str, pa.Table]]) -> Any:
    """All instants at which something becomes known, in microseconds."""
    found = [np.empty(0, np.int64)]
    for name, parts in rows.items():
        for table in parts.values():
            if (column := known_column(domain.sources[name], table.schema)) is not None:
                found.append(table[column].drop_null().cast(pa.int64()).to_numpy())
    return np.sort(np.concatenate(found))


def _instants(partition: Partition, crowd: datetime, known: Any) -> list[datetime]:
    """Ends of what is known: a day's, two full hours' and one between, each just before much becomes known."""
    day = crowd.astimezone(partition.local_start.tzinfo).replace(hour=0, minute=0, second=0, microsecond=0)
    room = min(20, int((partition.end - partition.start).total_seconds() // 7200) - 1)
    full = [day + timedelta(hours=hours) for hours in range(1, room + 1)]
    between = [hour + timedelta(minutes=17) for hour in full]

    def news(instant: datetime) -> int:
        first = int(instant.timestamp() * 1e6)
        low, high = np.searchsorted(known, [first + 1, first + _SOON], side="left")
        return int(high - low)

    chosen = [day, *sorted(full, key=news, reverse=True)[:2], max(between, key=news)]
    return [instant.astimezone(UTC) for instant in chosen]


def _cleaned(
    connection: Any, source: SourceSpec, raw: Mapping[str, pa.Table], name: str, clean: Cleaner
) -> dict[str, pa.Table]:
    """Clean rows by partition, one of each key, as a clean table has them."""
    together = pa.concat_tables(raw.values())
    rows = clean(source, together, f"made-up rows of {name}")
    connection.register("cleaned_rows", rows)
    by = ", ".join(quoted(column) for column in source.key or [ROW])
    one = f"QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY {scattered(quoted(ROW))}, {quoted(ROW)}) = 1"
    rows = arrow(connection.sql(f"SELECT * FROM cleaned_rows {one} ORDER BY {quoted(ROW)}")).cast(rows.schema)
    for column in required_columns(source) & set(rows.column_names):
        rows = rows.filter(rows[column].is_valid())
    ends = np.cumsum([table.num_rows for table in raw.values()])
    bounds = np.searchsorted(rows[ROW].to_numpy(), np.concatenate([[0], ends]))
    rows = rows.drop_columns([ROW])
    pairs = zip(raw, bounds[:-1], bounds[1:], strict=True)
    return {key: rows.slice(int(first), int(last - first)) for key, first, last in pairs}


def _tightest(domain: DomainSpec, look_back_days: int, used: list[str]) -> str:
    """Of a year's partitions the one whose look-back, in whole partitions, reaches least beyond the days declared.

    Args:
        used: keys that are taken rather than others that are as good.
    """
    wide = domain.model_copy(update={"first": domain.partition(domain.first).shift(-look_back_days - 2).key})
    candidates = [domain.partition(domain.first).shift(step) for step in range(1, 13)]

    def slack(item: Partition) -> tuple[timedelta, bool, str]:
        reached = clean_partitions(wide, item.key, look_back_days)
        return (item.start - timedelta(days=look_back_days)) - reached[0].start, item.key not in used, item.key

    return min(candidates, key=slack).key
