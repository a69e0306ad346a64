"""A Feast data source that is a table of the lake, by name: registries hold no path of a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.dataset as pads
from feast import ValueType
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.file_source import FileSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.repo_config import RepoConfig
from feast.type_map import pa_to_feast_value_type

from millrace.errors import FeatureError
from millrace.features.base import EVENT_TIMESTAMP, KNOWN_AT
from millrace.lake import Table
from millrace.lake.commits import PARTITION


class LakeSource(DataSource):
    """A feature table of the lake. Its facts may be used only from their `known_at` on.

    Args:
        table: name in the lake (`flights/features/carrier_delays`).
        name: name in the registry; by default that of the table.
        writable: whether facts may be pushed through Feast; False for tables that are computed of clean data.
        description: what the table holds.
        tags: free text pairs.
        owner: who answers for it.
    """

    def __init__(
        self,
        *,
        table: str,
        name: str = "",
        timestamp_field: str = EVENT_TIMESTAMP,
        created_timestamp_column: str = KNOWN_AT,
        field_mapping: dict[str, str] | None = None,
        description: str = "",
        tags: dict[str, str] | None = None,
        owner: str = "",
        writable: bool = False,
    ) -> None:
        super().__init__(
            name=name or table,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
        )
        self.table = table
        self.writable = writable

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LakeSource) and super().__eq__(other) and self._options() == other._options()

    def __hash__(self) -> int:
        return hash((self.name, self.table))

    def source_type(self) -> Any:
        """Feast's name for a source it does not know itself."""
        return DataSourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: Any) -> LakeSource:
        """The source that was written to a registry."""
        options = orjson.loads(data_source.custom_options.configuration)
        return LakeSource(
            table=options["table"],
            writable=options.get("writable", False),
            name=data_source.name,
            timestamp_field=data_source.timestamp_field,
            created_timestamp_column=data_source.created_timestamp_column,
            field_mapping=dict(data_source.field_mapping),
            description=data_source.description,
            tags=dict(data_source.tags),
            owner=data_source.owner,
        )

    def _to_proto_impl(self) -> Any:
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{LakeSource.__module__}.{LakeSource.__qualname__}",
            custom_options=DataSourceProto.CustomSourceOptions(configuration=orjson.dumps(self._options())),
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            field_mapping=self.field_mapping,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def _options(self) -> dict[str, Any]:
        return {"table": self.table, **({"writable": True} if self.writable else {})}

    def validate(self, config: RepoConfig) -> None:
        """Nothing to refuse: a feature table is made by the first run of its DAG, after the definition is applied."""

    def get_table_query_string(self) -> str:
        """Name of the table, for Feast's user interface."""
        return self.table

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """Feast's type of an Arrow type's name."""
        return pa_to_feast_value_type

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:
        """Columns and the names of their Arrow types, without the key of the partition."""
        schema = open_source(self, config).schema
        return [(field.name, str(field.type)) for field in schema if field.name != PARTITION]


def open_source(source: DataSource | None, config: RepoConfig, *, view: str = "") -> Any:
    """An Arrow dataset over the current snapshot of a source: a table of the lake, or Parquet or Delta files.

    Args:
        source: the source.
        config: Feast's configuration.
        view: the view it belongs to, for errors.

    Raises:
        FeatureError: there is no such table, it cannot be read, or the kind of source is not one we read.
    """
    if isinstance(source, LakeSource):
        table = Table(config.offline_store.resolve_lake(), source.table)
        if not table.exists():
            raise FeatureError(
                f"feature table {source.table!r} is not there yet",
                where=table.uri,
                remedy="build the features of a partition first",
            )
        return table.open().to_pyarrow_dataset()
    if isinstance(source, FileSource):
        path = source_path(source, config)
        try:
            if isinstance(source.file_format, DeltaFormat):
                return open_delta(source, config).to_pyarrow_dataset()
            filesystem, place = file_system(source, config)
            return pads.dataset(place, format="parquet", filesystem=filesystem)
        except (OSError, pa.ArrowInvalid) as error:
            raise FeatureError(
                f"source {source.name!r} cannot be read: {error}",
                where=path,
                remedy="correct its path, or put its files there; is the storage up, and are its credentials right?",
            ) from error
    if source is None:
        raise FeatureError(f"view {view!r} has no source", remedy="give the feature view a batch source")
    raise FeatureError(
        f"source {source.name!r} is a {type(source).__name__}",
        remedy="use a LakeSource, or a FileSource of Parquet or Delta",
    )


def source_path(source: FileSource, config: RepoConfig) -> str:
    """Path or URI of a file source; a relative one lies in the feature repository."""
    return str(FileSource.get_uri_for_file_path(config.repo_path, source.path))


def file_system(source: FileSource, config: RepoConfig) -> tuple[Any, str]:
    """Arrow's file system of a file source (None for local files) and the path in it."""
    found: tuple[Any, str] = FileSource.create_filesystem_and_path(
        source_path(source, config), source.s3_endpoint_override or "", source.resolve_credentials()
    )
    return found


def open_delta(source: FileSource, config: RepoConfig) -> Any:
    """The `deltalake.DeltaTable` of a file source.

    Raises:
        FeatureError: there is none.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    path = source_path(source, config)
    try:
        return DeltaTable(path, storage_options=storage_options(source))
    except (TableNotFoundError, DeltaError) as error:
        raise FeatureError(
            f"source {source.name!r} is no Delta table: {error}", where=path, remedy="correct its path or file_format"
        ) from error


def storage_options(source: FileSource) -> dict[str, str]:
    """What deltalake has to know of a source's object store besides the environment."""
    found = {name: str(value) for name, value in (source.resolve_credentials() or {}).items() if value}
    if endpoint := source.s3_endpoint_override:
        found["AWS_ENDPOINT_URL"] = endpoint
        if endpoint.startswith("http://"):
            found["AWS_ALLOW_HTTP"] = "true"
    return found
