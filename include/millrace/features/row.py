"""Entity rows: the clean rows a use case predicts for, with keys, what a request would hold, and the label."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import FeatureError
from millrace.features.base import EVENT_TIMESTAMP, INSTANT
from millrace.features.label import label_faults
from millrace.features.source import plain_view
from millrace.lake import Table
from millrace.lake.duck import arrow, connect
from millrace.package import FeatureSpec
from millrace.spec import DomainSpec, UseCaseSpec

_CASTS = {"number": "DOUBLE", "category": "VARCHAR"}


def entity_table(use_case: UseCaseSpec, domain: DomainSpec, partition: str, *, lake: str) -> pa.Table:
    """Entity rows of one partition, ordered by time and key.

    Raises:
        FeatureError: no clean rows of the partition, a column the spec names is missing, or label or weight is no
            number of the row alone.
    """
    entity = use_case.entity
    source = Table(lake, domain.clean_table(entity.source))
    if not source.exists() or partition not in source.partitions():
        raise FeatureError(
            f"source {entity.source!r} has no clean rows of {partition}",
            where=source.uri,
            remedy=f"ingest and validate {entity.source!r} for {partition} first",
        )
    connection = connect(external=False)
    try:
        connection.register("clean", source.read(partitions=[partition]))
        plain_view(connection, entity.source, "clean")
        for fault in label_faults(connection, use_case, f"use_cases/{use_case.name}.yaml"):
            raise fault
        rows = _run(connection, _select(use_case, domain), use_case)
    finally:
        connection.close()
    instants = {EVENT_TIMESTAMP, "label_known_at"}
    schema = pa.schema(
        [pa.field(field.name, INSTANT if field.name in instants else field.type) for field in rows.schema]
    )
    return _placed(rows.cast(schema), use_case) if use_case.classes else rows.cast(schema)


def _select(use_case: UseCaseSpec, domain: DomainSpec) -> str:
    entity, label = use_case.entity, use_case.label
    features = FeatureSpec.of(use_case, domain)
    columns = {item.name: f'CAST("{item.name}" AS {_CASTS[item.kind]})' for item in features.request}
    keys = {key: f'"{key}"' for key in features.entities}
    # A join key that is also a number of the row stays what it joins on.
    columns = {**keys, **{name: cast for name, cast in columns.items() if name not in keys or "VARCHAR" in cast}}
    chosen = [
        f'CAST("{entity.key}" AS VARCHAR) AS key',
        f'"{entity.timestamp}" AS {EVENT_TIMESTAMP}',
        *(f'{expression} AS "{name}"' for name, expression in columns.items()),
        f"CAST(({label.expression}) AS {'VARCHAR' if use_case.classes else 'DOUBLE'}) AS label",
        f'"{label.known_at}" AS label_known_at',
        *([f"CAST(({label.weight}) AS DOUBLE) AS label_weight"] if label.weight else []),
    ]
    return f"SELECT {', '.join(chosen)} FROM {entity.source} ORDER BY {EVENT_TIMESTAMP}, key"


def _placed(rows: pa.Table, use_case: UseCaseSpec) -> pa.Table:
    """Labels as places in the classes of the use case."""
    texts = rows.column("label")
    places = pc.index_in(texts, value_set=pa.array(use_case.classes, pa.string()))
    unknown = pc.unique(texts.filter(pc.and_(pc.is_valid(texts), pc.is_null(places))))
    if len(unknown):
        raise FeatureError(
            f"labels are none of the classes: {', '.join(map(repr, unknown.to_pylist()[:5]))}",
            where=f"use_cases/{use_case.name}.yaml: label.expression",
            remedy=f"add them to `classes`, or map them to one of {', '.join(use_case.classes)}, or to null",
        )
    return rows.set_column(rows.column_names.index("label"), "label", pc.cast(places, pa.float64()))


def _run(connection: Any, query: str, use_case: UseCaseSpec) -> pa.Table:
    import duckdb

    try:
        return arrow(connection.sql(query))
    except duckdb.Error as error:
        raise FeatureError(
            f"the entity rows cannot be made: {error}",
            where=f"use_cases/{use_case.name}.yaml: entity, label, features.row, on_demand",
            remedy="correct the column or expression; where single values do not convert, TRY_CAST gives null for them",
        ) from error
