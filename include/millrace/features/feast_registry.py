"""Feast's feature store as this installation has it, and applying definitions to its registry."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureStore, OnDemandFeatureView, RepoConfig
from feast.errors import DataSourceNotFoundException, FeastObjectNotFoundException
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.registry.base_registry import BaseRegistry
from google.protobuf.json_format import MessageToDict

from millrace.errors import FeatureError
from millrace.features.base import PROJECT
from millrace.features.definition import SERVICE, TABLE, split_subject
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
    return _store(*_places(settings), revision)


@functools.lru_cache(maxsize=2)
def _store(registry_url: str, lake: str, online_store: str, repo: str, revision: str) -> FeatureStore:
    return FeatureStore(config=_config(registry_url, lake, online_store, repo, schema_mode="skip"))


def _config_of(settings: Settings, *, schema_mode: str) -> RepoConfig:
    return _config(*_places(settings), schema_mode=schema_mode)


def _places(settings: Settings) -> tuple[str, str, str, str]:
    return settings.registry_url, settings.lake, str(settings.online_store), str(settings.feature_repo)


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
        online_store={"type": "millrace.features.feast_online_store.PackedOnlineStore", "url": online_store},
        batch_engine={"type": "millrace.features.feast_engine.ColumnarEngine"},
        entity_key_serialization_version=3,
        coerce_tz_aware=False,  # naive timestamps are refused by the offline store, not read as UTC
    )
    config.repo_path = Path(repo)
    return config


def apply_definitions(
    domain: DomainSpec,
    use_cases: Iterable[UseCaseSpec],
    *,
    settings: Settings,
    folder: Path,
    drop: Collection[str] = (),
) -> int:
    """Register a domain's entities and views and the services of use cases, and read them back.

    Call it under `apply_lock`. Services of other use cases and older versions stay: a release may still stand on them.

    Args:
        domain: the domain.
        use_cases: use cases on it.
        settings: the installation.
        folder: folder of the domains' YAML.
        drop: subjects of definitions that go (`table:planes`).

    Returns:
        How many objects were proven to be in the registry as they are declared.

    Raises:
        FeatureError: a definition is wrong, or the registry does not hold what was applied.
    """
    objects = _objects(domain, use_cases, folder)
    store = FeatureStore(config=_config_of(settings, schema_mode="auto"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Feast's word on how its own stores join on-demand views
        store.apply(objects)
    for subject in drop:
        _remove(store, domain, *split_subject(subject))
    if wrong := differing(objects, settings=settings):
        raise FeatureError(
            f"the registry does not hold what was applied: {', '.join(wrong)}",
            where="the feature registry",
            remedy="run `millrace features apply` again, and see that nobody else writes to the registry",
        )
    log.info("applied %d objects of %s, removed %d, and read them back", len(objects), domain.name, len(drop))
    return len(objects)


def find_drift(domain: DomainSpec, use_cases: Iterable[UseCaseSpec], *, settings: Settings, folder: Path) -> list[str]:
    """Names of declared objects that the registry holds otherwise or not at all: somebody else wrote to it."""
    return differing(_objects(domain, use_cases, folder), settings=settings)


def differing(objects: Iterable[Any], *, settings: Settings) -> list[str]:
    """Names of objects whose definition in the registry, read anew, is another one."""
    registry = FeatureStore(config=_config_of(settings, schema_mode="auto")).registry
    return [item.name for item in objects if not _holds(registry, item)]


def _holds(registry: BaseRegistry, item: Any) -> bool:
    read: Callable[..., Any] = registry.get_feature_view
    if isinstance(item, Entity):
        read = registry.get_entity
    elif isinstance(item, FeatureService):
        read = registry.get_feature_service
    elif isinstance(item, OnDemandFeatureView):
        read = registry.get_on_demand_feature_view
    try:
        found = read(item.name, PROJECT)
    except FeastObjectNotFoundException:
        return False
    return bool(_content(found.to_proto().spec) == _content(item.to_proto().spec))


def _content(spec: Any) -> Any:
    """A definition without what Feast adds as it writes: times, a function's pickled twin, a stand-in for no key."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {name: plain(item) for name, item in value.items() if name not in {"meta", "body"}}
            return {name: item for name, item in kept.items() if item != []}
        if isinstance(value, list):
            return [
                plain(item) for item in value if not (isinstance(item, dict) and item.get("name") == DUMMY_ENTITY_ID)
            ]
        return value

    return plain(MessageToDict(spec, preserving_proto_field_name=True))


def _objects(domain: DomainSpec, use_cases: Iterable[UseCaseSpec], folder: Path) -> list[Any]:
    views = define_domain(domain, folder)
    return [*views.values(), *(define_service(use_case, domain, views) for use_case in use_cases)]


def _remove(store: FeatureStore, domain: DomainSpec, kind: str, name: str) -> None:
    with contextlib.suppress(FeastObjectNotFoundException):
        if kind == SERVICE:
            store.delete_feature_service(name)
        else:
            store.delete_feature_view(name)
    if kind == TABLE:
        with contextlib.suppress(FeastObjectNotFoundException, DataSourceNotFoundException):
            store.registry.delete_data_source(domain.feature_table(name), PROJECT)
