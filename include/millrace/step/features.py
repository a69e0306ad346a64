"""Steps of features: build the tables of a partition."""

from __future__ import annotations

from millrace.artifact import DatasetRef, digest_of
from millrace.errors import FeatureError
from millrace.features.check import find_faults
from millrace.features.compute import build_table
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec


def build_features(domain: DomainSpec, partition: str, *, settings: Settings) -> list[DatasetRef]:
    """Compute the domain's feature tables for a partition from clean rows; unchanged inputs compute nothing.

    Raises:
        FeatureError: clean rows are missing, or SQL does not return what the spec declares.
    """
    folder = settings.sql_folder
    return [build_table(domain, name, partition, lake=settings.lake, folder=folder) for name in domain.feature_tables]


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
