"""From raw rows to clean ones: derived columns in DuckDB's SQL, one on top of the other, and duplicates found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.errors import ContractError, SpecError
from millrace.lake import duck
from millrace.lake.schema import arrow_schema
from millrace.spec.domain import SourceSpec
from millrace.validation.base import ROW

_KEPT = {"smallint", "integer", "bigint", "float", "double", "varchar", "boolean", "date"}
_CASTS = {
    **dict.fromkeys(["timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"], "TIMESTAMPTZ"),
    **dict.fromkeys(["hugeint", "uhugeint", "ubigint", "uinteger"], "BIGINT"),
    **dict.fromkeys(["tinyint", "utinyint", "usmallint", "null"], "INTEGER"),
    **dict.fromkeys(["enum", "uuid"], "VARCHAR"),
    "decimal": "DOUBLE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """Rows after clean-up.

    Attributes:
        rows: declared, derived and not dropped columns and `row#`, in the order of key and `row#`.
        duplicates: positions of the rows whose key stands more than once. Of equal copies the first is not among
            them; of rows that share a key and differ all are, since nothing tells which is right.
    """

    rows: pa.Table
    duplicates: npt.NDArray[np.int64]


def clean_rows(raw: pa.Table, spec: SourceSpec, *, where: str) -> Cleaned:
    """Derive, drop and order; find duplicates. Times come out as instants in UTC, NaN as null.

    Args:
        raw: rows of one raw partition, in the order they are stored.
        spec: their source.
        where: name of table and partition, for messages.

    Raises:
        SpecError: an expression of `cleanup.derive` cannot be compiled, or changes the number of rows.
        ContractError: an expression fails on a value.
    """
    import duckdb

    numbered = raw.append_column(ROW, pa.array(np.arange(raw.num_rows, dtype=np.int64)))
    with isolated() as connection:
        connection.register("raw", numbered)
        for name in spec.cleanup.derive:
            if fault := compile_fault(connection, spec, name):
                raise SpecError(f"clean-up of {name!r}: {fault}", where=where, remedy=f"correct cleanup.derive.{name}")
        try:
            connection.execute(f"CREATE TEMP TABLE cleaned AS {_projection(connection, chain(spec))}")
        except duckdb.Error as error:
            raise _failing_value(connection, spec, str(error), where) from error
        rows = duck.arrow(connection.sql(f"SELECT {_kept(spec)} FROM cleaned ORDER BY {_order(spec)}"))
        if rows.num_rows != raw.num_rows:
            raise SpecError(
                f"clean-up makes {rows.num_rows} rows of {raw.num_rows}",
                where=where,
                remedy="a derived column is one value for each row: no unnest()",
            )
        found = connection.sql(_duplicates(spec)).fetchnumpy()[ROW] if spec.key else np.empty(0)
        return Cleaned(rows=rows, duplicates=np.asarray(found, dtype=np.int64))


@contextmanager
def isolated() -> Iterator[Any]:
    """A DuckDB connection whose SQL can read neither files nor network."""
    connection = duck.connect(external=False)
    try:
        yield connection
    finally:
        connection.close()


def chain(spec: SourceSpec, upto: str | None = None) -> str:
    """SQL that adds the derived columns one by one, the last of them `upto`; each sees those before it."""
    sql = "SELECT * FROM raw"
    for name, expression in spec.cleanup.derive.items():
        sql = f'SELECT *, (\n{expression}\n) AS "{name}" FROM ({sql})'
        if name == upto:
            break
    return sql


def compile_fault(connection: Any, spec: SourceSpec, name: str) -> str:
    """What DuckDB has against a derived column, over the table `raw` of the connection; "" where nothing."""
    import duckdb

    if name in spec.columns:
        return "there is a declared column of this name"
    try:
        relation = connection.sql(chain(spec, name))
        kind = dict(zip(relation.columns, relation.types, strict=True))[name]
    except duckdb.Error as error:
        return str(error).split("\n")[0]
    if kind.id == "timestamp with time zone" or kind.id in _KEPT or kind.id in _CASTS:
        return ""
    return f"a column cannot hold {kind}; cast it to a number, text, date or timestamp"


def empty_raw(spec: SourceSpec) -> pa.Table:
    """A raw table of the declared columns without rows, to compile expressions against."""
    schema = arrow_schema(spec.columns)
    return schema.append(pa.field(ROW, pa.int64())).empty_table()


def _projection(connection: Any, sql: str) -> str:
    relation = connection.sql(sql)
    columns = []
    for name, kind in zip(relation.columns, relation.types, strict=True):
        quoted = f'"{name}"'
        if kind.id in ("float", "double"):
            quoted = f"CASE WHEN isnan({quoted}) THEN NULL ELSE {quoted} END"
        elif kind.id in _CASTS:
            quoted = f"CAST({quoted} AS {_CASTS[kind.id]})"
        columns.append(f'{quoted} AS "{name}"')
    return f"SELECT {', '.join(columns)} FROM ({sql})"


def clean_columns(spec: SourceSpec) -> list[str]:
    """Names of a clean table's columns: declared, then derived, less those dropped."""
    return [name for name in [*spec.columns, *spec.cleanup.derive] if name not in spec.cleanup.drop]


