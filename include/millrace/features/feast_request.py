"""What a historical retrieval asks of each view, checked against its source before any row is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.repo_config import RepoConfig

from millrace.errors import FeatureError
from millrace.features.feast_scan import require_columns
from millrace.features.feast_source import LakeSource, open_source
from millrace.features.key_code import key_family, require_family

NO_ENTITY = "__dummy_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One view of a retrieval: its columns in the source, and their names in the result.

    Attributes:
        view: its name, for people.
        source: where its facts are.
        dataset: the source as it was when the question was asked.
        keys: column of the source, column of the entity frame.
        features: column of the source, column of the result.
        tie_breakers: columns of the source that decide which of two facts of the same times wins: all features of the
            view, also those not asked for, so that the answer does not depend on the question.
        known: column of the source that tells when a fact became known.
        ttl_us: how long a fact stays usable; 0 for ever.
        bounds_use: whether a fact may be used only from `known` on.
    """

    view: str
    source: DataSource
    dataset: Any
    keys: list[tuple[str, str]]
    features: list[tuple[str, str]]
    tie_breakers: list[str]
    known: str | None
    ttl_us: int
    bounds_use: bool

    @property
    def index(self) -> list[str]:
        """Columns of the source that decide which fact is used."""
        columns = [*(column for column, _ in self.keys), self.source.timestamp_field]
        return list(dict.fromkeys([*columns, *([self.known] if self.known else [])]))

    @property
    def columns(self) -> list[str]:
        """Columns of the source that are asked for."""
        return list(dict.fromkeys(column for column, _ in self.features))


def plan_requests(
    views: list[FeatureView],
    refs: list[str],
    config: RepoConfig,
    *,
    full_feature_names: bool,
    filter_by_created_timestamp: bool,
) -> list[Request]:
    """What is asked of each view, in the order of the references.

    Raises:
        FeatureError: a view without a source or with one that cannot be read, an unknown feature, a missing column.
    """
    by_name = {view.projection.name_to_use(): view for view in views}
    asked: dict[str, list[str]] = {}
    for ref in refs:
        name, _, feature = ref.partition(":")
        if name in by_name:
            known = asked.setdefault(name, [])
            if feature not in known:
                known.append(feature)
    requests = [
        _request(
            by_name[name],
            features,
            config,
            full_feature_names=full_feature_names,
            filter_by_created_timestamp=filter_by_created_timestamp,
        )
        for name, features in asked.items()
    ]
    _refuse_doubles(requests)
    return requests


def require_frame(
    requests: list[Request], on_demand: list[OnDemandFeatureView], schema: pa.Schema, *, full_feature_names: bool
) -> None:
    """Refuse an entity frame that lacks a join key or a request column, or would hide a feature.

    Raises:
        FeatureError: it does.
    """
    for request in requests:
        for column, name in request.keys:
            if name not in schema.names:
                raise FeatureError(
                    f"join key {name!r} of view {request.view!r} is missing in the entity frame",
                    remedy=f"add the column; the frame has {', '.join(schema.names)}",
                )
            held = request.dataset.schema.field(column).type
            require_family(name, schema.field(name).type, held, view=request.view)
        for _, name in request.features:
            if name in schema.names:
                raise FeatureError(
                    f"feature {name!r} of view {request.view!r} is already a column of the entity frame",
                    remedy="ask with full_feature_names=True, or rename the column of the entity frame",
                )
    for view in on_demand:
        given = {
            f"{view.projection.name_to_use()}__{item.name}" if full_feature_names else item.name
            for item in view.features
        }
        if hidden := sorted(given & set(schema.names)):
            raise FeatureError(
                f"feature {hidden[0]!r} of on-demand view {view.name!r} is already a column of the entity frame",
                remedy="rename the column of the entity frame",
            )
        if absent := [name for name in view.get_request_data_schema() if name not in schema.names]:
            raise FeatureError(
                f"the on-demand view {view.name!r} needs column {', '.join(map(repr, absent))} in the entity frame",
                remedy=f"add what a request would bring; the frame has {', '.join(schema.names)}",
            )


def _request(
    view: FeatureView,
    features: list[str],
    config: RepoConfig,
    *,
    full_feature_names: bool,
    filter_by_created_timestamp: bool,
) -> Request:
    declared = [field.name for field in view.features]
    if unknown := [name for name in features if name not in declared]:
        raise FeatureError(
            f"view {view.name!r} has no feature {', '.join(map(repr, unknown))}",
            remedy=f"ask for one of: {', '.join(declared)}",
        )
    source = view.batch_source
    dataset = open_source(source, config, view=view.name)
    columns = {feature: column for column, feature in source.field_mapping.items()}
    aliases, prefix = view.projection.join_key_map, view.projection.name_alias or view.name
    keys = [entity.name for entity in view.entity_columns if entity.name != NO_ENTITY]
    request = Request(
        view=view.name,
        source=source,
        dataset=dataset,
        keys=[(columns.get(key, key), aliases.get(key, key)) for key in keys],
        features=[(columns.get(name, name), f"{prefix}__{name}" if full_feature_names else name) for name in features],
        tie_breakers=sorted({columns.get(name, name) for name in declared}),
        known=source.created_timestamp_column or None,
        ttl_us=int(view.ttl.total_seconds() * 1_000_000) if view.ttl else 0,
        bounds_use=isinstance(source, LakeSource) or filter_by_created_timestamp,
    )
    if not source.timestamp_field:
        raise FeatureError(
            f"source {source.name!r} of view {view.name!r} names no timestamp", remedy="give it its timestamp_field"
        )
    require_columns(source, dataset, [*request.index, *request.tie_breakers])
    for name in (source.timestamp_field, *([request.known] if request.known else [])):
        kind = dataset.schema.field(name).type
        if key_family(kind) != "an instant" and not pa.types.is_date(kind):
            raise FeatureError(
                f"column {name!r} of source {source.name!r} is {kind}, not an instant", remedy="write it as a timestamp"
            )
    return request


def _refuse_doubles(requests: list[Request]) -> None:
    seen: dict[str, str] = {}
    for request in requests:
        for _, name in request.features:
            if name in seen:
                raise FeatureError(
                    f"feature {name!r} is asked of view {seen[name]!r} and of view {request.view!r}",
                    remedy="ask with full_feature_names=True",
                )
            seen[name] = request.view
