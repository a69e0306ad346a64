"""Entity frames: pandas, Arrow, or a reference to rows that are read in pieces and never pass through pandas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from feast import FeatureView
from feast.repo_config import RepoConfig
from feast.utils import compute_non_entity_date_range

from millrace.errors import FeatureError
from millrace.features.asof import microseconds
from millrace.features.base import EVENT_TIMESTAMP, INSTANT
from millrace.features.feast_request import Request
from millrace.features.feast_scan import scan_source
from millrace.features.feast_sql import open_query, refuse_doubles
from millrace.lake import Table

EntityFrame = Any  # pandas, pa.Table, pa.RecordBatch, pads.Dataset, deltalake.DeltaTable, or text


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Entity rows that can be read more than once, in one order.

    Attributes:
        schema: their columns.
        read: pieces of about so many rows; one piece where the rows are in memory anyway.
        timestamp: column with the instants as of which features are looked up.
    """

    schema: pa.Schema
    read: Callable[[int], Iterator[pa.Table]]
    timestamp: str

    def bounds(self) -> tuple[datetime | None, datetime | None]:
        """First and last instant; None where there is none."""
        found: list[datetime] = []
        for piece in self.read(1_000_000):
            ends = pc.min_max(piece.column(self.timestamp)).as_py()
            found += [item for item in (ends["min"], ends["max"]) if item is not None]
        return (min(found), max(found)) if found else (None, None)


def open_frame(entity_df: EntityFrame, config: RepoConfig) -> Frame:
    """The entity rows of a retrieval.

    Args:
        entity_df: pandas or Arrow; an Arrow dataset or a Delta table; or a text: the name of a table of the lake, the
            path or URI of a Delta table (a folder) or a Parquet file, or SQL for DuckDB, in which tables of the lake
            stand under their quoted names.
        config: Feast's configuration.

    Raises:
        FeatureError: none of these, no timestamp, or one without a time zone.
    """
    schema, read = _rows(entity_df, config)
    refuse_doubles(schema.names)
    return Frame(schema=schema, read=read, timestamp=timestamp_column(schema))


def range_frame(
    views: list[FeatureView],
    requests: list[Request],
    start: datetime | None,
    end: datetime | None,
) -> Frame:
    """Entity rows for a range of time: every key with a fact in it, as of its end.

    Views with other keys add rows of their own, where the keys of the first are null.
    """
    if (
        start is not None
        and end is not None
        and microseconds(pa.array([start]))[0].as_py() > microseconds(pa.array([end]))[0].as_py()
    ):
        raise FeatureError(f"the range of time ends at {end}, before it starts at {start}", remedy="swap the two")
    begin, until = compute_non_entity_date_range(views, start_date=start, end_date=end)
    first, last = (int(microseconds(pa.array([moment], INSTANT))[0].as_py()) for moment in (begin, until))
    found: dict[tuple[str, ...], list[pa.Table]] = {}
    for request in requests:
        names = tuple(name for _, name in request.keys)
        scan = scan_source(request.source, request.dataset, request.index, earliest=first, latest=last)
        kinds = [(name, request.dataset.schema.field(column).type) for column, name in request.keys]
        held = found.setdefault(names, [pa.schema(kinds).empty_table()])
        for _, batch in scan.stream([column for column, _ in request.keys]):
            part = pa.table(batch.columns, names=list(names)) if names else pa.table({})
            held.append(part.group_by(list(names), use_threads=False).aggregate([]) if names else part)
    tables = []
    for names, parts in found.items():
        if names and parts:
            whole = pa.concat_tables(parts, promote_options="permissive")
            tables.append(whole.group_by(list(names), use_threads=False).aggregate([]).drop_null())
    rows = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
    count = rows.num_rows if tables else 1
    at = pa.array(np.full(count, last)).cast(INSTANT)
    rows = rows.append_column(EVENT_TIMESTAMP, at) if tables else pa.table({EVENT_TIMESTAMP: at})
    return Frame(schema=rows.schema, read=_whole(rows), timestamp=EVENT_TIMESTAMP)


