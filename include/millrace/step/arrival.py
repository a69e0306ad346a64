"""Which partitions' data should run because files arrived."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from millrace.ingestion import Connections
from millrace.ingestion.arrival import FoundFile, keys_of, list_files
from millrace.ingestion.connection import environment_connections
from millrace.partition import Partition
from millrace.settings import Settings
from millrace.spec import DomainSpec, FileSourceSpec
from millrace.step.ingestion import is_current
from millrace.step.source import source_of

log = logging.getLogger(__name__)
_TOLD = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalReport:
    """What files that arrived ask for.

    Attributes:
        partitions: keys whose data DAG should run, in order.
        known: keys for which the lake holds what the files bring.
        waiting: keys for which a file of another watched source is still missing.
        outside: keys before the domain's first partition or after its last.
    """

    partitions: list[str]
    known: list[str]
    waiting: list[str]
    outside: list[str]

    @property
    def line(self) -> str:
        """The outcome in one line."""
        told = [f"data asked for: {_short(self.partitions)}" if self.partitions else "nothing new"]
        told += [f"in the lake already: {_short(self.known)}"] if self.known else []
        told += [f"waiting for another source: {_short(self.waiting)}"] if self.waiting else []
        told += [f"outside of the domain: {_short(self.outside)}"] if self.outside else []
        return "; ".join(told)


def find_arrivals(
    domain: DomainSpec,
    arrived: Mapping[str, Sequence[str]],
    *,
    settings: Settings,
    connections: Connections = environment_connections,
    now: datetime,
) -> ArrivalReport:
    """The partitions that arrived files bring something new for.

    Args:
        domain: the domain.
        arrived: source → the keys that its files name; empty to look at all files of all watched sources.
        settings: the installation.
        connections: gives the connection of a name.
        now: decides which partitions are over.

    Raises:
        SourceUnavailableError: a storage does not answer.
    """
    watched = {name: spec for name, spec in domain.sources.items() if isinstance(spec, FileSourceSpec) and spec.watch}
    named = arrived or {name: _present(domain, spec, settings, connections) for name, spec in watched.items()}
    asked: dict[str, list[str]] = {}
    for source, keys in named.items():
        spec = source_of(domain, source)
        for key in keys if spec.moving else open_partitions(domain, source, now):
            asked.setdefault(key, []).append(source)
    found: dict[str, list[str]] = {"partitions": [], "known": [], "waiting": [], "outside": []}
    for key in sorted(asked):
        if key < domain.first or (domain.last is not None and key > domain.last):
            found["outside"].append(key)
        elif _misses_file(domain, watched, key, settings, connections):
            found["waiting"].append(key)
        elif all(is_current(domain, name, key, settings=settings, connections=connections) for name in asked[key]):
            found["known"].append(key)
        else:
            found["partitions"].append(key)
    return ArrivalReport(**found)


def open_partitions(domain: DomainSpec, source: str, now: datetime) -> list[str]:
    """The newest partition that is over, and those before it that are not closed yet for the source's rows."""
    closes = timedelta(hours=source_of(domain, source).late.closes_after_hours)
    over: list[Partition] = []
    step = domain.partition(domain.first)
    while step.end <= now and (domain.last is None or step.key <= domain.last):
        over.append(step)
        step = step.shift(1)
    return [item.key for item in over if item is over[-1] or item.end + closes > now]


def _present(domain: DomainSpec, spec: FileSourceSpec, settings: Settings, connections: Connections) -> list[str]:
    return keys_of(_list(spec, spec.uri, domain, settings, connections))


def _misses_file(
    domain: DomainSpec,
    watched: Mapping[str, FileSourceSpec],
    key: str,
    settings: Settings,
    connections: Connections,
) -> bool:
    """Whether a watched source that names its partitions, and must have rows, has no file for this one yet."""
    for spec in watched.values():
        if not spec.moving or spec.may_be_empty:
            continue
        if not _list(spec, spec.uri.replace("{partition}", key), domain, settings, connections):
            return True
    return False


def _list(
    spec: FileSourceSpec, uri: str, domain: DomainSpec, settings: Settings, connections: Connections
) -> dict[str, FoundFile]:
    connection = connections(spec.connection) if spec.connection else None
    return list_files(uri, grain=domain.grain, root=settings.root, connection=connection)


def _short(keys: Sequence[str]) -> str:
    rest = len(keys) - _TOLD
    return ", ".join(keys[:_TOLD]) + (f" and {rest} more" if rest > 0 else "")
