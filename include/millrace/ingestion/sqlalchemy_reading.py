"""One pass over a table or query: the transaction, the rows, and what goes wrong with them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion.base import Connection, missing_column
from millrace.ingestion.columnar import transpose
from millrace.ingestion.connection import scrub, url_of
from millrace.ingestion.sqlalchemy_statement import Asked, Statement, query_statement, table_statement
from millrace.ingestion.stream import Loose, note_undeclared, within
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec.source import SqlSourceSpec

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)
_READ_ONLY = {
    "sqlite": "PRAGMA query_only = ON",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}
_PASSING_STATES = ("08", "53", "57P", "58", "40", "55P03", "57014")
"""SQLSTATE of what passes: connection lost, no resources, shut down, system error, serialisation, lock, cancelled."""
_LASTING = ("authentication", "password", "role", "no pg_hba.conf entry", 'database "', "invalid", "syntax")
_BUSY = ("database is locked", "database table is locked", "disk i/o error")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlPass:
    """One pass over the rows of a partition.

    Attributes:
        spec: the source.
        connection: its database.
        partition: the partition asked for.
        first: key of the domain's first partition.
        last: key of its last one.
    """

    spec: SqlSourceSpec
    connection: Connection
    partition: Partition
    first: str | None
    last: str | None

    @property
    def where(self) -> str:
        """Place, for messages."""
        return f"connection {self.connection.name}, " + (f"table {self.spec.table}" if self.spec.table else "query")

    def stream(self, notes: list[str]) -> Iterator[Loose]:
        """The rows as the database has them.

        Raises:
            SourceError: the statement is wrong, or the database refuses it.
            SourceUnavailableError: it does not answer, or went away in between.
        """
        started = time.perf_counter()
        rows = 0
        with self._told(), self._begin() as connection:
            statement = self._statement(connection)
            for batch in self._batches(connection, statement, notes):
                rows += batch.num_rows
                yield self._loose(batch)
        log.info("%s: %d rows fetched in %.2f s", self.where, rows, time.perf_counter() - started)

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        """A transaction that cannot write, in the source's time zone, and ends in a rollback."""
        engine = sa.create_engine(url_of(self.connection), poolclass=NullPool)
        dialect = engine.dialect.name
        if dialect == "postgresql":
            engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with engine.connect() as connection:
            if dialect == "postgresql":
                zone = {"zone": self.spec.timezone or "UTC"}
                connection.execute(sa.text("SELECT set_config('TimeZone', :zone, true)"), zone)
            elif dialect in _READ_ONLY:
                connection.execute(sa.text(_READ_ONLY[dialect]))
            yield connection

    def _statement(self, connection: sa.Connection) -> Statement:
        make = table_statement if self.spec.query is None else query_statement
        asked = Asked(spec=self.spec, partition=self.partition, first=self.first, last=self.last, where=self.where)
        return make(asked, connection)

    def _batches(self, connection: sa.Connection, statement: Statement, notes: list[str]) -> Iterator[pa.RecordBatch]:
        schema = arrow_schema(self.spec.columns)
        if (connection.dialect.name, connection.dialect.driver) == ("postgresql", "psycopg"):
            from millrace.ingestion.postgres_copy import CopyStream

            text, values = statement.compiled(connection)
            driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
            copy = CopyStream(connection=driver, text=text, values=values)
            self._check(copy.names, statement, notes)
            yield from copy.batches(schema)
            return
        streaming = connection.execution_options(stream_results=True, yield_per=self.spec.batch_rows)
        with streaming.execute(statement.clause, statement.values) as result:
            names = list(result.keys())
            self._check(names, statement, notes)
            for rows in result.partitions(self.spec.batch_rows):
                yield transpose(rows, names, schema)

    def _check(self, names: list[str], statement: Statement, notes: list[str]) -> None:
        for name in self.spec.columns:
            if name not in names:
                raise missing_column(name, statement.present or names, where=self.where)
        note_undeclared(self.spec, statement.present or names, notes)

    def _loose(self, batch: pa.RecordBatch) -> Loose:
        column = self.spec.watermark
        if column is None:
            return Loose(batch=batch)
        nulls = self.first is None or self.first == self.partition.key
        times = batch.column(column)
        keep, known = within(times, column, self.spec, self.partition, where=self.where, nulls=nulls)
        return Loose(batch=batch, keep=keep, known=known)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in our words what the database says, without secrets."""
        try:
            yield
        except (NoSuchModuleError, ImportError) as error:
            raise SourceError(
                f"no driver for databases of type {self.connection.kind!r}: {scrub(str(error), self.connection)}",
                where=self.where,
                remedy="install its SQLAlchemy driver, or name another one in the connection's extra: driver",
            ) from None
        except SQLAlchemyError as error:
            raise self._explain(getattr(error, "orig", None) or error, error) from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "psycopg":
                raise
            raise self._explain(error, error) from None

    def _explain(self, cause: BaseException, error: Exception) -> SourceError:
        lines = scrub(str(cause), self.connection).strip().splitlines() or [type(cause).__name__]
        told = " ".join(line.strip() for line in lines)[:400]
        if _passes(cause, error):
            return SourceUnavailableError(
                f"the database does not answer, or went away: {told}",
                where=self.where,
                remedy="run the task again; check that the database is up and reachable from here",
            )
        return SourceError(
            f"the database refuses: {told}",
            where=self.where,
            remedy="correct query or table of the source, its connection, or the rights of its login",
        )


def _passes(cause: BaseException, error: Exception) -> bool:
    """Whether waiting may help: by SQLSTATE where there is one, else by what the driver calls it."""
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state:
        return str(state).startswith(_PASSING_STATES)
    told = str(cause).lower()
    if type(cause).__module__ == "sqlite3":
        return any(words in told for words in _BUSY)
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    operational = type(cause).__name__ in {"OperationalError", "InterfaceError", "ConnectionTimeout"}
    return lost or (operational and not any(words in told for words in _LASTING))
