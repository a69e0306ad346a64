"""Rows that stand more than once: found by hash, so that a partition without any costs one small aggregate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.lake.duck import quoted
from millrace.spec.cleanup import DeduplicateStep
from millrace.spec.source import SourceSpec
from millrace.validation.base import ROW, SetAside

Rows = npt.NDArray[np.int64]
_ROW = quoted(ROW)
_VERSION, _HASH, _PLACE = quoted("version#"), quoted("hash#"), quoted("place#")
_FIRST, _COPIES, _CONTENTS, _TIED = quoted("first#"), quoted("copies#"), quoted("contents#"), quoted("tied#")
_HASHES = "duplicates_hash"


def find_duplicates(connection: Any, spec: SourceSpec, table: str, *, source: str = "raw") -> list[SetAside]:
    """The rows whose key stands more than once, less those that stay, by the source's policy.

    Copies are equal where key and raw columns are. `quarantine` and `block`: of equal copies the first stays; of rows
    that share a key and differ none does. `keep_last`: the row of the greatest version stays, and of equal copies of
    it the first; where rows that differ share that version, none stays. A version of null is less than any other.
    A row with null in its key is nobody's duplicate.

    Args:
        connection: the DuckDB connection; a temporary table `duplicates_hash` is made on it.
        spec: the source.
        table: clean rows with `row#`.
        source: raw rows with `row#`.

    Returns:
        Reasons `duplicate` and `duplicate_superseded`, those that have rows.
    """
    if not spec.key:
        return []
    present = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in spec.key)
    rows = f"SELECT * FROM {quoted(table)} WHERE {present}"
    if not _hash_doubled(connection, rows, spec.key):
        return []
    found = connection.execute(_losers(spec, rows, source)).fetchnumpy()
    lost, tied = np.asarray(found[ROW], np.int64), np.asarray(found["tied#"], bool)
    other = "duplicate" if spec.duplicates.version is None else "duplicate_superseded"
    told = {"duplicate": lost} if other == "duplicate" else {"duplicate": lost[tied], other: lost[~tied]}
    return [SetAside(reason=reason, columns=tuple(spec.key), rows=of) for reason, of in told.items() if len(of)]


def superseded_rows(connection: Any, rows: str, step: DeduplicateStep) -> Rows:
    """The rows that a step of the clean-up drops in favour of an equal one, sorted. Null equals null.

    Args:
        connection: the DuckDB connection; a temporary table `duplicates_hash` is made on it.
        rows: SELECT of the rows with `row#`.
        step: what makes rows equal, and which of them stays; null in `order_by` never stands before a value.
    """
    if not _hash_doubled(connection, rows, step.deduplicate):
        return np.empty(0, np.int64)
    direction = "DESC" if step.keep == "last" else "ASC"
    order = [f"{quoted(step.order_by)} {direction} NULLS LAST"] if step.order_by else []
    ordered = ", ".join([*order, f"{_ROW} {direction}"])
    place = f"row_number() OVER (PARTITION BY {_listed(step.deduplicate)} ORDER BY {ordered})"
    placed = f"SELECT {_ROW}, {place} AS {_PLACE} FROM ({rows}) WHERE {_is_doubled(step.deduplicate)}"
    found = connection.execute(f"SELECT {_ROW} FROM ({placed}) WHERE {_PLACE} > 1 ORDER BY {_ROW}").fetchnumpy()
    return np.asarray(found[ROW], np.int64)


def _hash_doubled(connection: Any, rows: str, columns: Sequence[str]) -> bool:
    """Note the hashes that stand more than once; whether there are any."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_HASHES} AS"
        f" SELECT hash({_listed(columns)}) AS {_HASH} FROM ({rows}) GROUP BY {_HASH} HAVING count(*) > 1"
    )
    return bool(connection.execute(f"SELECT count(*) FROM {_HASHES}").fetchall()[0][0])


def _is_doubled(columns: Sequence[str]) -> str:
    return f"hash({_listed(columns)}) IN (SELECT {_HASH} FROM {_HASHES})"


def _losers(spec: SourceSpec, rows: str, source: str) -> str:
    """SQL of the rows that do not stay, and whether each is one of several that differ and share the best version."""
    version = "CAST(NULL AS INTEGER)" if spec.duplicates.version is None else quoted(spec.duplicates.version)
    key, of_rows = _listed(spec.key), _listed(spec.key, "s")
    content = _listed(spec.raw_columns, "r")
    best = f"c.{_VERSION} IS NOT DISTINCT FROM t.{_VERSION}"
    return f"""
        WITH suspect AS MATERIALIZED (
            SELECT {_ROW}, {key}, {version} AS {_VERSION} FROM ({rows}) WHERE {_is_doubled(spec.key)}
        ), content AS MATERIALIZED (
            SELECT {of_rows}, s.{_VERSION}, min(s.{_ROW}) AS {_FIRST}, count(*) AS {_COPIES}
            FROM suspect s JOIN {quoted(source)} r USING ({_ROW})
            GROUP BY {of_rows}, s.{_VERSION}, {content}
        ), top AS (
            SELECT {key}, max({_VERSION}) AS {_VERSION} FROM content GROUP BY {key} HAVING sum({_COPIES}) > 1
        ), best AS (
            SELECT {_listed(spec.key, "c")}, t.{_VERSION}, min(c.{_FIRST}) AS {_FIRST}, count(*) AS {_CONTENTS}
            FROM content c JOIN top t ON {_equal(spec.key, "c", "t")} AND {best}
            GROUP BY {_listed(spec.key, "c")}, t.{_VERSION}
        )
        SELECT s.{_ROW}, b.{_CONTENTS} > 1 AND s.{_VERSION} IS NOT DISTINCT FROM b.{_VERSION} AS {_TIED}
        FROM suspect s JOIN best b ON {_equal(spec.key, "s", "b")}
        WHERE b.{_CONTENTS} > 1 OR s.{_ROW} <> b.{_FIRST}
        ORDER BY s.{_ROW}
    """


def _listed(columns: Iterable[str], alias: str = "") -> str:
    before = f"{alias}." if alias else ""
    return ", ".join(f"{before}{quoted(name)}" for name in columns)


def _equal(columns: Sequence[str], left: str, right: str) -> str:
    return " AND ".join(f"{left}.{quoted(name)} = {right}.{quoted(name)}" for name in columns)
