"""Steps of features: build the tables of one partition, or of many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.artifact import DatasetRef, digest_of
from millrace.errors import FeatureError, SpecError
from millrace.features.check import find_faults
from millrace.features.compute import build_table, find_table
from millrace.ingestion import Connections
from millrace.ingestion.connection import environment_connections
from millrace.lake import Table
from millrace.lake.staging import staging
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.engine import engine_of, for_workers
from millrace.step.feature_registry import require_allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePiece:
    """One partition of one feature table: a piece of work.

    Attributes:
        domain: its domain.
        table: name of the feature table.
        partition: key.
        settings: the installation.
    """

    domain: DomainSpec
    table: str
    partition: str
    settings: Settings

    def find(self) -> DatasetRef | None:
        """What is there already of the same inputs."""
        folder = self.settings.sql_folder
        return find_table(self.domain, self.table, self.partition, lake=self.settings.lake, folder=folder)

    def build(self) -> DatasetRef:
        """Compute it and put it into the lake."""
        lake, folder = self.settings.lake, self.settings.sql_folder
        with staging(self.settings) as scratch:
            return build_table(self.domain, self.table, self.partition, lake=lake, folder=folder, scratch=scratch)


def build_features(
    domain: DomainSpec,
    partition: str,
    *,
    settings: Settings,
    connections: Connections = environment_connections,
) -> list[DatasetRef]:
    """Compute the domain's feature tables for a partition from clean rows; unchanged inputs compute nothing.

    Args:
        domain: the domain.
        partition: key.
        settings: the installation.
        connections: gives the connection of a name, where the domain's engine runs elsewhere.

    Raises:
        FeatureError: clean rows are missing, or a transformation does not return what the spec declares.
        EngineError: the domain's engine cannot be reached.
    """
    return backfill_features(domain, [partition], settings=settings, connections=connections)


def backfill_features(
    domain: DomainSpec,
    partitions: Sequence[str],
    *,
    settings: Settings,
    connections: Connections = environment_connections,
) -> list[DatasetRef]:
    """The same over many partitions, each with the rows it would have had alone, worked on as the domain's engine does.

    A partition needs nothing but clean rows, so that neither order nor company changes a row of it. What was built
    before a failure stands, and is found unchanged the next time.

    Args:
        domain: the domain.
        partitions: their keys.
        settings: the installation.
        connections: gives the connection of a name, where the domain's engine runs elsewhere.

    Returns:
        Partition after partition the references of the domain's tables; those of static tables once, with the last.

    Raises:
        SpecError: a key is none of the domain's.
        FeatureError: clean rows are missing, a transformation does not return what the spec declares, or it changed
            in a way that a release forbids.
        EngineError: the domain's engine cannot be reached.
    """
    require_allowed(domain, settings=settings)
    pieces = _pieces(domain, partitions, for_workers(settings))
    found = [piece.find() for piece in pieces]
    missing = [piece for piece, ref in zip(pieces, found, strict=True) if ref is None]
    with engine_of(domain, connections=connections) as engine:
        built = list(engine.map(FeaturePiece.build, missing))
    return [built.pop(0) if ref is None else ref for ref in found]


def feature_snapshot(domain: DomainSpec, settings: Settings, *, through: str | None = None) -> str:
    """Digest over the content of all feature tables: equal digests mean equal features.

    Args:
        domain: the domain.
        settings: the installation.
        through: last partition that counts; None for all there are.
    """
    found = {}
    for name in sorted(domain.feature_tables):
        newest = Table(settings.lake, domain.feature_table(name)).newest()
        found[name] = {
            key: ref.digest for key, ref in sorted(newest.items()) if through is None or not key or key <= through
        }
    return digest_of(found)


def check_features(
    domain: DomainSpec, use_case: UseCaseSpec | None = None, *, settings: Settings
) -> list[FeatureError]:
    """What is wrong with a domain's feature SQL and a use case's service; empty where all is well."""
    return find_faults(domain, use_case, settings.sql_folder)


def _pieces(domain: DomainSpec, partitions: Sequence[str], settings: Settings) -> list[FeaturePiece]:
    keys = sorted({domain.partition(key).key for key in partitions})
    if outside := [key for key in keys if key < domain.first or (domain.last is not None and key > domain.last)]:
        raise SpecError(
            f"partition {outside[0]} is none of the domain's",
            where=f"domains/{domain.name}.yaml",
            remedy=f"it has those from {domain.first} to {domain.last or 'now'}",
        )
    return [
        FeaturePiece(domain=domain, table=name, partition=key, settings=settings)
        for key in keys
        for name, table in domain.feature_tables.items()
        if not table.static or key == keys[-1]
    ]
