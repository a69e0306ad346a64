"""The sources of a domain: what each kind needs to be read, and what is done with its rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from millrace.spec.address import Address, public_address
from millrace.spec.base import ColumnName, ColumnType, Spec
from millrace.spec.cleanup import CALLABLE, CleanupStep, names_after
from millrace.spec.clock import Clock, Repeated, known_zone
from millrace.spec.contract import ExpectationSpec, HistorySpec
from millrace.spec.row_policy import DuplicatesSpec, LateSpec

MIB = 1 << 20


class SourceSpec(Spec, ABC):
    """What all kinds of sources share. The name of a source is that of its raw and clean tables.

    Attributes:
        columns: every column that is read, with its type; a column missing in the source is an error, one more than
            declared is noted.
        dropped: columns that raw and clean rows had and have no more; the tables keep them for the partitions written
            before, and hold null in later ones. Without it a column that is gone is an error.
        null_values: texts that mean null.
        timezone: zone of times that carry none; without it such a time is an error.
        ambiguous: which instant a time without a zone is that the zone's clocks show twice: the `earlier` or the
            `later`; `quarantine` sets its record aside.
        partition_columns: column → strftime form of the partition's first day (`year: "%Y"`).
        key: columns that identify a record.
        duplicates: what happens where a key stands more than once.
        late: what happens with rows for a closed partition.
        pii: column → whether it is replaced by a keyed hash (`tokenise`) or never stored (`drop`).
        known_late: columns, also derived ones, that are not known yet when a record's event begins (what came of it);
            no use case may take them for features.
        may_be_empty: whether a partition may have no rows.
        max_record_bytes: a record longer than this is set aside unread.
        cleanup: steps from raw to clean rows.
        contract: expectations on raw and clean rows.
        suite: `package.module:function` that returns further expectations, as a `great_expectations.ExpectationSuite`
            whose expectations carry `meta: {on_failure: …}`.
        history: measures held against those of earlier partitions.
        max_quarantined_share: share of quarantined rows over which the partition blocks.
        memory_limit: memory of DuckDB while it works on a partition; beyond it spills to disk.
    """

    kind: str
    columns: Annotated[dict[ColumnName, ColumnType], Field(min_length=1)]
    dropped: list[ColumnName] = []
    null_values: list[str] = ["", "NA"]
    timezone: Annotated[str, AfterValidator(known_zone)] | None = None
    ambiguous: Repeated = "quarantine"
    partition_columns: dict[ColumnName, str] = {}
    key: list[ColumnName]
    duplicates: DuplicatesSpec = DuplicatesSpec()
    late: LateSpec = LateSpec()
    pii: dict[ColumnName, Literal["tokenise", "drop"]] = {}
    known_late: list[ColumnName] = []
    may_be_empty: bool = False
    max_record_bytes: Annotated[int, Field(ge=1024, le=64 * MIB)] = 16 * MIB
    cleanup: list[CleanupStep] = []
    contract: list[ExpectationSpec] = []
    suite: Annotated[str, Field(pattern=CALLABLE)] | None = None
    history: list[HistorySpec] = []
    max_quarantined_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    memory_limit: Annotated[str, Field(pattern=r"^\d+(MB|GB)$")] = "1GB"

    @property
    @abstractmethod
    def origin(self) -> str:
        """Where it reads from, for messages and lineage; without secrets."""

    @property
    def clock(self) -> Clock | None:
        """How times that carry no zone are read; None where they are an error."""
        return None if self.timezone is None else Clock(zone=ZoneInfo(self.timezone), repeated=self.ambiguous)

    @property
    @abstractmethod
    def moving(self) -> bool:
        """True where a reading asks for one partition; otherwise columns tell the rows of a partition."""

    @property
    def static(self) -> bool:
        """True where the source does not move in time: one partition for ever."""
        return not self.partition_columns and not self.moving

    @property
    def raw_columns(self) -> dict[ColumnName, ColumnType]:
        """Columns of the raw table: as declared, tokens in place of tokenised values, dropped ones gone."""
        return {
            name: "string" if name in self.pii else kind
            for name, kind in self.columns.items()
            if self.pii.get(name) != "drop"
        }

    @property
    def clean_columns(self) -> list[str]:
        """Names of the clean table's columns, in their order."""
        return names_after(self.raw_columns, self.cleanup)

    @model_validator(mode="after")
    def _clock_has_a_zone(self) -> SourceSpec:
        if self.ambiguous != "quarantine" and self.timezone is None:
            raise ValueError("`ambiguous` says how the clocks of `timezone` are read, which is not given")
        return self

    @model_validator(mode="after")
    def _columns_exist(self) -> SourceSpec:
        for place, names in (("partition_columns", self.partition_columns), ("pii", self.pii)):
            for column in names:
                if column not in self.columns:
                    raise ValueError(f"{place} names {column!r}, which `columns` does not declare")
        if personal := sorted(set(self.pii) & set(self.partition_columns)):
            raise ValueError(f"partition column {personal[0]!r} cannot be pii: its value stands in the partition's key")
        for present in (list(self.columns), self.clean_columns):
            lower = [name.lower() for name in present]
            if alike := sorted({name for name in present if lower.count(name.lower()) > 1}):
                raise ValueError(f"columns {alike} differ in capitals alone, which tables cannot tell apart")
            if "partition" in lower:
                raise ValueError("a column cannot be called 'partition': tables keep the key under that name")
        made = set(self.raw_columns) | set(self.clean_columns)
        version = [self.duplicates.version] if self.duplicates.version else []
        for column in [*self.key, *self.known_late, *version]:
            if column not in made:
                raise ValueError(f"{column!r} is neither in `columns` nor made in `cleanup`")
        if kept := sorted(set(self.raw_columns) & set(self.clean_columns) & set(self.dropped)):
            raise ValueError(f"`dropped` names {kept[0]!r}, which rows still have")
        if missing := sorted({*self.key, *version} - set(self.clean_columns)):
            raise ValueError(f"{missing[0]!r} identifies records, so clean-up must not drop it")
        ids = [*(item.name for item in self.contract), *(item.name for item in self.history)]
        if doubled := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"contract has two expectations of one id: {doubled}; give them an `id`")
        return self