def _kept(spec: SourceSpec) -> str:
    return ", ".join(f'"{name}"' for name in [*clean_columns(spec), ROW])


def _order(spec: SourceSpec) -> str:
    return ", ".join([*(f'"{name}" NULLS LAST' for name in spec.key), f'"{ROW}"'])


def _duplicates(spec: SourceSpec) -> str:
    key = ", ".join(f'"{name}"' for name in spec.key)
    whole = ", ".join(f'"{name}"' for name in dict.fromkeys([*spec.key, *spec.columns]))
    present = " AND ".join(f'"{name}" IS NOT NULL' for name in spec.key)
    return f"""
        WITH doubled AS (SELECT {key} FROM cleaned WHERE {present} GROUP BY {key} HAVING count(*) > 1),
             suspect AS (SELECT cleaned.* FROM cleaned SEMI JOIN doubled USING ({key})),
             content AS (SELECT {key}, min("{ROW}") AS first FROM suspect GROUP BY {whole}),
             kept AS (SELECT min(first) AS "{ROW}" FROM content GROUP BY {key} HAVING count(*) = 1)
        SELECT "{ROW}" FROM suspect ANTI JOIN kept USING ("{ROW}") ORDER BY "{ROW}"
    """


def _failing_value(connection: Any, spec: SourceSpec, fault: str, where: str) -> ContractError:
    """Name the first derived column that fails, and the first raw row on which it does."""
    for name in spec.cleanup.derive:
        if not _fails(connection, spec, name, None):
            continue
        low, high = 0, int(connection.sql("SELECT count(*) FROM raw").fetchall()[0][0])
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if _fails(connection, spec, name, middle + 1) else (middle + 1, high)
        return ContractError(
            f"clean-up of {name!r} fails on a value: {fault.splitlines()[0]}",
            where=f"{where}, raw row {low + 1}, column {name}",
            remedy=f"mend the value, or write cleanup.derive.{name} so that it gives null there (TRY_CAST, CASE)",
        )
    return ContractError(f"clean-up fails: {fault.splitlines()[0]}", where=where, remedy="correct `cleanup`")


def _fails(connection: Any, spec: SourceSpec, name: str, rows: int | None) -> bool:
    import duckdb

    limit = "" if rows is None else f' WHERE "{ROW}" < {rows}'
    sql = chain(spec, name).replace("SELECT * FROM raw", f"SELECT * FROM raw{limit}", 1)
    try:
        connection.execute(f'SELECT max(hash("{name}")) FROM ({sql})').fetchall()
    except duckdb.Error:
        return True
    return False
