"""Millrace's online store for Feast: one packed row an entity and view, in SQLite, Redis or Postgres.

A newer row is never overwritten by an older one. Values expire by the view's TTL counted from its high-water mark, not
from the wall clock: a store filled from a backfill answers as of the data it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, Literal

from feast import Entity, FeatureService, FeatureView, utils
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from millrace.errors import UnknownViewError
from millrace.features.feast_online_response import AnsweredView, PackedOnlineResponse, StoredRow, plain_request
from millrace.features.feast_protobuf import key_of, layout_of_view, to_plain, to_protos
from millrace.features.materialization import instant
from millrace.online import OnlineReader, PackedRow, RowCodec, ViewLayout, open_reader, open_writer
from millrace.online.layout import key_encoder
from millrace.settings import settings

_Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """Where the store lies; by default where this installation's settings say."""

    type: Literal["millrace.features.feast_online_store.PackedOnlineStore"] = (
        "millrace.features.feast_online_store.PackedOnlineStore"
    )
    url: str | None = None

    def resolve_url(self) -> str:
        """Path of a SQLite file, `redis://…` or `postgresql://…`."""
        return self.url or settings().online_store


class PackedOnlineStore(OnlineStore):
    """Feast's view of the store that `millrace.online` reads and writes."""

    def __init__(self) -> None:
        self._readers: dict[str, OnlineReader] = {}

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[_Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows given as protobufs (Feast's push and write paths); columnar writers are far quicker.

        They are in force at once, and the view's high-water mark stays: it tells up to when *all* facts are there.
        """
        layout = layout_of_view(table)
        with closing(open_writer(config.online_store.resolve_url())) as writer:
            writer.write(table.name, layout, [_packed(layout, data)], high_water_mark=0)
        if progress is not None:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Values by key; (None, None) where there is no row, or only an expired one."""
        names = [field.name for field in table.entity_columns]
        given = (dict(zip(key.join_keys, key.entity_values, strict=True)) for key in entity_keys)
        layout, rows = self._found(config, table, [key_of(names, entity) for entity in given])
        if layout is None:
            return [(None, None)] * len(entity_keys)
        wanted = set(requested_features or [name for name, _ in layout.features])
        columns = {
            name: to_protos((None if row is None else row[1][place] for row in rows), kind)
            for place, (name, kind) in enumerate(layout.features)
            if name in wanted
        }
        return [
            (None, None) if row is None else (row[0], {name: column[index] for name, column in columns.items()})
            for index, row in enumerate(rows)
        ]

    def update(  # noqa: PLR0917 - the signature is Feast's
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Make room for new views and remove deleted ones; the rows of those that stay are left alone."""
        with closing(open_writer(config.online_store.resolve_url())) as writer:
            for view in tables_to_keep:
                writer.declare(view.name, layout_of_view(view))
            for view in tables_to_delete:
                writer.forget(view.name)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Remove the rows of the views given."""
        with closing(open_writer(config.online_store.resolve_url())) as writer:
            for view in tables:
                writer.forget(view.name)

    def get_online_features(  # noqa: PLR0917 - the signature is Feast's
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """What Feast answers; stored features by plain keys without a protobuf a value."""
        asked = None
        if not include_feature_view_version_metadata:
            asked = plain_request(registry, project, features, entity_rows, full_names=full_feature_names)
        if asked is None:
            return super().get_online_features(
                config,
                features,
                entity_rows,
                registry,
                project,
                full_feature_names,
                include_feature_view_version_metadata,
            )
        views = []
        for view, names in asked.groups:
            entities = asked.entities(view)
            distinct = list(dict.fromkeys(entities))
            layout, rows = self._found(config, view, distinct)
            if len(distinct) < len(entities):
                by_entity = dict(zip(distinct, rows, strict=True))
                rows = [by_entity[entity] for entity in entities]
            prefix = f"{view.projection.name_to_use()}__" if full_feature_names else ""
            views.append(AnsweredView(prefix=prefix, features=names, layout=layout, rows=rows))
        return PackedOnlineResponse(asked, views, self._build_feature_types(asked.groups))

    def _read_features_per_fv(  # noqa: PLR0917 - the signature is Feast's
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, list[Value]],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: GetOnlineFeaturesResponse,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """What Feast does for every view of a request, a column at a time instead of a row and a feature."""
        for view, features in grouped_refs:
            entities, places, count = utils._get_unique_entities(view, join_key_values, entity_name_to_join_key_map)
            names = [field.name for field in view.entity_columns]
            layout, rows = self._found(config, view, [key_of(names, entity) for entity in entities])
            spread: list[StoredRow] = [None] * count
            for row, destinations in zip(rows, places, strict=True):
                for destination in destinations:
                    spread[destination] = row
            utils._populate_response_from_feature_data(
                features,
                [],
                [],
                online_features_response,
                full_feature_names,
                view,
                0,
                include_feature_view_version_metadata,
            )
            results = online_features_response.results
            del results[len(results) - len(features) :]
            results.extend(AnsweredView(prefix="", features=features, layout=layout, rows=spread).vectors())

    def _found(
        self, config: RepoConfig, view: FeatureView, keys: Sequence[Sequence[Any]]
    ) -> tuple[ViewLayout | None, list[StoredRow]]:
        """Layout and a row a key; (None, nothing found) where the store has no such view."""
        url = config.online_store.resolve_url()
        reader = self._readers.get(url) or self._readers.setdefault(url, open_reader(url))
        try:
            found = reader.look_up_rows(view.name, keys)
        except UnknownViewError:
            return None, [None] * len(keys)
        return found.layout, found.rows


def _packed(layout: ViewLayout, data: list[_Row]) -> list[PackedRow]:
    codec, encode = RowCodec(layout), key_encoder(layout)
    names = [name for name, _ in layout.entities]
    rows: list[PackedRow] = []
    for entity, values, event, created in data:
        key = encode(key_of(names, dict(zip(entity.join_keys, entity.entity_values, strict=True))))
        if key is not None:
            happened = instant(event)
            known = happened if created is None else instant(created)
            packed = codec.pack([to_plain(values.get(name), kind) for name, kind in layout.features])
            rows.append((key, happened, known, packed))
    return rows
