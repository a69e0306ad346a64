"""Counting for Great Expectations: all checks of a contract in few scans, in a given DuckDB connection.

One scan counts what one scan can count; each column that must be unique, sorted or grouped takes one of its own. Only
where rows fail do others follow: one for the positions of rows to set aside, one for the values shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.lake import duck
from millrace.validation.base import ROW
from millrace.validation.duckdb_aggregate import TableCheck
from millrace.validation.duckdb_column import Column, UncountedError
from millrace.validation.duckdb_domain import EVERY
from millrace.validation.duckdb_row import RowCheck

SHOWN = 20
"""How many failing rows are shown."""
_FLAGS = 62
"""How many conditions go into one whole number of 64 bits."""
_ROW = duck.quoted(ROW)
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCount:
    """What a `RowCheck` counted.

    Attributes:
        domain: rows that the expectation is about.
        considered: those that it looks at.
        failing: those that it fails.
    """

    domain: int
    considered: int
    failing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The first failing rows, by position.

    Attributes:
        rows: their positions.
        values: of the columns shown, one mapping for each row.
    """

    rows: Sequence[int] = ()
    values: Sequence[Mapping[str, Any]] = ()


@dataclass(slots=True, kw_only=True)
class Counted:
    """Results by the key under which a check was handed in; `uncounted` says why others have none."""

    rows: dict[str, RowCount] = field(default_factory=dict)
    tables: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    uncounted: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Counts over one table of a connection; changes neither.

    Attributes:
        connection: a `duckdb.DuckDBPyConnection`.
        table: table or view that has a column `row#`.
    """

    connection: Any
    table: str

    def count(self, rows: Mapping[str, RowCheck], tables: Mapping[str, TableCheck]) -> Counted:
        """Everything but positions and values of failing rows."""
        counted = Counted()
        asked = {key: self._asked(check) for key, check in rows.items()} | {
            key: dict(check.aggregates) for key, check in tables.items()
        }
        numbers = self._numbers(asked, {key: check.probes for key, check in rows.items()}, counted)
        for key in numbers:
            self._finish(key, counted, lambda key=key: self._settle(key, rows, tables, numbers[key], counted))  # type: ignore[misc]
        return counted

    def failing_rows(self, checks: Mapping[str, RowCheck]) -> dict[str, Rows]:
        """Key → positions of the rows that fail a check, sorted."""
        plain = [key for key, check in checks.items() if not check.key]
        found: dict[str, Rows] = {}
        for start in range(0, len(plain), _FLAGS):
            some = plain[start : start + _FLAGS]
            flags = " | ".join(
                f"CASE WHEN {checks[key].failing} THEN {1 << bit} ELSE 0 END::BIGINT" for bit, key in enumerate(some)
            )
            table = duck.arrow(
                self.connection.sql(
                    f"SELECT * FROM (SELECT {_ROW} AS place, {flags} AS flags FROM {self._from}) WHERE flags <> 0"
                )
            )
            places, mask = table["place"].to_numpy(), table["flags"].to_numpy()
            for bit, key in enumerate(some):
                found[key] = np.sort(places[mask & np.int64(1 << bit) != 0])
        for key, check in checks.items():
            if check.key:
                rows = duck.arrow(self.connection.sql(f"SELECT {_ROW} AS place FROM {self._doubled(check)}"))
                found[key] = np.sort(rows["place"].to_numpy())
        return found

    def shown(self, checks: Mapping[str, RowCheck]) -> dict[str, Shown]:
        """Key → the first rows that fail a check, with their values."""
        plain = {key: check for key, check in checks.items() if not check.key}
        picks = [f"{_first(check.columns)} FILTER (WHERE {check.failing})" for check in plain.values()]
        found = (
            dict(zip(plain, self._one(f"SELECT {', '.join(picks)} FROM {self._from}"), strict=True)) if picks else {}
        )
        for key, check in checks.items():
            if check.key:
                (found[key],) = self._one(f"SELECT {_first(check.columns)} FROM {self._doubled(check)}")
        return {key: _shown(first or [], checks[key].columns) for key, first in found.items()}

    @property
    def _from(self) -> str:
        return duck.quoted(self.table)

    def _asked(self, check: RowCheck) -> dict[str, str]:
        asked = {"domain": _count(check.domain), "considered": _count(check.considered)}
        if check.failing:
            asked["failing"] = _count(check.failing)
        if check.guards:
            asked["guards"] = _count(" OR ".join(f"({guard})" for guard in check.guards))
        return asked

    def _numbers(
        self, asked: Mapping[str, Mapping[str, str]], probes: Mapping[str, Sequence[str]], counted: Counted
    ) -> dict[str, dict[str, Any]]:
        """All aggregates in one scan; where one of them cannot be computed, those of each check by themselves."""
        import duckdb

        usable = {key: wanted for key, wanted in asked.items() if self._probe(key, probes.get(key, ()), counted)}
        try:
            values = self._aggregates(sql for wanted in usable.values() for sql in wanted.values())
            return {key: {name: values[sql] for name, sql in wanted.items()} for key, wanted in usable.items()}
        except (duckdb.DataError, duckdb.ProgrammingError):
            numbers = {}
            for key, wanted in usable.items():
                try:
                    values = self._aggregates(wanted.values())
                    numbers[key] = {name: values[sql] for name, sql in wanted.items()}
                except (duckdb.DataError, duckdb.ProgrammingError) as error:
                    counted.uncounted[key] = type(error).__name__
            return numbers

    def _probe(self, key: str, probes: Sequence[str], counted: Counted) -> bool:
        import duckdb

        try:
            for probe in probes:
                self._one(f"SELECT {probe}")
        except (duckdb.DataError, duckdb.ProgrammingError) as error:
            counted.uncounted[key] = type(error).__name__
            return False
        return True

    def _finish(self, key: str, counted: Counted, work: Callable[[], None]) -> None:
        import duckdb

        try:
            work()
        except UncountedError as error:
            counted.uncounted[key] = str(error)
        except (duckdb.DataError, duckdb.ProgrammingError) as error:
            counted.uncounted[key] = type(error).__name__

    def _settle(
        self,
        key: str,
        rows: Mapping[str, RowCheck],
        tables: Mapping[str, TableCheck],
        numbers: Mapping[str, Any],
        counted: Counted,
    ) -> None:
        if key in tables:
            more = {name: self._one(sql)[0] for name, sql in tables[key].follow(numbers).items()}
            counted.tables[key] = tables[key].finish({**numbers, **more})
            return
        check = rows[key]
        if numbers.get("guards"):
            raise UncountedError("rows that pandas judges in a way of its own")
        counted.rows[key] = RowCount(
            domain=numbers["domain"],
            considered=numbers["considered"],
            failing=self._count_doubled(check) if check.key else numbers["failing"],
        )

    def _aggregates(self, wanted: Iterable[str]) -> dict[str, Any]:
        asked = list(dict.fromkeys(wanted))
        if not asked:
            return {}
        return dict(zip(asked, self._one(f"SELECT {', '.join(asked)} FROM {self._from}"), strict=True))

    def _one(self, statement: str) -> list[Any]:
        """The single row of a statement."""
        table = duck.arrow(self.connection.sql(statement))
        return [_plain(column[0].as_py()) for column in table.columns]

    def _count_doubled(self, check: RowCheck) -> int:
        groups = f"SELECT count(*) AS times FROM {self._from} WHERE {check.considered} GROUP BY {_list(check.key)}"
        (count,) = self._one(f"SELECT sum(times) FROM ({groups}) WHERE times > 1")
        return int(count or 0)

    def _doubled(self, check: RowCheck) -> str:
        """Rows whose key another considered row has too, as a relation."""
        names = [duck.quoted(f"key#{number}") for number in range(len(check.key))]
        values = ", ".join(f"{column.sql} AS {name}" for column, name in zip(check.key, names, strict=True))
        same = " AND ".join(f"one.{name} IS NOT DISTINCT FROM many.{name}" for name in names)
        considered = f"SELECT *, {values} FROM {self._from} WHERE {check.considered}"
        many = f"SELECT {values} FROM {self._from} WHERE {check.considered} GROUP BY ALL HAVING count(*) > 1"
        return f"(SELECT one.* FROM ({considered}) AS one SEMI JOIN ({many}) AS many ON {same})"


def _count(condition: str) -> str:
    return "count(*)" if condition == EVERY else f"count(*) FILTER (WHERE {condition})"


def _plain(value: Any) -> Any:
    """A sum of whole numbers comes as a decimal."""
    return int(value) if isinstance(value, Decimal) else value


def _list(columns: Sequence[Column]) -> str:
    return ", ".join(column.sql for column in columns)


def _first(columns: Sequence[Column]) -> str:
    """The first rows by position, with the columns shown."""
    parts = ", ".join(f"v{number}: {column.sql}" for number, column in enumerate(columns))
    return f"arg_min({{place: {_ROW}, {parts}}}, {_ROW}, {SHOWN})"


def _shown(first: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Shown:
    return Shown(
        rows=[item["place"] for item in first],
        values=[{column.name: item[f"v{number}"] for number, column in enumerate(columns)} for item in first],
    )
