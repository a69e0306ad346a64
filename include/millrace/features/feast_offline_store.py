"""Millrace's offline store for Feast: as-of joins that respect when a fact was known, and keep every entity row.

Named by class path in `feature_store.yaml`. The result has the entity frame's rows in its order, duplicates too, with
the features added. Facts of a `LakeSource` are used from their `known_at` on; for other sources Feast's own
`filter_by_created_timestamp` asks for the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from millrace.errors import FeatureError
from millrace.features.asof import History, instants, limit_bytes, microseconds, newest
from millrace.features.feast_entity import EntityFrame, Frame, open_frame, range_frame
from millrace.features.feast_job import LakeRetrievalJob
from millrace.features.feast_request import Request, plan_requests, require_frame
from millrace.features.feast_retrieval import join_views
from millrace.features.feast_scan import scan_source
from millrace.features.feast_source import LakeSource, open_source
from millrace.features.feast_write import log_features, push
from millrace.settings import settings


class LakeOfflineStoreConfig(FeastConfigBaseModel):
    """Where the lake lies, by default where this installation's settings say, and how much memory a retrieval takes.

    Attributes:
        lake: path or URI of the lake.
        memory_limit: what a retrieval may hold besides an entity frame given in memory and a result asked for in
            memory; `persist` holds neither.
    """

    type: Literal["millrace.features.feast_offline_store.LakeOfflineStore"] = (
        "millrace.features.feast_offline_store.LakeOfflineStore"
    )
    lake: str | None = None
    memory_limit: str = "2GB"

    def resolve_lake(self) -> str:
        """Path or URI of the lake."""
        return self.lake or settings().lake


class LakeOfflineStore(OfflineStore):
    """As-of joins over Arrow, on tables of the lake and on Parquet and Delta files, local and on S3."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(  # noqa: PLR0917 - the signature is Feast's
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: EntityFrame | None,
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
            entity_df: see `open_frame`; None for every key with a fact from `start_date` to `end_date`, as of the
                latter.

        Raises:
            FeatureError: what is asked for is not there, or the entity frame lacks a timestamp with a zone, a join
                key or a request column; before any row is read.
        """
        requests = plan_requests(
            feature_views,
            feature_refs,
            config,
            full_feature_names=full_feature_names,
            filter_by_created_timestamp=filter_by_created_timestamp,
        )
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        if entity_df is None:
            frame = range_frame(feature_views, requests, start_date, end_date)
        else:
            frame = open_frame(entity_df, config)
        require_frame(requests, on_demand, frame.schema, full_feature_names=full_feature_names)

        def tell() -> RetrievalMetadata:
            first, last = frame.bounds()
            keys = [name for name in frame.schema.names if name != frame.timestamp]
            return RetrievalMetadata(
                features=feature_refs, keys=keys, min_event_timestamp=first, max_event_timestamp=last
            )

        return LakeRetrievalJob(
            lambda: _evaluate(frame, requests, config),
            config=config,
            full_feature_names=full_feature_names,
            on_demand_feature_views=on_demand,
            metadata=tell,
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
        index = list(dict.fromkeys([*join_key_columns, timestamp_field, *created]))
        columns = list(dict.fromkeys([*join_key_columns, *feature_name_columns, timestamp_field, *created]))

        def evaluate() -> Iterator[pa.Table]:
            end = to_us(end_date)
            scan = scan_source(
                data_source,
                open_source(data_source, config),
                columns,
                timestamp_field=timestamp_field,
                earliest=to_us(start_date),
                latest=end,
            )
            rows = pa.Table.from_batches(
                [batch for _, batch in scan.stream(index)],
                pa.schema([scan.dataset.schema.field(name) for name in index]),
            )
            history = History(
                keys=[rows.column(name) for name in join_key_columns],
                event_timestamp=rows.column(timestamp_field),
                known_at=rows.column(created_timestamp_column) if created_timestamp_column else None,
                bounds_use=isinstance(data_source, LakeSource),
                values=lambda numbers: list(scan.take(feature_name_columns, numbers.to_numpy()).columns),
            )
            found = newest(history, at=end, memory_limit=config.offline_store.memory_limit)
            yield scan.gather(columns, found.to_numpy())

        return LakeRetrievalJob(evaluate, config=config)

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

        def evaluate() -> Iterator[pa.Table]:
            scan = scan_source(
                data_source,
                open_source(data_source, config),
                columns,
                timestamp_field=timestamp_field,
                earliest=None if start_date is None else to_us(start_date),
                latest=None if end_date is None else to_us(end_date),
            )
            yield pa.schema([scan.dataset.schema.field(name) for name in columns]).empty_table()
            for _, batch in scan.stream(columns):
                yield pa.Table.from_batches([batch])

        return LakeRetrievalJob(evaluate, config=config)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append facts to the view's source.

        Raises:
            FeatureError: they do not fit it, or the source is a table that is computed of clean data.
        """
        push(feature_view, table, config)
        if progress is not None:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Add logged features to a folder of Parquet files.

        Raises:
            FeatureError: another kind of destination.
        """
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise FeatureError(
                f"features cannot be logged to a {type(destination).__name__}", remedy="use FileLoggingDestination"
            )
        log_features(data, destination)


def to_us(moment: datetime) -> int:
    """An instant as microseconds since 1970; without zone it is read as UTC, as Feast does."""
    return int(microseconds(pa.array([moment]))[0].as_py())


def _evaluate(frame: Frame, requests: list[Request], config: RepoConfig) -> Iterator[pa.Table]:
    """The result in pieces: of a referenced frame so many rows at a time as an eighth of the memory limit holds."""
    limit = config.offline_store.memory_limit
    rows = max(1_000_000, limit_bytes(limit) // 8 // (24 * len(frame.schema.names) + 8))
    pieces = frame.read(rows)
    first = next(pieces, frame.schema.empty_table())
    for piece in itertools.chain([first], pieces):
        yield from join_views(piece, instants(piece.column(frame.timestamp)), requests, memory_limit=limit)
