"""Steps of features: looking them up for entity rows, as they were known then and as they are online."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from millrace.errors import FeatureError
from millrace.features.base import ARROW_TYPES, EVENT_TIMESTAMP
from millrace.features.compute import feature_table
from millrace.features.row import entity_table
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.feature_registry import apply_features

if TYPE_CHECKING:
    from feast import FeatureStore


def entity_rows(use_case: UseCaseSpec, domain: DomainSpec, partition: str, settings: Settings) -> pa.Table:
    """Clean rows of a partition as the use case sees them, ordered by time and key.

    Returns:
        key (string), event_timestamp, the join keys of the views, the row's features (numbers float64, categories
        string), label (float64, null where there is none) and label_known_at.

    Raises:
        FeatureError: no clean rows of the partition, or a column the spec names is missing.
    """
    return entity_table(use_case, domain, partition, lake=settings.lake)


def historical_features(
    use_case: UseCaseSpec, domain: DomainSpec, entities: pa.Table, *, settings: Settings
) -> pa.Table:
    """Add the views' features to entity rows, as known at each row's event_timestamp; rows and order are kept.

    Raises:
        FeatureError: a join key or the timestamp is missing, timestamps have no zone, or a feature table is not there.
    """
    _require_columns(use_case, domain, entities, [EVENT_TIMESTAMP])
    kind = entities.schema.field(EVENT_TIMESTAMP).type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise FeatureError(
            f"{EVENT_TIMESTAMP!r} is {kind}, not an instant",
            where="entity rows",
            remedy="give timestamps with their time zone (UTC)",
        )
    if not use_case.features.views:
        return entities
    store = _store(use_case, domain, settings)
    service = store.get_feature_service(use_case.features.name)
    return store.get_historical_features(entity_df=entities, features=service).to_arrow()


def online_features(use_case: UseCaseSpec, domain: DomainSpec, keys: pa.Table, *, settings: Settings) -> pa.Table:
    """The views' features of entities as the online store has them, through Feast's SDK; rows and order are kept.

    Args:
        keys: at least the join keys of the views.
    """
    _require_columns(use_case, domain, keys, [])
    store = _store(use_case, domain, settings)
    service = store.get_feature_service(use_case.features.name)
    joined = {name: _without_nulls(keys.column(name)) for name in join_keys(use_case, domain)}
    found = store.get_online_features(features=service, entity_rows=joined).to_dict()
    result = keys
    for view, features in use_case.features.views.items():
        table = feature_table(domain, view)
        unknown = [any(key is None for key in row) for row in _rows(keys, table.entities)]
        for name in features:
            values = [None if null else value for value, null in zip(found[name], unknown, strict=True)]
            result = result.append_column(name, pa.array(values, ARROW_TYPES[table.features[name]]))
    return result


def join_keys(use_case: UseCaseSpec, domain: DomainSpec) -> list[str]:
    """Join keys of the views a use case reads, each once, in the order of the views."""
    names = [key for view in use_case.features.views for key in feature_table(domain, view).entities]
    return list(dict.fromkeys(names))


def _store(use_case: UseCaseSpec, domain: DomainSpec, settings: Settings) -> FeatureStore:
    revision = apply_features(domain, [use_case], settings=settings)
    from millrace.features.feast_registry import open_store

    return open_store(settings, revision=revision)


def _require_columns(use_case: UseCaseSpec, domain: DomainSpec, rows: pa.Table, more: list[str]) -> None:
    needed = [*join_keys(use_case, domain), *more]
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
