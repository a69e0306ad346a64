"""Steps of features: looking them up for entity rows, as they were known then and as they are online."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from millrace.errors import FeatureError
from millrace.features.base import ARROW_TYPES, EVENT_TIMESTAMP
from millrace.features.compute import feature_table
from millrace.features.row import entity_table
from millrace.package import FeatureSpec, OnDemandFunctions, read_sources
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.feature_registry import apply_features

if TYPE_CHECKING:
    from feast import FeatureStore


def entity_rows(use_case: UseCaseSpec, domain: DomainSpec, partition: str, settings: Settings) -> pa.Table:
    """Clean rows of a partition as the use case sees them, ordered by time and key.

    Returns:
        key (string), event_timestamp, the join keys of the views, what a request holds (numbers float64, categories
        string), label (float64, null where there is none; for multiclass the place in `classes`), label_known_at, and
        label_weight (float64) where the use case weighs its rows.

    Raises:
        FeatureError: no clean rows of the partition, a column the spec names is missing, or a label is none of the
            classes.
    """
    return entity_table(use_case, domain, partition, lake=settings.lake)


def historical_features(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    entities: pa.Table,
    *,
    settings: Settings,
    functions: OnDemandFunctions | None = None,
) -> pa.Table:
    """Add all features to entity rows, as known at each row's event_timestamp; rows and order are kept.

    Args:
        use_case: whose features.
        domain: its domain.
        entities: event_timestamp, the join keys, and what a request would hold.
        settings: this installation.
        functions: those of on-demand features; by default those beside the domain's YAML, a release has its own.

    Raises:
        FeatureError: a column is missing, timestamps have no zone, a feature table is not there, or a function fails.
        SpecError: the use case names features that the domain has not.
    """
    features = FeatureSpec.of(use_case, domain)
    _require_columns(features, use_case, entities, [EVENT_TIMESTAMP])
    kind = entities.schema.field(EVENT_TIMESTAMP).type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise FeatureError(
            f"{EVENT_TIMESTAMP!r} is {kind}, not an instant",
            where="entity rows",
            remedy="give timestamps with their time zone (UTC)",
        )
    functions = functions or load_functions(features, settings=settings)
    found = entities
    if features.lookups:
        store = _store(use_case, domain, settings)
        found = store.get_historical_features(entity_df=entities, features=_references(features)).to_arrow()
    return functions.add_table(found)


def online_features(use_case: UseCaseSpec, domain: DomainSpec, keys: pa.Table, *, settings: Settings) -> pa.Table:
    """All features of entities as the online store has them, through Feast's SDK; rows and order are kept.

    Args:
        use_case: whose features.
        domain: its domain.
        keys: at least the join keys of the views, and what functions read of a request.
        settings: this installation.

    Raises:
        FeatureError: a column is missing, or a function fails.
        SpecError: the use case names features that the domain has not.
    """
    features = FeatureSpec.of(use_case, domain)
    _require_columns(features, use_case, keys, [])
    functions = load_functions(features, settings=settings)
    result = keys
    if features.lookups:
        store = _store(use_case, domain, settings)
        joined = {name: _without_nulls(keys.column(name)) for name in features.entities}
        found = store.get_online_features(features=_references(features), entity_rows=joined).to_dict()
        for view in features.lookups:
            table = feature_table(domain, view.view)
            unknown = [any(key is None for key in row) for row in _rows(keys, view.entities)]
            for name in view.features:
                values = [None if null else value for value, null in zip(found[name], unknown, strict=True)]
                result = result.append_column(name, pa.array(values, ARROW_TYPES[table.features[name]]))
    return functions.add_table(result)


def load_functions(features: FeatureSpec, *, settings: Settings) -> OnDemandFunctions:
    """The functions of on-demand features as they stand beside the domain's YAML.

    Raises:
        FeatureError: a file cannot be read, or does not load.
    """
    return OnDemandFunctions(features, read_sources(features.on_demand, settings.sql_folder))


def join_keys(use_case: UseCaseSpec, domain: DomainSpec) -> list[str]:
    """Join keys of all that is looked up for a use case, each once, in the order of the views."""
    return FeatureSpec.of(use_case, domain).entities


def _references(features: FeatureSpec) -> list[str]:
    return [f"{view.view}:{name}" for view in features.lookups for name in view.features]


def _store(use_case: UseCaseSpec, domain: DomainSpec, settings: Settings) -> FeatureStore:
    revision = apply_features(domain, [use_case], settings=settings)
    from millrace.features.feast_registry import open_store

    return open_store(settings, revision=revision)


def _require_columns(features: FeatureSpec, use_case: UseCaseSpec, rows: pa.Table, more: list[str]) -> None:
    read = (column.name for view in features.on_demand for column in view.request)
    needed = dict.fromkeys([*features.entities, *more, *read])
    if absent := [name for name in needed if name not in rows.column_names]:
        raise FeatureError(
            f"columns {', '.join(map(repr, absent))} are missing in the entity rows",
            where=f"use case {use_case.name}",
            remedy=f"add them; there are {', '.join(rows.column_names)}",
        )


def _without_nulls(column: Any) -> list[Any]:
    """Values of a join key; Feast's SDK cannot take a null key, so it gets a stand-in whose answer is not used."""
    stand_in = "" if pa.types.is_string(column.type) else 0
    return [stand_in if value is None else value for value in column.to_pylist()]


def _rows(table: pa.Table, names: list[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
