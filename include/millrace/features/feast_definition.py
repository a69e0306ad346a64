"""Feast's objects, made of a domain's spec and the use cases on it: what `feature_repo/` and `apply` register."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, OnDemandFeatureView, ValueType
from feast.types import Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

from millrace.errors import FeatureError, SpecError
from millrace.features.compute import entity_kinds
from millrace.features.feast_on_demand import define_on_demand
from millrace.features.feast_source import LakeSource
from millrace.package import FeatureSpec, read_sources
from millrace.package.definition import describe_view
from millrace.settings import settings
from millrace.spec import DomainSpec, UseCaseSpec, list_specs, load_domain, load_use_case

_TYPES = {
    "int16": Int32,
    "int32": Int32,
    "int64": Int64,
    "float32": Float32,
    "float64": Float64,
    "string": String,
    "bool": Bool,
    "timestamp": UnixTimestamp,
}
_KEY_TYPES = {"string": (ValueType.STRING, String), "int64": (ValueType.INT64, Int64)}


def define_domain(domain: DomainSpec, folder: Path) -> dict[str, Any]:
    """Entities, feature views and on-demand views of a domain by a name unique among them.

    Args:
        domain: the spec.
        folder: folder of the domains' YAML.

    Raises:
        FeatureError: a transformation or function that does not run, or one join key with two types.
    """
    kinds = entity_kinds(domain, folder)
    entities: dict[str, Entity] = {}
    seen: dict[str, str] = {}
    for view, keys in kinds.items():
        for key, kind in keys.items():
            if seen.setdefault(key, kind) != kind:
                raise FeatureError(
                    f"join key {key!r} is {seen[key]} in one feature table and {kind} in {view!r}",
                    where=f"domains/{domain.name}.yaml",
                    remedy="cast it to one type in the SQL",
                )
            entities[key] = Entity(
                name=key,
                join_keys=[key],
                value_type=_KEY_TYPES[kind][0],
                description=f"Join key {key}",
                tags={"domain": domain.name},
                owner=", ".join(domain.owners),
            )
    views = {name: _view(domain, name, kinds[name], entities) for name in sorted(domain.feature_tables)}
    on_demand = {name: _on_demand(domain, name, folder, views) for name in sorted(domain.on_demand)}
    return {**{f"entity_{name}": entity for name, entity in sorted(entities.items())}, **views, **on_demand}


def define_service(use_case: UseCaseSpec, domain: DomainSpec, views: dict[str, Any]) -> FeatureService:
    """The feature service of a use case.

    Raises:
        FeatureError: it names a view or feature that the domain has not.
    """
    try:
        FeatureSpec.of(use_case, domain)
    except SpecError as error:
        raise FeatureError(error.what, where=error.where, remedy=error.remedy) from error
    taken = {**use_case.features.views, **use_case.features.on_demand}
    chosen = [views[name][features] for name, features in taken.items()]
    return FeatureService(
        name=use_case.features.name,
        features=chosen,
        description=use_case.description,
        owner=", ".join(use_case.owners),
        tags={"domain": domain.name, "use_case": use_case.name, "tier": use_case.tier},
    )


def load_definitions(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Everything Feast is to know of a domain and the use cases on it, by variable name, for `feature_repo/`.

    Args:
        name: the domain.
        folder: folder of the DAG files; by default that of this installation.
    """
    folder = folder or settings().dags
    domain = load_domain(folder, name)
    objects = define_domain(domain, folder / "domains")
    for use_case in _use_cases(folder):
        if use_case.domain == name:
            objects[use_case.features.name] = define_service(use_case, domain, objects)
    return objects


def _use_cases(folder: Path) -> Iterable[UseCaseSpec]:
    return (load_use_case(folder, name) for name in list_specs(folder, "use_cases"))


def _view(domain: DomainSpec, name: str, keys: dict[str, str], entities: dict[str, Entity]) -> FeatureView:
    table = domain.feature_tables[name]
    owner = ", ".join(table.owners or domain.owners)
    tags = {**table.tags, "domain": domain.name, "table": domain.feature_table(name)}
    return FeatureView(
        name=name,
        entities=[entities[key] for key in table.entities],
        schema=[
            *(Field(name=key, dtype=_KEY_TYPES[keys[key]][1]) for key in table.entities),
            *(Field(name=feature, dtype=_TYPES[kind], tags={"kind": kind}) for feature, kind in table.features.items()),
        ],
        source=LakeSource(
            table=domain.feature_table(name), description=table.description, tags={"domain": domain.name}, owner=owner
        ),
        ttl=timedelta(hours=table.ttl_hours),
        online=True,
        description=table.description,
        tags=tags,
        owner=owner,
    )


def _on_demand(domain: DomainSpec, name: str, folder: Path, views: dict[str, Any]) -> OnDemandFeatureView:
    spec, view = domain.on_demand[name], describe_view(name, domain)
    return define_on_demand(
        view,
        spec,
        read_sources([view], folder)[name],
        views,
        owner=", ".join(spec.owners or domain.owners),
        tags={**spec.tags, "domain": domain.name, "function": spec.function},
    )
