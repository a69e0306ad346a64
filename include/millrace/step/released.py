"""A use case as a release of it sees it: with the features of the release's own sealed package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import FeatureError, SpecError
from millrace.governance.release import Release
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.retrieval import entity_rows, historical_features

_INSTANT = pa.timestamp("us", tz="UTC")


def released_spec(use_case: UseCaseSpec, release: Release, *, settings: Settings) -> UseCaseSpec:
    """The spec with the feature service that a release was made on, whatever the YAML names by now.

    Entity rows, label and owners stay those of the spec; key and instant of the rows are the package's.

    Raises:
        PackageError: the package of the release is not whole.
    """
    return spec_of(use_case, Package.open(settings.packages / release.package, release.package))


def spec_of(use_case: UseCaseSpec, package: Package) -> UseCaseSpec:
    """The spec with the feature service of an open package, and with the classes that it tells apart."""
    features = package.features
    entity = use_case.entity.model_copy(update={"key": features.key, "timestamp": features.timestamp})
    told = {"problem": package.manifest.problem, "classes": list(package.manifest.classes)}
    return use_case.model_copy(update={"features": features.service_spec(), "entity": entity, **told})


def _unlabelled(use_case: UseCaseSpec) -> UseCaseSpec:
    """The spec without its label: what cannot be a label keeps no row from being scored."""
    label = use_case.label.model_copy(update={"expression": "NULL", "weight": ""})
    return use_case.model_copy(update={"label": label})


def require_same_question(use_case: UseCaseSpec, package: Package) -> None:
    """Refuse a package that answers another question than the use case asks by now.

    Raises:
        SpecError: its problem or its classes are others.
    """
    asked, answered = (
        _question(use_case.problem, use_case.classes),
        _question(package.manifest.problem, package.manifest.classes),
    )
    if asked != answered:
        raise SpecError(
            f"package {package.digest[:12]} answers with {answered}, the use case asks for {asked}",
            where=f"use_cases/{use_case.name}.yaml: problem, classes",
            remedy="keep problem and classes of a use case that has releases; another question is another use case",
        )


def _question(problem: str, classes: Sequence[str]) -> str:
    return f"{problem} ({', '.join(classes)})" if classes else problem


def rows_of_package(
    own: UseCaseSpec,
    domain: DomainSpec,
    partition: str,
    package: Package,
    *,
    settings: Settings,
    keys: Any | None = None,
) -> pa.Table:
    """Entity rows of a partition with every feature that a package reads, as known then, in a total order.

    Args:
        own: what `spec_of` gave for the package.
        domain: its domain.
        partition: key.
        package: its sealed functions compute what is on demand.
        settings: this installation.
        keys: only rows with these keys.

    Returns:
        `key`, `event_timestamp` and the model's columns: numbers float64, categories text.

    Raises:
        FeatureError: no clean rows, or a feature is missing.
    """
    entities = entity_rows(_unlabelled(own), domain, partition, settings=settings)
    entities = entities.drop_columns([name for name in ("label", "label_known_at") if name in entities.column_names])
    if keys is not None:
        entities = entities.filter(pc.is_in(entities.column("key"), value_set=pa.chunked_array(keys).combine_chunks()))
    joined = historical_features(own, domain, entities, settings=settings, functions=package.functions)
    categories = set(own.features.categories)
    types = {"key": pa.string(), "event_timestamp": _INSTANT}
    types |= {name: pa.string() if name in categories else pa.float64() for name in own.features.columns}
    if absent := [name for name in types if name not in joined.column_names]:
        raise FeatureError(
            f"features are missing: {', '.join(absent)}",
            where=f"use_cases/{own.name}.yaml: features",
            remedy="build features of the partition again, or correct the feature service",
        )
    rows = pa.table({name: pc.cast(joined.column(name), kind) for name, kind in types.items()})
    return rows.sort_by([("event_timestamp", "ascending"), ("key", "ascending")])