class FileSourceSpec(SourceSpec):
    """Files: CSV, JSON lines or Parquet; plain, gzip, zstd or one file in a zip; local or behind an fsspec URI.

    Attributes:
        uri: path, `file://`, `package://<package>/<path in it>` for a file shipped in an installed package, or any
            URI fsspec knows (`s3://…`). `*` and `?` match file names; `{partition}` stands for the partition's key.
        connection: Airflow connection that holds the credentials of the URI's storage.
        format: by default told by the file's name.
        encoding: of text files; bytes that are not in it are quarantined with their record.
        delimiter: between the fields of CSV.
        header: column → what stands for it in the header line of CSV, where that is another text (`Ride ID`).
        max_unpacked_bytes: size beyond which an archive is refused.
        watch: whether a new file starts the data DAG.
        poll_seconds: time between two looks for new files.
        settle_seconds: how long a new file must have stood still before it counts as written to its end.
    """

    kind: Literal["file"] = "file"
    uri: Address
    connection: str | None = None
    format: Literal["auto", "csv", "jsonl", "parquet"] = "auto"
    encoding: str = "utf-8"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    header: dict[ColumnName, Annotated[str, Field(min_length=1)]] = {}
    max_unpacked_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * MIB
    watch: bool = False
    poll_seconds: Annotated[float, Field(gt=0)] = 30
    settle_seconds: Annotated[float, Field(ge=0)] = 60

    @property
    def origin(self) -> str:
        """The URI."""
        return public_address(self.uri)

    @property
    def moving(self) -> bool:
        """True where the URI names the partition."""
        return "{partition}" in self.uri

    @model_validator(mode="after")
    def _header_is_of_csv(self) -> FileSourceSpec:
        if self.header and self.format not in {"auto", "csv"}:
            raise ValueError(f"`header` is for CSV, and format is {self.format}")
        if unknown := sorted(set(self.header) - set(self.columns)):
            raise ValueError(f"header names {unknown[0]!r}, which `columns` does not declare")
        texts = [self.header.get(name, name) for name in self.columns]
        if doubled := sorted({text for text in texts if texts.count(text) > 1}):
            raise ValueError(f"two columns are read from {doubled[0]!r}")
        return self


