"""A historical retrieval: what is asked of each view, its facts, and the job that joins them when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.repo_config import RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from millrace.errors import FeatureError
from millrace.features.asof import History, match
from millrace.features.base import EVENT_TIMESTAMP
from millrace.features.feast_source import LakeSource, open_source, read_source
from millrace.lake import Table
from millrace.lake.duck import arrow, connect


class LakeRetrievalJob(RetrievalJob):
    """A retrieval that runs when its result is asked for."""

    def __init__(
        self,
        evaluate: Callable[[], pa.Table],
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether features carry their view's name in front."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Views that are computed of the result."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._evaluate()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._evaluate().to_pandas()

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Keep the result as a Parquet file (`SavedDatasetFileStorage`)."""
        if not isinstance(storage, SavedDatasetFileStorage):
            raise FeatureError(
                f"a result cannot be saved to a {type(storage).__name__}", remedy="use SavedDatasetFileStorage"
            )
        path = Path(storage.file_options.uri)
        if path.exists() and not allow_overwrite:
            raise FeatureError("the file exists", where=str(path), remedy="name another, or pass allow_overwrite=True")
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.to_arrow(), path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One view of a request: its columns in the source, and their names in the result."""

    view: FeatureView
    source: DataSource
    keys: list[tuple[str, str]]  # (column of the source, column of the entity frame)
    features: list[tuple[str, str]]  # (column of the source, column of the result)
    all_features: list[str]  # columns of the source
    ttl_us: int
    bounds_use: bool


def join_views(entities: pa.Table, at: Any, requests: list[Request], config: RepoConfig) -> pa.Table:
    """Entity rows with the features asked for, view by view; rows and order are kept.

    Raises:
        FeatureError: a feature table or column is missing, or a feature would hide a column of the frame.
    """
    result = entities
    if not entities.num_rows:
        first = last = 0
    else:
        bounds = pc.min_max(at)
        first, last = bounds["min"].as_py() or 0, bounds["max"].as_py() or 0
    for request in requests:
        rows, history = _read_history(request, config, first, last)
        facts = match(
            history,
            keys=[entities.column(column) for _, column in request.keys],
            at=at,
            ttl_us=request.ttl_us,
            memory_limit=config.offline_store.memory_limit,
        )
        for column, name in request.features:
            if name in result.column_names:
                raise FeatureError(
                    f"feature {name!r} of view {request.view.name!r} is already a column of the result",
                    remedy="ask with full_feature_names=True, or rename the column of the entity frame",
                )
            result = result.append_column(name, rows.column(column).take(facts))
    return result


def _read_history(request: Request, config: RepoConfig, first: int, last: int) -> tuple[pa.Table, History]:
    """The facts of a view that entity rows between two instants can use."""
    source, known = request.source, request.source.created_timestamp_column
    dataset = open_source(source, config)
    earliest = first - request.ttl_us if request.ttl_us else None
    columns = [column for column, _ in (*request.keys, *request.features)]
    columns += [source.timestamp_field, *([known] if known else [])]
    rows = read_source(source, dataset, list(dict.fromkeys(columns)), earliest=earliest, latest=last)

    def tie_breakers() -> list[Any]:
        # All features of the view, also those not asked for: which fact wins must not depend on the question.
        found = read_source(source, dataset, request.all_features, earliest=earliest, latest=last)
        return list(found.columns)

    history = History(
        keys=[rows.column(column) for column, _ in request.keys],
        event_timestamp=rows.column(source.timestamp_field),
        known_at=rows.column(known) if known else None,
        bounds_use=request.bounds_use,
        values=tie_breakers,
    )
    return rows, history


def plan_requests(
    views: list[FeatureView], refs: list[str], full_feature_names: bool, filter_by_created_timestamp: bool
) -> list[Request]:
    """What is asked of each view, in the order of the references."""
    by_name = {view.projection.name_to_use(): view for view in views}
    asked: dict[str, list[str]] = {}
    for ref in refs:
        name, _, feature = ref.partition(":")
        if name.partition("@")[0] in by_name:
            asked.setdefault(name.partition("@")[0], []).append(feature)
    found = []
    for name, features in asked.items():
        view = by_name[name]
        source = view.batch_source
        if source is None:
            raise FeatureError(f"view {view.name!r} has no source", remedy="give the feature view a batch source")
        columns = {feature: column for column, feature in source.field_mapping.items()}
        aliases = view.projection.join_key_map
        found.append(
            Request(
                view=view,
                source=source,
                keys=[
                    (columns.get(entity.name, entity.name), aliases.get(entity.name, entity.name))
                    for entity in view.entity_columns
                    if entity.name != "__dummy_id"
                ],
                features=[
                    (columns.get(feature, feature), f"{name}__{feature}" if full_feature_names else feature)
                    for feature in features
                ],
                all_features=sorted(columns.get(field.name, field.name) for field in view.features),
                ttl_us=int(view.ttl.total_seconds() * 1_000_000) if view.ttl else 0,
                bounds_use=isinstance(source, LakeSource) or filter_by_created_timestamp,
            )
        )
    return found


def entity_table(entity_df: pd.DataFrame | pa.Table | str, config: RepoConfig) -> pa.Table:
    """The entity frame in Arrow; a text without spaces names a table of the lake, any other is SQL for DuckDB."""
    if isinstance(entity_df, pa.Table):
        return entity_df
    if isinstance(entity_df, pd.DataFrame):
        return pa.Table.from_pandas(entity_df, preserve_index=False)
    if not any(character.isspace() for character in entity_df.strip()):
        return Table(config.offline_store.resolve_lake(), entity_df.strip()).read()
    connection = connect(memory_limit=config.offline_store.memory_limit)
    try:
        return arrow(connection.sql(entity_df))
    finally:
        connection.close()


def timestamp_column(entities: pa.Table) -> str:
    """The column with the instants as of which features are looked up.

    Raises:
        FeatureError: there is none, or more than one and none is called `event_timestamp`.
    """
    candidates = [field.name for field in entities.schema if pa.types.is_timestamp(field.type)]
    if EVENT_TIMESTAMP in candidates:
        return EVENT_TIMESTAMP
    if len(candidates) == 1:
        return candidates[0]
    raise FeatureError(
        f"the entity frame has no timestamp column {EVENT_TIMESTAMP!r}",
        remedy=f"add it; timestamps found: {', '.join(candidates) or '(none)'}",
    )
