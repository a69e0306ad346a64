"""What a snapshot in the lake was made of, by the notes that its writers left: one stage back at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from millrace.artifact import DatasetRef, canonical
from millrace.features.compute import CLEAN_NOTE
from millrace.features.source import clean_partitions
from millrace.lake import Table
from millrace.lake.commits import Write
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.spec.address import public_address
from millrace.step.ingestion import PLACES


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePartition:
    """Clean rows of one partition with the raw rows and files they were made of.

    Attributes:
        source: name of the source.
        partition: key; "" of a static source.
        clean: the clean snapshot.
        raw: the raw snapshot it was made of; None where its writer did not note it.
        places: what the raw rows were read from: the URIs of files, else the origin of the source.
    """

    source: str
    partition: str
    clean: DatasetRef
    raw: DatasetRef | None = None
    places: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Snapshots:
    """The history of a domain's tables, each read once.

    Attributes:
        domain: whose tables.
        settings: the installation.
    """

    domain: DomainSpec
    settings: Settings
    _writes: dict[str, dict[str, list[Write]]] = field(default_factory=dict)

    def write(
        self, table: str, partition: str, version: int | None = None, *, at: datetime | None = None
    ) -> Write | None:
        """The newest write of a partition at a version of its table (the latest by default), or by an instant."""
        for item in self._history(table).get(partition, []):
            if (version is None or item.ref.version <= version) and (at is None or item.at <= at):
                return item
        return None

    def partitions(self, table: str) -> list[str]:
        """Keys that were ever written, sorted."""
        return sorted(self._history(table))

    def source_partition(self, source: str, partition: str, version: int | None = None) -> SourcePartition | None:
        """Clean rows of a partition, as they stood at a version of the clean table, back to their files."""
        clean = self.write(self.domain.clean_table(source), partition, version)
        if clean is None:
            return None
        noted = clean.notes.get("raw", "")
        raw = self.write(self.domain.raw_table(source), partition, int(noted)) if noted else None
        return SourcePartition(
            source=source,
            partition=partition,
            clean=clean.ref,
            raw=None if raw is None else raw.ref,
            places=[] if raw is None else self._places(source, partition, raw.notes),
        )

    def behind_features(self, table: str, version: int, through: str) -> Iterator[SourcePartition]:
        """The clean rows that a feature table was computed from, as its writes note them; none where they do not.

        Args:
            table: name of the feature table in the domain.
            version: version of its table in the lake.
            through: last partition that counts.
        """
        spec, name = self.domain.feature_tables[table], self.domain.feature_table(table)
        for key in self.partitions(name):
            write = self.write(name, key, version)
            if write is None or key > through:
                continue
            reached = [item.key for item in clean_partitions(self.domain, key, spec.look_back_days)] if key else []
            for source, clean in clean_versions(write.notes).items():
                keys = [""] if self.domain.sources[source].static else reached
                found = (self.source_partition(source, item, clean) for item in keys)
                yield from (item for item in found if item is not None)

    def _places(self, source: str, partition: str, notes: Mapping[str, str]) -> list[str]:
        if noted := [public_address(line) for line in notes.get(PLACES, "").splitlines() if line]:
            return noted
        return [self.domain.sources[source].origin.replace("{partition}", partition)]

    def _history(self, table: str) -> dict[str, list[Write]]:
        if table not in self._writes:
            found: dict[str, list[Write]] = {}
            for write in Table(self.settings.lake, table).writes():
                found.setdefault(write.ref.partition, []).append(write)
            self._writes[table] = found
        return self._writes[table]


def plain(value: Any) -> dict[str, Any]:
    """A value of dataclasses as JSON types."""
    told: dict[str, Any] = orjson.loads(canonical(dataclasses.asdict(value)))
    return told


def clean_versions(notes: Mapping[str, str]) -> dict[str, int]:
    """Source → version of its clean table, as noted on a write of features."""
    return {name.removeprefix(CLEAN_NOTE): int(value) for name, value in notes.items() if name.startswith(CLEAN_NOTE)}


def unique(found: Sequence[SourcePartition]) -> list[SourcePartition]:
    """Each snapshot once, by source and partition; several of one partition where it was written in between."""
    known = {(item.source, item.partition, item.clean.version): item for item in found}
    return [known[key] for key in sorted(known)]
