"""Feast's feature store as this installation has it, and applying definitions to its registry."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

from feast import FeatureService, FeatureStore, FeatureView, RepoConfig
from feast.errors import FeatureServiceNotFoundException
from feast.infra.registry.base_registry import BaseRegistry

from millrace.errors import FeatureError
from millrace.features.base import PROJECT
from millrace.features.feast_definition import define_domain, define_service
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec

log = logging.getLogger(__name__)


def open_store(settings: Settings, *, revision: str = "") -> FeatureStore:
    """The feature store of an installation, made once a process and revision of the registry.

    Args:
        settings: the installation.
        revision: digest of what is applied; another one reads the registry anew.
    """
    return _store(
        settings.registry_url, settings.lake, str(settings.online_store), str(settings.feature_repo), revision
    )


@functools.lru_cache(maxsize=2)
def _store(registry_url: str, lake: str, online_store: str, repo: str, revision: str) -> FeatureStore:
    return FeatureStore(config=_config(registry_url, lake, online_store, repo, schema_mode="skip"))


def _config(registry_url: str, lake: str, online_store: str, repo: str, *, schema_mode: str) -> RepoConfig:
    config = RepoConfig(
        project=PROJECT,
        provider="local",
        registry={
            "registry_type": "sql",
            "path": registry_url,
            "cache_ttl_seconds": 600,
            "schema_mode": schema_mode,
        },
        offline_store={"type": "millrace.features.feast_offline_store.LakeOfflineStore", "lake": lake},
        online_store={"type": "millrace.features.feast_online_store.PackedOnlineStore", "path": online_store},
        batch_engine={"type": "millrace.features.feast_engine.ColumnarEngine"},
        entity_key_serialization_version=3,
    )
    config.repo_path = Path(repo)
    return config


def apply_definitions(
    domain: DomainSpec, use_cases: list[UseCaseSpec], *, settings: Settings, folder: Path
) -> FeatureStore:
    """Register a domain's entities and views and the services of use cases; call under `apply_lock`.

    Services of other use cases and older versions stay: a release may still stand on them. A view that the domain no
    longer declares is removed unless a service uses it.

    Raises:
        FeatureError: a view's name belongs to another domain, or a service of that name is defined otherwise.
    """
    objects = define_domain(domain, folder)
    services = [define_service(use_case, domain, objects) for use_case in use_cases]
    store = FeatureStore(
        config=_config(
            settings.registry_url,
            settings.lake,
            str(settings.online_store),
            str(settings.feature_repo),
            schema_mode="auto",
        )
    )
    views = [item for item in objects.values() if isinstance(item, FeatureView)]
    _refuse_foreign_views(store.registry, domain, views)
    for service in services:
        _refuse_changed_service(store.registry, service)
    store.apply([*objects.values(), *services])
    for name in _orphans(store.registry, domain):
        store.delete_feature_view(name)
    log.info("applied %d views of %s and %d services", len(views), domain.name, len(services))
    return store


def _refuse_foreign_views(registry: BaseRegistry, domain: DomainSpec, views: list[FeatureView]) -> None:
    owners = {view.name: view.tags.get("domain", "") for view in registry.list_feature_views(PROJECT)}
    for view in views:
        if owners.get(view.name, domain.name) != domain.name:
            raise FeatureError(
                f"feature view {view.name!r} belongs to domain {owners[view.name]!r}",
                where=f"domains/{domain.name}.yaml: feature_tables.{view.name}",
                remedy="give the feature table another name: views are shared by all domains of an installation",
            )


def _refuse_changed_service(registry: BaseRegistry, service: FeatureService) -> None:
    try:
        known = registry.get_feature_service(service.name, PROJECT)
    except FeatureServiceNotFoundException:
        return
    if _shape(known) != _shape(service):
        raise FeatureError(
            f"feature service {service.name!r} is registered with other features",
            where=f"use case {service.tags.get('use_case')}: features.name",
            remedy="give the changed service a new name (flight_delay_v2): releases stand on the old one",
        )


def _shape(service: FeatureService) -> list[Any]:
    return sorted(
        [projection.name, [(field.name, str(field.dtype)) for field in projection.features]]
        for projection in service.feature_view_projections
    )


def _orphans(registry: BaseRegistry, domain: DomainSpec) -> list[str]:
    used = {
        projection.name
        for service in registry.list_feature_services(PROJECT)
        for projection in service.feature_view_projections
    }
    return [
        view.name
        for view in registry.list_feature_views(PROJECT)
        if view.tags.get("domain") == domain.name and view.name not in domain.feature_tables and view.name not in used
    ]
