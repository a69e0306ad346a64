"""Steps of features: apply definitions, build tables, materialize, and look features up as they were known."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from millrace.artifact import DatasetRef, digest_of, iso
from millrace.errors import FeatureError
from millrace.features.applied import applied_digests, apply_lock, record_digests
from millrace.features.base import ARROW_TYPES, EVENT_TIMESTAMP, MaterializationReport, layout_of
from millrace.features.check import find_faults
from millrace.features.compute import build_table, entity_kinds, feature_table, read_sql
from millrace.features.materialization import materialize_view
from millrace.features.row import entity_table
from millrace.lake import Table
from millrace.online.writer import OnlineWriter
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec

if TYPE_CHECKING:
    from feast import FeatureStore

log = logging.getLogger(__name__)


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

                apply_definitions(domain, use_cases, settings=settings, folder=_sql_folder(settings))
                record_digests(settings.registry_url, digests)
    return digest_of(digests)


def build_features(domain: DomainSpec, partition: str, *, settings: Settings) -> list[DatasetRef]:
    """Compute the domain's feature tables for a partition from clean rows; unchanged inputs compute nothing.

    Raises:
        FeatureError: clean rows are missing, or SQL does not return what the spec declares.
    """
    folder = _sql_folder(settings)
    return [build_table(domain, name, partition, lake=settings.lake, folder=folder) for name in domain.feature_tables]


def materialize_features(domain: DomainSpec, partition: str, *, settings: Settings) -> MaterializationReport:
    """Bring the online store to the end of a partition: per key the newest fact known and not expired then.

    A store that is already further keeps its newer rows and its high-water mark.
    """
    end = domain.partition(partition).end
    kinds = entity_kinds(domain, _sql_folder(settings))
    writer = OnlineWriter(settings.online_store)
    offered, rows = {}, {}
    for name, table in domain.feature_tables.items():
        source = Table(settings.lake, domain.feature_table(name))
        offered[name], rows[name] = materialize_view(writer, source, name, layout_of(table, kinds[name]), at=end)
    return MaterializationReport(
        domain=domain.name, partition=partition, rows=rows, offered=offered, high_water_mark=iso(end)
    )


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
    return find_faults(domain, use_case, _sql_folder(settings))


def join_keys(use_case: UseCaseSpec, domain: DomainSpec) -> list[str]:
    """Join keys of the views a use case reads, each once, in the order of the views."""
    names = [key for view in use_case.features.views for key in feature_table(domain, view).entities]
    return list(dict.fromkeys(names))


def _store(use_case: UseCaseSpec, domain: DomainSpec, settings: Settings) -> FeatureStore:
    revision = apply_features(domain, [use_case], settings=settings)
    from millrace.features.feast_registry import open_store

    return open_store(settings, revision=revision)


def _definition_digests(domain: DomainSpec, use_cases: list[UseCaseSpec], settings: Settings) -> dict[str, str]:
    folder = _sql_folder(settings)
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


def _sql_folder(settings: Settings) -> Path:
    return settings.dags / "domains"
