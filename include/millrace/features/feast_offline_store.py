"""Millrace's offline store for Feast: as-of joins that respect when a fact was known, and keep every entity row.

Named by class path in `feature_store.yaml`. The result has the entity frame's rows in its order, duplicates too, with
the features added. Facts of a `LakeSource` are used from their `known_at` on; for other sources Feast's own
`filter_by_created_timestamp` asks for the same.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from millrace.errors import FeatureError
from millrace.features.asof import History, microseconds, newest
from millrace.features.feast_retrieval import (
    LakeRetrievalJob,
    entity_table,
    join_views,
    plan_requests,
    timestamp_column,
)
from millrace.features.feast_source import LakeSource, open_source, read_source
from millrace.settings import settings


class LakeOfflineStoreConfig(FeastConfigBaseModel):
    """Where the lake lies; by default where this installation's settings say."""

    type: Literal["millrace.features.feast_offline_store.LakeOfflineStore"] = (
        "millrace.features.feast_offline_store.LakeOfflineStore"
    )
    lake: str | None = None
    memory_limit: str = "2GB"

    def resolve_lake(self) -> str:
        """Path or URI of the lake."""
        return self.lake or settings().lake


class LakeOfflineStore(OfflineStore):
    """As-of joins in DuckDB over Arrow, on tables of the lake."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(  # noqa: PLR0917 - the signature is Feast's
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | pa.Table | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        *,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Features as of each entity row's time.

        Args:
            entity_df: pandas or Arrow; a text is the name of a table of the lake, or SQL for DuckDB.

        Raises:
            FeatureError: no entity frame, or one without its timestamp or a join key.
        """
        if entity_df is None:
            raise FeatureError(
                "features are asked for without entity rows", remedy="give entity_df; a time range alone is not enough"
            )
        requests = plan_requests(feature_views, feature_refs, full_feature_names, filter_by_created_timestamp)
        entities = entity_table(entity_df, config)
        at = entities.column(timestamp_column(entities))
        for request in requests:
            for _, column in request.keys:
                if column not in entities.column_names:
                    raise FeatureError(
                        f"join key {column!r} of view {request.view.name!r} is missing in the entity frame",
                        remedy=f"add the column; the frame has {', '.join(entities.column_names)}",
                    )
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        names = {name for request in requests for _, name in request.features}
        bounds = pc.min_max(at)
        return LakeRetrievalJob(
            lambda: join_views(entities, microseconds(at), requests, config),
            full_feature_names=full_feature_names,
            on_demand_feature_views=on_demand,
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entities.column_names if name not in names],
                min_event_timestamp=bounds["min"].as_py(),
                max_event_timestamp=bounds["max"].as_py(),
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(  # noqa: PLR0917 - the signature is Feast's
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest fact of each key as of `end_date`, of those that happened from `start_date` on."""
        created = [created_timestamp_column] if created_timestamp_column else []
        columns = list(dict.fromkeys([*join_key_columns, *feature_name_columns, timestamp_field, *created]))

        def evaluate() -> pa.Table:
            end = to_us(end_date)
            dataset = open_source(data_source, config)
            rows = read_source(data_source, dataset, columns, earliest=to_us(start_date), latest=end)
            history = History(
                keys=[rows.column(name) for name in join_key_columns],
                event_timestamp=rows.column(timestamp_field),
                known_at=rows.column(created_timestamp_column) if created_timestamp_column else None,
                bounds_use=isinstance(data_source, LakeSource),
                values=lambda: [rows.column(name) for name in feature_name_columns],
            )
            return rows.take(newest(history, at=end, memory_limit=config.offline_store.memory_limit))

        return LakeRetrievalJob(evaluate)

    @staticmethod
    def pull_all_from_table_or_query(  # noqa: PLR0917 - the signature is Feast's
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All facts that happened in a range of time (of all time, without bounds)."""
        created = [created_timestamp_column] if created_timestamp_column else []
        columns = list(dict.fromkeys([*join_key_columns, *feature_name_columns, timestamp_field, *created]))
        earliest = None if start_date is None else to_us(start_date)
        latest = None if end_date is None else to_us(end_date)
        return LakeRetrievalJob(
            lambda: read_source(
                data_source, open_source(data_source, config), columns, earliest=earliest, latest=latest
            )
        )

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Refused: feature tables are computed per partition, so that a backfill gives the same rows.

        Raises:
            FeatureError: always.
        """
        raise FeatureError(
            f"view {feature_view.name!r} cannot be written through Feast",
            remedy="its table is computed from clean data: run the domain's data DAG, or `millrace features build`",
        )


def to_us(moment: datetime) -> int:
    """An instant as microseconds since 1970; without zone it is read as UTC, as Feast does."""
    return int(microseconds(pa.array([moment]))[0].as_py())
