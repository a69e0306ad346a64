"""Values and names that the modules of this stage share."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from millrace.artifact import PlainValue
from millrace.errors import FeatureError
from millrace.online import ViewLayout
from millrace.spec import FeatureTableSpec

PROJECT = "millrace"
EVENT_TIMESTAMP = "event_timestamp"
KNOWN_AT = "known_at"
INSTANT = pa.timestamp("us", "UTC")
ARROW_TYPES: dict[str, pa.DataType] = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": INSTANT,
}
DUCKDB_TYPES = {
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "bool": "BOOLEAN",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewReport(PlainValue):
    """What bringing one view to an instant left in the online store.

    Attributes:
        view: the view.
        rows: rows of it in the online store afterwards.
        offered: keys that were written.
        high_water_mark: ISO instant as of which the view answers.
        anew: why all of it was written; "" where what had changed was added.
    """

    view: str
    rows: int
    offered: int
    high_water_mark: str
    anew: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaterializationReport(PlainValue):
    """What a materialization left in the online store.

    Attributes:
        domain: its domain.
        partition: key of the partition to whose end it went.
        views: the views, in the order of the spec.
    """

    domain: str
    partition: str
    views: list[ViewReport]


def key_kind(name: str, kind: pa.DataType) -> str:
    """Kind a join key has in the online store: `string` or `int64`.

    Raises:
        FeatureError: a column of that type is no join key.
    """
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "string"
    if pa.types.is_integer(kind):
        return "int64"
    raise FeatureError(f"join key {name!r} has type {kind}", remedy="join on a text or a whole number; cast it in SQL")


def layout_of(table: FeatureTableSpec, keys: dict[str, str]) -> ViewLayout:
    """Layout of a feature table in the online store.

    Args:
        table: its spec.
        keys: join key → kind.
    """
    return ViewLayout(
        entities=tuple((name, keys[name]) for name in table.entities),
        features=tuple((name, str(kind)) for name, kind in table.features.items()),
        ttl_us=table.ttl_hours * 3_600_000_000,
    )
