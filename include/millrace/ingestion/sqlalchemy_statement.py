"""The statement that reads a partition: the team's query with its bounds, or a SELECT made for a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import NoSuchTableError

from millrace.errors import SourceError
from millrace.ingestion.base import missing_column
from millrace.ingestion.cast import cast_column
from millrace.ingestion.columnar import to_array
from millrace.ingestion.placement import place
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec.source import SqlSourceSpec

_MAX_PLACES = 10_000
_MAX_PICKED = 500
_DAY = timedelta(days=1)
_SQLITE_FORM = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a statement is made for.

    Attributes:
        spec: the source.
        partition: the partition asked for.
        first: key of the domain's first partition.
        last: key of its last one.
        where: place, for messages.
    """

    spec: SqlSourceSpec
    partition: Partition
    first: str | None
    last: str | None
    where: str

    @property
    def nulls(self) -> bool:
        """Whether rows without a watermark are read: with the first partition only, so that they count once."""
        return self.first is None or self.first == self.partition.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A SELECT and the values of its parameters.

    Attributes:
        clause: for SQLAlchemy.
        values: parameter → value.
        present: columns that the table has, where they were looked up.
    """

    clause: Any
    values: Mapping[str, Any] = field(default_factory=dict)
    present: list[str] = field(default_factory=list)

    def compiled(self, connection: sa.Connection) -> tuple[str, dict[str, Any]]:
        """The text for the connection's driver, and the values it takes."""
        form = self.clause.compile(dialect=connection.dialect)
        return str(form), dict(form.construct_params(dict(self.values)))


def query_statement(asked: Asked, connection: sa.Connection) -> Statement:
    """The team's query with `:start`, `:end` and `:partition` bound.

    Raises:
        SourceError: it asks for another parameter.
    """
    spec, partition = asked.spec, asked.partition
    clause = sa.text((spec.query or "").strip().rstrip(";"))
    bounds: tuple[Any, Any] = (partition.start, partition.end)
    if connection.dialect.name == "sqlite":  # it has no type for times and compares texts
        bounds = (partition.start.strftime(_SQLITE_FORM), partition.end.strftime(_SQLITE_FORM))
    known = {"start": bounds[0], "end": bounds[1], "partition": partition.key}
    names = set(clause.compile().params)
    if unknown := sorted(names - set(known)):
        raise SourceError(
            f"the query has a parameter :{unknown[0]}, and there are only :start, :end and :partition",
            where=asked.where,
            remedy=f"use one of them; where a colon is meant, write \\:{unknown[0]}",
        )
    return Statement(clause=clause, values={name: known[name] for name in names})


def table_statement(asked: Asked, connection: sa.Connection) -> Statement:
    """The declared columns of a table, in the order of its key, with as much of the partition as SQL can tell.

    Raises:
        SourceError: there is no such table, or it lacks a declared column.
    """
    spec = asked.spec
    schema, _, name = (spec.table or "").rpartition(".")
    try:
        found = {item["name"]: item["type"] for item in sa.inspect(connection).get_columns(name, schema or None)}
    except NoSuchTableError:
        raise SourceError(
            f"there is no table {spec.table!r}",
            where=asked.where,
            remedy="correct `table` of the source, or make the table",
        ) from None
    wanted = list(spec.columns)
    if spec.watermark is not None and spec.watermark not in wanted:
        wanted.append(spec.watermark)
    for column in wanted:
        if column not in found:
            raise missing_column(column, list(found), where=asked.where)
    table = sa.table(name, *(sa.column(column) for column in wanted), schema=schema or None)
    clause = sa.select(*table.c).order_by(*(table.c[column] for column in _order(spec, wanted, found)))
    if spec.watermark is not None:
        clause = clause.where(_in_time(table.c[spec.watermark], found[spec.watermark], asked, connection))
    if spec.partition_columns:
        clause = clause.where(_in_place(table, asked, connection))
    return Statement(clause=clause, present=list(found))


def _order(spec: SqlSourceSpec, wanted: list[str], found: Mapping[str, Any]) -> list[str]:
    """The key where the table has all of it; else all columns that can be ordered, those of the key first."""
    key = [column for column in spec.key if column in wanted]
    if key and len(key) == len(spec.key):
        return key
    rest = [column for column in wanted if column not in key and not isinstance(found[column], sa.JSON)]
    return [*key, *rest]


def _in_time(
    column: sa.ColumnElement[Any], kind: Any, asked: Asked, connection: sa.Connection
) -> sa.ColumnElement[bool]:
    """Rows of the partition, and no fewer: the exact bounds are checked once the times are read.

    PostgreSQL compares instants. Elsewhere a time may stand without its zone, so that a day more is read at either end.
    """
    dialect = connection.dialect.name
    start, end = asked.partition.start, asked.partition.end
    if dialect == "sqlite":
        if not isinstance(kind, sa.String | sa.DateTime | sa.Date | sa.types.NullType):
            return sa.true()
        column = sa.func.datetime(column)
        inside = _between(column, *((at.strftime(_SQLITE_FORM)) for at in (start - _DAY, end + _DAY)))
    elif not isinstance(kind, sa.DateTime | sa.Date):
        return sa.true()
    elif dialect == "postgresql":
        inside = _between(column, *(sa.literal(at, sa.DateTime(timezone=True)) for at in (start, end)))
    else:
        inside = _between(column, *(at.replace(tzinfo=None) for at in (start - _DAY, end + _DAY)))
    return sa.or_(inside, column.is_(None)) if asked.nulls else inside


def _between(column: sa.ColumnElement[Any], start: Any, end: Any) -> sa.ColumnElement[bool]:
    return sa.and_(column >= start, column < end)


def _in_place(table: sa.TableClause, asked: Asked, connection: sa.Connection) -> sa.ColumnElement[bool]:
    """Rows of the partition, and those of no partition of the domain, by the values that the columns really hold.

    Where the columns hold too many different values, all rows are read, and told apart afterwards.
    """
    names = list(asked.spec.partition_columns)
    kinds = connection.execute(sa.select(*(table.c[name] for name in names)).distinct().limit(_MAX_PLACES + 1))
    places = kinds.fetchall()
    if len(places) > _MAX_PLACES:
        return sa.true()
    picked = _picked(places, asked)
    if len(picked) > _MAX_PICKED:
        return sa.true()
    return sa.or_(sa.false(), *(_equals(table, names, place) for place in picked))


def _picked(places: Sequence[sa.Row[Any]], asked: Asked) -> list[sa.Row[Any]]:
    if not places:
        return []
    spec, schema = asked.spec, arrow_schema(asked.spec.columns)
    columns: dict[str, pa.Array] = {}
    for name, values in zip(spec.partition_columns, zip(*places, strict=True), strict=True):
        target = schema.field(name)
        columns[name] = cast_column(
            to_array(values, target.type),
            target,
            null_values=spec.null_values,
            clock=spec.clock,
            where=asked.where,
        ).values
    found = place(columns, spec, asked.partition, asked.first, asked.last)
    wanted = found.asked | found.unreadable | found.outside
    return [row for row, take in zip(places, wanted.tolist(), strict=True) if take]


def _equals(table: sa.TableClause, names: list[str], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    pairs = zip(names, values, strict=True)
    return sa.and_(*(table.c[name].is_(None) if value is None else table.c[name] == value for name, value in pairs))
