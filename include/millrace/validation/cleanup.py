"""From raw rows to clean ones: the declared steps run in DuckDB, rows they cannot be done on set aside."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.cleanup import ROW, Plan, PlannedStep, compile_cleanup, without_rows
from millrace.cleanup.plan import FAULT, Columns, first_select, numbered, over
from millrace.errors import ConservationError, ContractError
from millrace.lake.duck import quoted, text
from millrace.spec.cleanup import DeduplicateStep, PythonStep
from millrace.spec.source import SourceSpec
from millrace.validation.base import SetAside, StepReport
from millrace.validation.duplicates import superseded_rows
from millrace.validation.function import BATCH_ROWS, run_function, withheld

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]
_TABLE = "cleaned"
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedUp:
    """Rows after clean-up.

    Attributes:
        table: view on the connection with the clean columns and `row#`, in the order of the raw rows.
        steps: what each step did.
        aside: rows that a step could not be done on, each for the first reason, and superseded ones.
    """

    table: str
    steps: list[StepReport]
    aside: list[SetAside]


def run_cleanup(connection: Any, spec: SourceSpec, *, source: str = "raw", where: str, folder: Path) -> CleanedUp:
    """Do the steps of a source's clean-up on the rows of a raw partition.

    The SQL steps are views on one another: a pass finds the rows at fault, and the values are computed as they are
    asked for. Only what a Python function gives back is written down, as Parquet.

    Args:
        connection: a DuckDB connection that may write to `folder`; views and temporary tables whose names begin
            with `cleaned` are made on it.
        spec: the source.
        source: view with the raw columns and `row#`, a number of its own for each row, none much above their count.
        where: name of table and partition, for messages.
        folder: an existing folder for what has to be written down; it must outlive the connection.

    Raises:
        SpecError: a step cannot work, or a Python function gives back other rows or columns than it should.
        ContractError: a Python function raises, or DuckDB runs out of memory.
    """
    plan = compile_cleanup(spec, where=where)
    with _explained(where):
        run = _Run(connection, plan, source, folder, where)
        for step in plan.steps:
            run.do(step)
        return run.finish()


class _Run:
    """The steps done so far: the rows that came through, what is put over them, and reports."""

    def __init__(self, connection: Any, plan: Plan, source: str, folder: Path, where: str) -> None:
        self.connection = connection
        self.plan = plan
        self.folder = folder
        self.where = where
        self.reports: list[StepReport] = []
        self.aside: list[SetAside] = []
        self._pending: list[PlannedStep] = []
        self._base = f"SELECT * FROM {quoted(source)}"
        self._selects = [first_select(plan.raw)]
        self._rows = int(connection.execute(f"SELECT count(*) FROM {quoted(source)}").fetchall()[0][0])
        self._made = 0

    def do(self, step: PlannedStep) -> None:
        """Do one step, or put it off until its rows are asked for."""
        if isinstance(step.step, DeduplicateStep):
            self._deduplicate(step, step.step)
        elif isinstance(step.step, PythonStep):
            self._call(step, step.step.python)
        else:
            self._selects += step.selects
            self._pending.append(step)

    def finish(self) -> CleanedUp:
        """Make the view of what came through, and count it."""
        self._settle()
        own = _listed(self.plan.columns)
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW {_TABLE} AS {over(own, self._query())}")
        found = int(self.connection.execute(f"SELECT count(*) FROM {_TABLE}").fetchall()[0][0])
        if found != self._rows:
            raise ConservationError(
                f"{self._rows} rows should have come through clean-up, and {found} have",
                where=self.where,
                remedy="report this with the domain's `cleanup`; nothing was published",
            )
        for report in self.reports:
            log.info("%s: %s: %d rows in, %d out", self.where, report.step, report.rows_in, report.rows_out)
        return CleanedUp(table=_TABLE, steps=self.reports, aside=self.aside)

    def _settle(self) -> None:
        """Find the rows at fault in the steps put off, and leave them out of what these are put over."""
        found = _rows_at_fault(self.connection, self._query()) if any(step.faults for step in self._pending) else {}
        self._leave_out([rows for rows in found.values() if len(rows)])
        for step in self._pending:
            lost = 0
            for number, fault in step.faults.items():
                lost += self._set_aside(found.get(number, _NONE), fault.reason, fault.columns)
            self._report(step, lost)
        self._pending = []

    def _deduplicate(self, step: PlannedStep, declared: DeduplicateStep) -> None:
        self._settle()
        rows = superseded_rows(self.connection, self._query(), declared)
        origins = {origin for name in declared.deduplicate for origin in step.before[name].origins}
        self._leave_out([rows])
        columns = tuple(name for name in self.plan.raw if name in origins)
        self._report(step, self._set_aside(rows, "duplicate_superseded", columns))

    def _call(self, step: PlannedStep, name: str) -> None:
        self._settle()
        path = self.folder / f"{self._name('function')}.parquet"
        given = self.connection.sql(over(_listed(step.before), self._query()))
        with closing(given.to_arrow_reader(BATCH_ROWS)) as batches:
            rows = run_function(
                batches,
                name,
                takes=numbered(step.before),
                gives=numbered(step.after),
                path=path,
                where=f"{self.where}, {step.label}",
            )
        self._base = f"SELECT * FROM read_parquet({text(str(path))})"
        self._selects = [first_select(step.after)]
        ((_, fault),) = step.faults.items()
        self._report(step, self._set_aside(rows, fault.reason, fault.columns))

    def _query(self) -> str:
        query = self._base
        for select in self._selects:
            query = over(select, query)
        return query

    def _leave_out(self, rows: list[Rows]) -> None:
        together = np.concatenate([_NONE, *rows])
        self._base = without_rows(self.connection, self._base, together, name=self._name("left_out"))

    def _set_aside(self, rows: Rows, reason: str, columns: tuple[str, ...]) -> int:
        if len(rows):
            self.aside.append(SetAside(reason=reason, columns=columns, rows=rows, stage="raw"))
        return len(rows)

    def _report(self, step: PlannedStep, lost: int) -> None:
        self.reports.append(StepReport(step=step.label, rows_in=self._rows, rows_out=self._rows - lost))
        self._rows -= lost

    def _name(self, what: str) -> str:
        self._made += 1
        return f"{_TABLE}_{self._made}_{what}"


def _rows_at_fault(connection: Any, query: str) -> dict[int, Rows]:
    """Number of a fault → positions of the rows that have it, sorted.

    All rows are looked through here: a filter would make DuckDB try the values of a row at fault a second time.
    """
    found: dict[int, list[Rows]] = {}
    tried = connection.sql(over(f"{quoted(FAULT)}, {quoted(ROW)}", query))
    with closing(tried.to_arrow_reader(BATCH_ROWS)) as batches:
        for batch in batches:
            faults, rows = batch.columns
            if faults.null_count == len(faults):
                continue
            faulty = faults.is_valid()
            numbers, positions = faults.filter(faulty).to_numpy(), rows.filter(faulty).to_numpy()
            for number in np.unique(numbers):
                found.setdefault(int(number), []).append(positions[numbers == number])
    return {number: np.sort(np.concatenate(parts)) for number, parts in found.items()}


def _listed(columns: Columns) -> str:
    return ", ".join(quoted(name) for name in [*columns, ROW])


@contextmanager
def _explained(where: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise ContractError(
            "clean-up needs more memory than the source's limit",
            where=where,
            remedy="raise `memory_limit` of the source, or make its expressions smaller",
        ) from error
    except duckdb.Error as error:
        raise ContractError(
            f"clean-up fails: {withheld(str(error).splitlines()[0])}", where=where, remedy="correct `cleanup`"
        ) from None
