"""Millrace's online store for Feast: one packed row an entity and view in SQLite; a newer row is never overwritten.

Values expire by the view's TTL counted from its high-water mark, not from the wall clock: a store filled from a
backfill answers as of the data it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from feast import Entity, FeatureView, ValueType
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from millrace.errors import FeatureError
from millrace.features.materialization import instant
from millrace.online import OnlineReader, RowCodec, ViewLayout, encode_key
from millrace.online.writer import OnlineWriter
from millrace.settings import settings

KINDS = {
    ValueType.INT32: "int32",
    ValueType.INT64: "int64",
    ValueType.FLOAT: "float32",
    ValueType.DOUBLE: "float64",
    ValueType.STRING: "string",
    ValueType.BOOL: "bool",
    ValueType.UNIX_TIMESTAMP: "timestamp",
}
_FIELDS = {
    "int32": "int32_val",
    "int64": "int64_val",
    "float32": "float_val",
    "float64": "double_val",
    "string": "string_val",
    "bool": "bool_val",
    "timestamp": "unix_timestamp_val",
}
_Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """Where the SQLite file lies; by default where this installation's settings say."""

    type: Literal["millrace.features.feast_online_store.PackedOnlineStore"] = (
        "millrace.features.feast_online_store.PackedOnlineStore"
    )
    path: str | None = None

    def resolve_path(self) -> Path:
        """The SQLite file."""
        return Path(self.path) if self.path else settings().online_store


class PackedOnlineStore(OnlineStore):
    """Feast's view of the file that `millrace.online` reads and writes."""

    def __init__(self) -> None:
        self._readers: dict[Path, OnlineReader] = {}

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[_Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows given as protobufs (Feast's push and write paths); columnar writers are far quicker."""
        layout = layout_of_view(table)
        codec = RowCodec(layout)
        rows, mark = [], 0
        for entity, values, event, created in data:
            key = encode_key(layout, _entity_values(layout, entity))
            if key is None:
                continue
            happened = instant(event)
            known = happened if created is None else instant(created)
            packed = codec.pack([_plain(values.get(name), kind) for name, kind in layout.features])
            rows.append((key, happened, known, packed))
            mark = max(mark, happened, known)
        OnlineWriter(config.online_store.resolve_path()).write(table.name, layout, rows, high_water_mark=mark)
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
        reader = self._reader(config)
        if table.name not in reader.views():
            return [(None, None)] * len(entity_keys)
        layout = reader.layout(table.name)
        wanted = set(requested_features or [name for name, _ in layout.features])
        picks = [
            (index, name, _FIELDS.get(kind, "int32_val"), kind)
            for index, (name, kind) in enumerate(layout.features)
            if name in wanted
        ]
        rows = reader.read_rows(table.name, [_entity_values(layout, key) for key in entity_keys])
        return [
            (None, None)
            if row is None
            else (row[0], {name: _proto(row[1][index], field, kind) for index, name, field, kind in picks})
            for row in rows
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
        writer = OnlineWriter(config.online_store.resolve_path())
        for view in tables_to_keep:
            writer.declare(view.name, layout_of_view(view))
        for view in tables_to_delete:
            writer.forget(view.name)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Remove the rows of the views given."""
        writer = OnlineWriter(config.online_store.resolve_path())
        for view in tables:
            writer.forget(view.name)

    def _reader(self, config: RepoConfig) -> OnlineReader:
        path = config.online_store.resolve_path()
        return self._readers.setdefault(path, OnlineReader(path))


def layout_of_view(view: FeatureView) -> ViewLayout:
    """Layout of a Feast feature view in the online store."""
    return ViewLayout(
        entities=tuple((field.name, _key_kind(field)) for field in view.entity_columns),
        features=tuple((field.name, _kind(field)) for field in view.features),
        ttl_us=int(view.ttl.total_seconds() * 1_000_000) if view.ttl else 0,
    )


def _kind(field: Any) -> str:
    kind = (field.tags or {}).get("kind") or KINDS.get(field.dtype.to_value_type())
    if kind is None:
        raise FeatureError(
            f"feature {field.name!r} has type {field.dtype}, which the online store cannot hold",
            remedy="use numbers, texts, booleans or timestamps",
        )
    return str(kind)


def _key_kind(field: Any) -> str:
    kind = KINDS.get(field.dtype.to_value_type())
    return "int64" if kind in ("int32", "int64") else str(kind)


def _entity_values(layout: ViewLayout, entity: EntityKey) -> list[Any]:
    given = dict(zip(entity.join_keys, entity.entity_values, strict=True))
    found = []
    for name, _ in layout.entities:
        value = given.get(name)
        which = value.WhichOneof("val") if value is not None else None
        found.append(None if which is None else getattr(value, which))
    return found


def _plain(value: Value | None, kind: str) -> Any:
    which = None if value is None else value.WhichOneof("val")
    if which is None or which == "null_val":
        return None
    found = getattr(value, which)
    return found * 1_000_000 if kind == "timestamp" else found


def _proto(value: Any, field: str, kind: str) -> Value:
    if value is None:
        return Value()
    if kind == "timestamp":
        moment = datetime.fromtimestamp(value // 1_000_000, UTC)
        return Value(unix_timestamp_val=int(moment.timestamp()))
    return Value(**{field: value})
