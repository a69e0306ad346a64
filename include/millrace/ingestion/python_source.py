"""The source of kind `python`: a function of the team's that yields batches."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.errors import MillraceError, SourceError, SourceUnavailableError
from millrace.ingestion.base import Connection, DeclaredSource, missing_column, told_fields
from millrace.ingestion.columnar import to_batch
from millrace.ingestion.conform import Fault
from millrace.ingestion.connection import scrub
from millrace.ingestion.stream import MAX_ROWS, Loose, StreamReading, note_undeclared
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec.source import PythonSourceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonSource(DeclaredSource[PythonSourceSpec]):
    """A function. It is called anew for each reading, and has to yield the same rows in the same order then."""

    def fingerprint(self, partition: Partition) -> None:
        """None: nobody knows what a function would yield."""

    def read(self, partition: Partition) -> StreamReading:
        """One pass over the rows of a partition.

        Raises:
            SourceError: there is no such connection.
        """
        name = self.spec.connection
        work = _Call(spec=self.spec, connection=None if name is None else self.connections(name), partition=partition)
        return StreamReading(
            spec=self.spec,
            partition=partition,
            first=self.first,
            last=self.last,
            where=self.origin,
            stream=work.stream,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One call of the function."""

    spec: PythonSourceSpec
    connection: Connection | None
    partition: Partition

    def stream(self, notes: list[str]) -> Iterator[Loose]:
        """What the function yields. A field that no record has is an error, one that some lack is null."""
        seen: dict[str, None] = {}
        records = 0
        for given in self._given():
            if isinstance(given, list):
                for start in range(0, len(given), MAX_ROWS):
                    yield self._of_records(given[start : start + MAX_ROWS], seen)
                records += sum(isinstance(item, dict) for item in given)
            elif isinstance(given, pa.RecordBatch | pa.Table):
                note_undeclared(self.spec, given.schema.names, notes)
                yield from (Loose(batch=batch) for batch in _pieces(given))
            else:
                raise self._failed(
                    f"yielded {type(given).__name__}", "yield pyarrow.RecordBatch, pyarrow.Table or lists of dicts"
                )
        note_undeclared(self.spec, list(seen), notes, keys=True)
        for name in self.spec.columns if records else ():
            if name not in seen:
                raise missing_column(name, told_fields(self.spec, seen), where=self.spec.origin)

    def _given(self) -> Iterator[Any]:
        function = self._function()
        keywords = {} if self.connection is None else {"connection": self.connection}
        try:
            found = function(self.partition, **keywords)
            if not isinstance(found, Iterable) or isinstance(found, pa.RecordBatch | pa.Table | dict | str | bytes):
                raise self._failed(f"returned {type(found).__name__}", "write it as a generator of batches")
            yield from found
        except MillraceError:
            raise
        except (ConnectionError, TimeoutError) as error:
            raise SourceUnavailableError(
                self._told(error), where=self.spec.origin, remedy="run the task again once what it reads from is well"
            ) from error
        except SystemExit as error:
            raise self._failed(f"ends the process: {self._told(error)}", "raise an error there instead") from error
        except Exception as error:
            raise self._failed(self._told(error), "mend the function") from error

    def _function(self) -> Any:
        module, _, name = self.spec.function.partition(":")
        try:
            function = getattr(importlib.import_module(module), name, None)
        except (Exception, SystemExit) as error:
            raise self._failed(
                f"module {module!r} cannot be imported: {self._told(error)}", "correct `function`, or mend the module"
            ) from error
        if not callable(function):
            raise self._failed(f"module {module!r} has no function {name!r}", "correct `function` of the source")
        return function

    def _of_records(self, items: list[Any], seen: dict[str, None]) -> Loose:
        records = [item if isinstance(item, dict) else {} for item in items]
        for record in records:
            seen.update(dict.fromkeys(record))
        odd = np.array([not isinstance(item, dict) for item in items], dtype=bool)
        batch = to_batch(records, arrow_schema(self.spec.columns), decimal=False)
        return Loose(batch=batch, records=items, known=[(odd, Fault("parse", None, "no dict", self.partition.key))])

    def _told(self, error: BaseException) -> str:
        return scrub(f"{type(error).__name__}: {error}"[:400], self.connection)

    def _failed(self, what: str, remedy: str) -> SourceError:
        return SourceError(f"function {self.spec.function!r}: {what}", where=self.spec.origin, remedy=remedy)


def _pieces(given: pa.RecordBatch | pa.Table) -> Iterator[pa.RecordBatch]:
    if isinstance(given, pa.Table):
        yield from given.to_batches(max_chunksize=MAX_ROWS)
        return
    for start in range(0, given.num_rows, MAX_ROWS):
        yield given.slice(start, MAX_ROWS)
