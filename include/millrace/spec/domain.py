"""A domain: sources, their contracts and clean-up, and the feature tables made of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from millrace.errors import SpecError
from millrace.partition import Grain, Partition
from millrace.spec.base import ColumnName, Name, Spec

ColumnType = Literal["int16", "int32", "int64", "float32", "float64", "string", "bool", "timestamp"]
OnFailure = Literal["block", "quarantine", "warn"]


class ExpectationSpec(Spec):
    """One Great Expectations expectation and what its failure does.

    Attributes:
        type: GX's snake-case name, such as `expect_column_values_to_be_between`.
        kwargs: arguments of the expectation (`column`, `min_value`, `mostly` …).
        on_failure: `block` the partition, set the failing rows in `quarantine` (row-level types only), or `warn`.
        id: stable name that quarantine reasons carry; by default type and column.
    """

    type: Annotated[str, Field(pattern=r"^expect_[a-z_]+$")]
    kwargs: dict[str, Any] = {}
    on_failure: OnFailure = "block"
    id: str = ""

    @property
    def name(self) -> str:
        """`id`, or one made of type and columns."""
        columns = [str(self.kwargs[key]) for key in ("column", "column_A", "column_B") if key in self.kwargs]
        columns += [str(item) for item in self.kwargs.get("column_list", [])]
        return self.id or ".".join([self.type.removeprefix("expect_"), *columns])


class CleanupSpec(Spec):
    """What makes a clean row of a raw one, in DuckDB's SQL.

    Attributes:
        derive: new column → SQL expression over raw columns and those derived before it.
        drop: columns that the clean table leaves out.
    """

    derive: dict[ColumnName, str] = {}
    drop: list[ColumnName] = []


class SourceSpec(Spec):
    """One source of a domain; its name is that of its raw and clean tables.

    Attributes:
        kind: reader. `file` reads CSV (also inside .zip or .gz) and Parquet.
        uri: path, or `package://<package>/<path in it>` for a file shipped in an installed package.
        columns: every column that is read, with its type; a column missing in the source is an error.
        null_values: texts that mean null.
        partition_columns: column → strftime form of the partition's first day (`year: "%Y"`); empty for a static
            source, which has one partition for ever.
        key: columns that identify a record; duplicates of it are quarantined.
        known_late: columns, also derived ones, that are not known yet when a record's event begins (what came of it);
            no use case may take them for features.
        may_be_empty: whether a partition may have no rows.
        contract: expectations on the clean rows.
        cleanup: derived and dropped columns.
        max_quarantined_share: share of quarantined rows over which the partition blocks.
    """

    kind: Literal["file"] = "file"
    uri: str
    columns: dict[ColumnName, ColumnType]
    null_values: list[str] = ["", "NA"]
    partition_columns: dict[ColumnName, str] = {}
    key: list[ColumnName]
    known_late: list[ColumnName] = []
    may_be_empty: bool = False
    cleanup: CleanupSpec = CleanupSpec()
    contract: list[ExpectationSpec] = []
    max_quarantined_share: Annotated[float, Field(ge=0, le=1)] = 0.02

    @property
    def static(self) -> bool:
        """True where the source does not move in time."""
        return not self.partition_columns

    @model_validator(mode="after")
    def _columns_exist(self) -> SourceSpec:
        known = set(self.columns) | set(self.cleanup.derive)
        for column in [*self.partition_columns]:
            if column not in self.columns:
                raise ValueError(f"partition_columns names {column!r}, which `columns` does not declare")
        for column in [*self.key, *self.known_late, *self.cleanup.drop]:
            if column not in known:
                raise ValueError(f"{column!r} is neither in `columns` nor derived in `cleanup`")
        ids = [item.name for item in self.contract]
        if doubled := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"contract has two expectations of one id: {doubled}; give them an `id`")
        return self


class FeatureTableSpec(Spec):
    """A feature table and the Feast feature view on it.

    The SQL (DuckDB) sees one view a source of the domain, holding clean rows of the partition and of those before it
    as far as `look_back_days` reaches, and the parameters `$start` and `$end` (the partition's bounds, UTC
    timestamps without zone). It returns the entity columns, `event_timestamp`, `known_at` and the features, for
    `event_timestamp` in [start, end).

    Attributes:
        sql: file beside the domain's YAML.
        entities: join keys.
        features: feature → type.
        ttl_hours: how long a value stays usable after its event_timestamp; 0 for ever.
        look_back_days: how far into the past the SQL reads.
        static: computed once of static sources, not per partition.
        description: what the numbers mean.
    """

    sql: str
    entities: list[ColumnName]
    features: dict[ColumnName, ColumnType]
    ttl_hours: Annotated[int, Field(ge=0)] = 0
    look_back_days: Annotated[int, Field(ge=0)] = 0
    static: bool = False
    description: str


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("no time zone of that name, such as America/New_York") from error
    return name


class DomainSpec(Spec):
    """Data and features that several use cases share.

    Attributes:
        name: file stem and DAG id prefix.
        owners: Airflow user names.
        timezone: calendar of the partitions.
        grain: size of a partition.
        first: key of the first partition there is.
        last: key of the last, where the data has an end.
    """

    name: Name
    description: str
    owners: Annotated[list[str], Field(min_length=1)]
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    grain: Grain = "month"
    first: str
    last: str | None = None
    sources: dict[Name, SourceSpec]
    feature_tables: dict[Name, FeatureTableSpec]

    def partition(self, key: str) -> Partition:
        """The partition of that key, in this domain's calendar."""
        return Partition(key, self.grain, self.timezone)

    def raw_table(self, source: str) -> str:
        """Name in the lake of a source's raw table."""
        return f"{self.name}/raw/{source}"

    def clean_table(self, source: str) -> str:
        """Name in the lake of a source's clean table."""
        return f"{self.name}/clean/{source}"

    def quarantine_table(self, source: str) -> str:
        """Name in the lake of a source's quarantine."""
        return f"{self.name}/quarantine/{source}"

    def feature_table(self, name: str) -> str:
        """Name in the lake of a feature table."""
        return f"{self.name}/features/{name}"

    @property
    def asset(self) -> str:
        """Name of the asset that tells that a partition's features are there."""
        return f"{self.name}/features"

    @model_validator(mode="after")
    def _bounds(self) -> DomainSpec:
        for name, key in (("first", self.first), ("last", self.last)):
            try:
                _ = key is None or self.partition(key).start
            except (SpecError, ValueError) as error:
                raise ValueError(f"{name}: {error.what if isinstance(error, SpecError) else error}") from error
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last ({self.last}) lies before first ({self.first})")
        return self

    @property
    def first_start(self) -> datetime:
        """First instant of the domain's first partition (UTC)."""
        return self.partition(self.first).start