class SqlSourceSpec(SourceSpec):
    """A database by SQLAlchemy.

    Attributes:
        connection: Airflow connection of the database.
        query: a SELECT; `:start` and `:end` are the partition's bounds (UTC instants), `:partition` its key.
        table: read whole, or the rows whose `watermark` lies in the partition; instead of a query.
        watermark: timestamp column of `table`.
        batch_rows: rows fetched at once.
    """

    kind: Literal["sql"]
    connection: str
    query: str | None = None
    table: str | None = None
    watermark: ColumnName | None = None
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000

    @property
    def origin(self) -> str:
        """Connection and table or query."""
        return f"sql:{self.connection}/{self.table or 'query'}"

    @property
    def moving(self) -> bool:
        """True where the statement depends on the partition."""
        words = (":start", ":end", ":partition")
        return self.watermark is not None or (self.query is not None and any(word in self.query for word in words))

    @model_validator(mode="after")
    def _one_way(self) -> SqlSourceSpec:
        if (self.query is None) == (self.table is None):
            raise ValueError("give either `query` or `table`")
        if self.watermark is not None and self.table is None:
            raise ValueError("`watermark` is a column of `table`; a query uses :start and :end")
        return self


class HttpSourceSpec(SourceSpec):
    """Pages of JSON over HTTP.

    Attributes:
        url: of the first page; `{partition}`, `{start}` and `{end}` (ISO instants) are filled in.
        connection: Airflow connection with the host and the credentials (login and password, or a bearer token as
            password without login).
        records: path of the list of records in a page (`data.items`); "" where the page is the list.
        next: path of the next page's address or cursor in a page, `link` for the Link header, or "" for one page.
        cursor_param: query parameter that takes the cursor, where `next` gives no address.
        page_param: query parameter that counts pages from `first_page` up, until one has no records.
        first_page: number of the first page.
        headers: sent with each request; no secrets.
        timeout_s: seconds a page may take.
        max_pages: more than that is an error.
    """

    kind: Literal["http"]
    url: Address
    connection: str | None = None
    records: str = ""
    next: str = ""
    cursor_param: str | None = None
    page_param: str | None = None
    first_page: int = 1
    headers: dict[str, str] = {}
    timeout_s: Annotated[float, Field(gt=0)] = 30
    max_pages: Annotated[int, Field(ge=1)] = 10_000

    @property
    def origin(self) -> str:
        """The URL, without what it asks for."""
        return public_address(self.url)

    @property
    def moving(self) -> bool:
        """True where the URL depends on the partition."""
        return any(word in self.url for word in ("{partition}", "{start}", "{end}"))


class PythonSourceSpec(SourceSpec):
    """A function of the team's that yields batches.

    Attributes:
        function: `package.module:function`, called with the `millrace.partition.Partition`; yields
            `pyarrow.RecordBatch`, `pyarrow.Table` or lists of dicts.
        partitioned: whether it gives other rows for another partition.
        connection: Airflow connection handed to it as keyword `connection`, where named.
    """

    kind: Literal["python"]
    function: Annotated[str, Field(pattern=CALLABLE)]
    partitioned: bool = True
    connection: str | None = None

    @property
    def origin(self) -> str:
        """The function."""
        return f"python:{self.function}"

    @property
    def moving(self) -> bool:
        """True where the function gives other rows for another partition."""
        return self.partitioned


class DeltaSourceSpec(SourceSpec):
    """A Delta table that somebody else writes.

    Attributes:
        uri: path or URI of the table.
        connection: Airflow connection that holds the credentials of its storage.
        version: a version for ever; the newest by default.
        filter_column: column of the table that holds the partition's key.
    """

    kind: Literal["delta"]
    uri: Address
    connection: str | None = None
    version: Annotated[int, Field(ge=0)] | None = None
    filter_column: ColumnName | None = None

    @property
    def origin(self) -> str:
        """The URI."""
        return public_address(self.uri)

    @property
    def moving(self) -> bool:
        """True where rows are filtered by the partition's key."""
        return self.filter_column is not None


def _kind(value: Any) -> str:
    return str(value.get("kind", "file") if isinstance(value, Mapping) else getattr(value, "kind", "file"))


AnySourceSpec = Annotated[
    Annotated[FileSourceSpec, Tag("file")]
    | Annotated[SqlSourceSpec, Tag("sql")]
    | Annotated[HttpSourceSpec, Tag("http")]
    | Annotated[PythonSourceSpec, Tag("python")]
    | Annotated[DeltaSourceSpec, Tag("delta")],
    Discriminator(
        _kind,
        custom_error_type="unknown_kind",
        custom_error_message="kind is one of file, sql, http, python, delta",
    ),
]
