"""A Feast data source that is a table of the lake, by name: registries hold no path of a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.dataset as pads
from feast import ValueType
from feast.data_source import DataSource
from feast.infra.offline_stores.file_source import FileSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.repo_config import RepoConfig
from feast.type_map import pa_to_feast_value_type

from millrace.errors import FeatureError
from millrace.features.base import EVENT_TIMESTAMP, INSTANT, KNOWN_AT
from millrace.lake import Table


class LakeSource(DataSource):
    """A feature table of the lake. Its facts may be used only from their `known_at` on.

    Args:
        table: name in the lake (`flights/features/carrier_delays`).
        name: name in the registry; by default that of the table.
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LakeSource) and super().__eq__(other) and self.table == other.table

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
            custom_options=DataSourceProto.CustomSourceOptions(configuration=orjson.dumps({"table": self.table})),
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            field_mapping=self.field_mapping,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

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
        """Columns and the names of their Arrow types."""
        schema = open_source(self, config).schema
        return [(field.name, str(field.type)) for field in schema]


def open_source(source: DataSource, config: RepoConfig) -> Any:
    """An Arrow dataset over the current snapshot of a source: a table of the lake, or Parquet or Delta files.

    Raises:
        FeatureError: there is no such table, or the kind of source is not one we read.
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
        path = FileSource.get_uri_for_file_path(config.repo_path, source.path)
        if source.file_format is not None and type(source.file_format).__name__ == "DeltaFormat":
            from deltalake import DeltaTable

            return DeltaTable(path).to_pyarrow_dataset()
        try:
            return pads.dataset(path, format="parquet")
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise FeatureError(f"source {source.name!r} cannot be read: {error}", where=path) from error
    raise FeatureError(
        f"source {getattr(source, 'name', source)!r} is a {type(source).__name__}",
        remedy="use a LakeSource, or a FileSource of Parquet or Delta",
    )


def read_source(
    source: DataSource,
    dataset: Any,
    columns: list[str],
    *,
    earliest: int | None = None,
    latest: int | None = None,
) -> pa.Table:
    """Columns of a source with earliest <= event_timestamp <= latest; files out of these bounds are not opened.

    Args:
        source: the source.
        dataset: what `open_source` gave for it; two reads of one dataset give the rows in the same order.
        columns: columns of the source.
        earliest: microseconds since 1970; None for no bound.
        latest: the same.

    Raises:
        FeatureError: the source has no such column.
    """
    if absent := [name for name in columns if name not in dataset.schema.names]:
        raise FeatureError(
            f"source {source.name!r} has no column {', '.join(map(repr, absent))}",
            remedy=f"it has {', '.join(dataset.schema.names)}; correct the feature view, or build the table again",
        )
    field = pads.field(source.timestamp_field)
    kind = dataset.schema.field(source.timestamp_field).type
    condition = None
    for bound, compare in ((earliest, field.__ge__), (latest, field.__le__)):
        if bound is not None:
            limit = compare(_bound(bound, kind))
            condition = limit if condition is None else condition & limit
    return dataset.to_table(columns=columns, filter=condition)


def _bound(microseconds: int, kind: pa.DataType) -> pa.Scalar:
    instant = pa.scalar(microseconds, pa.int64())
    if pa.types.is_timestamp(kind):
        plain = instant.cast(pa.timestamp("us") if kind.tz is None else INSTANT)
        return plain.cast(kind, safe=False)
    return instant.cast(INSTANT)
