"""Steps of features: what Feast's registry is told of a domain and its use cases."""

from __future__ import annotations

from typing import Any

from millrace.artifact import digest_of
from millrace.features.applied import applied_digests, apply_lock, record_digests
from millrace.features.compute import read_sql
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec


def apply_features(domain: DomainSpec, use_cases: list[UseCaseSpec], *, settings: Settings) -> str:
    """Register a domain's views and its use cases' services with Feast, where anything about them changed.

    Returns:
        digest of the definitions.

    Raises:
        FeatureError: SQL that does not compile, an unknown view or feature, or a service changed under its name.
    """
    digests = _definition_digests(domain, use_cases, settings)
    if not _all_applied(digests, settings):
        with apply_lock(settings.registry_url):
            if not _all_applied(digests, settings):
                from millrace.features.feast_registry import apply_definitions

                apply_definitions(domain, use_cases, settings=settings, folder=settings.sql_folder)
                record_digests(settings.registry_url, digests)
    return digest_of(digests)


def _definition_digests(domain: DomainSpec, use_cases: list[UseCaseSpec], settings: Settings) -> dict[str, str]:
    folder = settings.sql_folder
    views: dict[str, Any] = {
        name: [table.model_dump(mode="json"), read_sql(table, folder)] for name, table in domain.feature_tables.items()
    }
    found = {f"domain:{domain.name}": digest_of([views, domain.owners])}
    for use_case in use_cases:
        described = [use_case.features.views, use_case.owners, use_case.description, use_case.tier, use_case.name]
        # A service holds a copy of its views' fields, so it follows the domain.
        found[f"service:{use_case.features.name}"] = digest_of([described, found[f"domain:{domain.name}"]])
    return found


def _all_applied(digests: dict[str, str], settings: Settings) -> bool:
    applied = applied_digests(settings.registry_url)
    return all(applied.get(subject) == digest for subject, digest in digests.items())
