"""The source of kind `sql`: a table or a query of any database that SQLAlchemy reaches."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.ingestion.base import DeclaredSource
from millrace.ingestion.stream import StreamReading
from millrace.partition import Partition
from millrace.spec.source import SqlSourceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlSource(DeclaredSource[SqlSourceSpec]):
    """A database. Each reading is one statement in one transaction that cannot write.

    A table is read in the order of its key, so that two readings give the same rows in the same order; the order of a
    query is the query's own. Rows that tell no partition (null in a partition column) are set aside in every reading;
    those without a watermark in that of the domain's first partition.
    """

    def fingerprint(self, partition: Partition) -> None:
        """None: no database tells whether rows changed, and a file of SQLite keeps new ones in its log for a while."""

    def read(self, partition: Partition) -> StreamReading:
        """One pass over the rows of a partition.

        Raises:
            SourceError: there is no such connection.
        """
        from millrace.ingestion.sqlalchemy_reading import SqlPass

        work = SqlPass(
            spec=self.spec,
            connection=self.connections(self.spec.connection),
            partition=partition,
            first=self.first,
            last=self.last,
        )
        return StreamReading(
            spec=self.spec,
            partition=partition,
            first=self.first,
            last=self.last,
            where=work.where,
            stream=work.stream,
        )