def timestamp_column(schema: pa.Schema) -> str:
    """The column with the instants as of which features are looked up.

    Raises:
        FeatureError: there is none, or more than one and none is called `event_timestamp`, or it has no time zone.
    """
    candidates = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    if EVENT_TIMESTAMP in candidates:
        name = EVENT_TIMESTAMP
    elif len(candidates) == 1 and EVENT_TIMESTAMP not in schema.names:
        name = candidates[0]
    else:
        if EVENT_TIMESTAMP in schema.names:
            raise FeatureError(
                f"the entity frame has no timestamp column: its {EVENT_TIMESTAMP!r} is "
                f"{schema.field(EVENT_TIMESTAMP).type}",
                remedy="make it a timestamp with a time zone, such as pd.to_datetime(..., utc=True)",
            )
        raise FeatureError(
            f"the entity frame has no timestamp column {EVENT_TIMESTAMP!r}",
            remedy=f"add it; timestamps found: {', '.join(candidates) or '(none)'}",
        )
    if schema.field(name).type.tz is None:
        raise FeatureError(
            f"{name!r} of the entity frame is {schema.field(name).type}: timestamps without a time zone",
            remedy="say which instants are meant: UTC, or localize them to the zone they were written in",
        )
    return name


def _rows(entity_df: EntityFrame, config: RepoConfig) -> tuple[pa.Schema, Callable[[int], Iterator[pa.Table]]]:
    if isinstance(entity_df, pd.DataFrame):
        refuse_doubles([str(name) for name in entity_df.columns])
        try:
            entity_df = pa.Table.from_pandas(entity_df, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise FeatureError(
                f"the entity frame has a column of mixed types, or numbers beyond 64 bits: {error}",
                remedy="give each column one type",
            ) from error
    if isinstance(entity_df, pa.RecordBatch):
        entity_df = pa.Table.from_batches([entity_df])
    if isinstance(entity_df, pa.Table):
        return entity_df.schema, _whole(entity_df)
    if isinstance(entity_df, str):
        text = entity_df.strip()
        if any(character.isspace() for character in text):
            return open_query(text, config)
        return _dataset(_named(text, config))
    if hasattr(entity_df, "to_pyarrow_dataset"):
        entity_df = entity_df.to_pyarrow_dataset()
    if isinstance(entity_df, pads.Dataset):
        return _dataset(entity_df)
    raise FeatureError(
        f"an entity frame cannot be a {type(entity_df).__name__}",
        remedy="give pandas, Arrow (a table or a dataset), a Delta table, the name of a table, or SQL",
    )


def _named(text: str, config: RepoConfig) -> Any:
    table = Table(config.offline_store.resolve_lake(), text)
    if "://" not in text and not text.startswith("/") and table.exists():
        return table.open().to_pyarrow_dataset()
    try:
        if text.endswith(".parquet"):
            return pads.dataset(text, format="parquet")
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            return DeltaTable(text).to_pyarrow_dataset()
        except (TableNotFoundError, DeltaError) as error:
            raise OSError(str(error)) from error
    except (OSError, pa.ArrowInvalid) as error:
        raise FeatureError(
            f"no entity rows at {text!r}: {error}",
            where=table.uri,
            remedy="name a table of the lake, or the path of a Delta table or Parquet file",
        ) from error


def _dataset(dataset: Any) -> tuple[pa.Schema, Callable[[int], Iterator[pa.Table]]]:
    def read(rows: int) -> Iterator[pa.Table]:
        batches = dataset.to_batches(batch_size=min(rows, 131_072), batch_readahead=4, fragment_readahead=1)
        return _gathered(batches, dataset.schema, rows)

    return dataset.schema, read


def _gathered(batches: Iterator[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """Batches put together to tables of about so many rows."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= rows:
            yield pa.Table.from_batches(held, schema)
            held, count = [], 0
    if held:
        yield pa.Table.from_batches(held, schema)


def _whole(table: pa.Table) -> Callable[[int], Iterator[pa.Table]]:
    return lambda rows: iter([table])
