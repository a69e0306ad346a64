"""Suggest a contract from the partitions of a source that are in the lake."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from millrace.errors import LakeError
from millrace.lake import Table, duck
from millrace.lake.duck import quoted, text
from millrace.lake.staging import staging
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.source import source_of
from millrace.validation.past import Past, look_back
from millrace.validation.profile import personal_columns
from millrace.validation.suggestion import Suggestion, suggest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What is in the lake: keys of the partitions, "" for a static source."""

    table: Table
    stage: Literal["raw", "clean"]
    keys: Sequence[str]


def suggest_contract(
    domain: DomainSpec, source: str, *, settings: Settings, first: str | None = None, last: str | None = None
) -> Suggestion:
    """Profile past partitions, clean ones where some are published, else raw ones, and write down what they speak for.

    Args:
        domain: the domain.
        source: one of its sources.
        settings: the installation.
        first: key of the first partition to look at; by default all there are.
        last: key of the last.

    Raises:
        SpecError: there is no such source, or a key is none of the domain's grain.
        LakeError: there is no row to look at.
    """
    spec = source_of(domain, source)
    for key in (first, last):
        _ = key is None or domain.partition(key)
    found = _find(domain, source, settings, first or "", last or "\uffff")
    dataset = f"{domain.name}.{source}"
    if found is None:
        raise _nothing(dataset, first, last)
    with staging(settings) as folder:
        connection = duck.connect(memory_limit=spec.memory_limit, spill=folder / "spill")
        try:
            past = _look_back(connection, found, domain, source, folder)
            if not past.rows:
                raise _nothing(dataset, first, last)
            span = f"partitions {found.keys[0]} to {found.keys[-1]} ({len(found.keys)})"
            where = span if found.keys[0] else "the whole table"
            title = f"suggested from {past.rows:,} {found.stage} rows of {dataset}, {where}"
            log.info("%s", title)
            return suggest(past, dataset=dataset, title=title, key=spec.key)
        finally:
            connection.close()


def _find(domain: DomainSpec, source: str, settings: Settings, first: str, last: str) -> _Found | None:
    stages: dict[Literal["raw", "clean"], str] = {
        "clean": domain.clean_table(source),
        "raw": domain.raw_table(source),
    }
    for stage, name in stages.items():
        table = Table(settings.lake, name)
        if domain.sources[source].static:
            there = [""] if table.exists() and table.files() else []
        else:
            there = table.partitions()
        keys = [key for key in there if not key or first <= key <= last]
        if keys:
            return _Found(table=table, stage=stage, keys=keys)
    return None


def _look_back(connection: Any, found: _Found, domain: DomainSpec, source: str, folder: Path) -> Past:
    spec = domain.sources[source]
    tables: dict[str, str] = {}
    present: set[str] = set()
    for index, key in enumerate(found.keys):
        view = f"part{index}"
        files = found.table.fetch(folder / view, partitions=[key] if key else None)
        listed = ", ".join(text(str(file)) for file in files)
        connection.execute(
            f"CREATE VIEW {quoted(view)} AS SELECT * "
            f"FROM read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
        )
        tables[key] = view
        present |= set(connection.table(view).columns)
    columns = spec.clean_columns if found.stage == "clean" else list(spec.raw_columns)
    return look_back(
        connection,
        tables,
        [name for name in columns if name in present],
        partitions={key: domain.partition(key) if key else None for key in found.keys},
        stage=found.stage,
        personal=personal_columns(spec),
        given=frozenset(spec.partition_columns),
    )


def _nothing(dataset: str, first: str | None, last: str | None) -> LakeError:
    span = f" from {first or 'the first'} to {last or 'the last'}" if first or last else ""
    return LakeError(
        f"no row of {dataset}{span} is in the lake",
        where=f"clean and raw table of {dataset}",
        remedy="ingest some partitions first, or ask for those there are",
    )
