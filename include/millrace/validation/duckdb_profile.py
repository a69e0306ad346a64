"""The statistics of a table's columns, counted in DuckDB: few scans, bounded memory, equal rows give equal numbers.

Sums in floating point depend on the order of their terms, so means and deviations are taken in one thread, and rounded.
Quantiles of large tables are those of a sample chosen by the rows' content.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson

from millrace.artifact import iso
from millrace.lake.duck import quoted
from millrace.validation.shape import Shape, shape_of

Kind = Literal["integer", "number", "text", "bool", "timestamp", "other"]
QUANTILES = {"q001": 0.001, "q01": 0.01, "q05": 0.05, "q50": 0.5, "q95": 0.95, "q99": 0.99, "q999": 0.999}
TOP = 50
_COUNTED = 200
"""Distinct values up to which the frequent ones are counted."""
_SAMPLED = 500_000
"""Rows from which quantiles are those of a sample, of at most about as many rows."""
_EXACT = 1_000_000
"""Rows, and distinct values of larger tables, up to which distinct values are counted and not estimated."""
_LARGEST = "1e140"
"""Numbers beyond it are not measured, as infinity is not: their squares are no numbers any more."""
_SHOWN = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(["tinyint", "smallint", "integer", "bigint", "hugeint", "uhugeint"], "integer"),
    **dict.fromkeys(["utinyint", "usmallint", "uinteger", "ubigint"], "integer"),
    **dict.fromkeys(["float", "double", "decimal"], "number"),
    **dict.fromkeys(["varchar", "enum", "uuid"], "text"),
    **dict.fromkeys(["timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"], "timestamp"),
    **dict.fromkeys(["timestamp with time zone", "date"], "timestamp"),
    "boolean": "bool",
}


def measure_columns(
    connection: Any, table: str, columns: Sequence[str], *, hidden: Collection[str] = (), exact: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The statistics of each column, by the names of `millrace.validation.profile.SCHEMA`.

    Args:
        connection: a `duckdb.DuckDBPyConnection`.
        table: table or view of it.
        columns: those to measure.
        hidden: those of which no value may be seen: rows, nulls and distinct values are counted, nothing else.
        exact: those whose distinct values are counted whatever that costs.
    """
    kinds = _kinds(connection, table, columns)
    open_kinds = {name: "other" if name in hidden else kind for name, kind in kinds.items()}
    rows = int(_row(connection, {"rows": "count(*)"}, table)["rows"])
    every = -(-rows // _SAMPLED) if rows > _SAMPLED else 1
    chosen = f"hash({', '.join(quoted(name) for name in columns)}) % {every} = 0" if every > 1 else "true"
    first = _measured(connection, table, {c: _first_scan(c, k, chosen) for c, k in open_kinds.items()})
    wanted = {c: _second_scan(c, k, first[c], rows, c in exact) for c, k in open_kinds.items()}
    second = _measured(connection, table, wanted)
    shapes = {c: shape_of(connection, table, c) for c, kind in open_kinds.items() if kind == "text"}
    with _one_thread(connection):
        sums = _measured(connection, table, {c: _sums(c, k, first[c]) for c, k in open_kinds.items()})
    return [
        {
            "column": name,
            "kind": kind,
            "rows": rows,
            "nulls": rows - first[name]["present"],
            "sampled": every > 1,
            **_distinct(first[name], second[name]),
            **_told(open_kinds[name], first[name] | sums[name], second[name], shapes.get(name)),
        }
        for name, kind in kinds.items()
    ]


@contextmanager
def _one_thread(connection: Any) -> Iterator[None]:
    before = int(connection.execute("SELECT current_setting('threads')").fetchone()[0])
    connection.execute("SET threads = 1")
    try:
        yield
    finally:
        connection.execute(f"SET threads = {before}")


def _kinds(connection: Any, table: str, columns: Sequence[str]) -> dict[str, Kind]:
    names = ", ".join(quoted(name) for name in columns)
    types = connection.sql(f"SELECT {names} FROM {quoted(table)} LIMIT 0").types
    return {name: _KINDS.get(kind.id, "other") for name, kind in zip(columns, types, strict=True)}


def _first_scan(column: str, kind: str, chosen: str) -> dict[str, str]:
    name = quoted(column)
    wanted = {"present": f"count({name})", "about": f"approx_count_distinct({name})"}
    if kind in ("integer", "number"):
        number = _finite(name)
        exact = name if kind == "integer" else number
        points = ", ".join(str(share) for share in QUANTILES.values())
        wanted |= {"min": f"min({exact})", "max": f"max({exact})"}
        wanted |= {"quantiles": f"quantile_disc({number}, [{points}]) FILTER (WHERE {chosen})"}
    elif kind == "timestamp":
        moment = f"epoch_us(CAST(CASE WHEN isfinite({name}) THEN {name} END AS TIMESTAMPTZ))"
        wanted |= {"min": f"min({moment})", "max": f"max({moment})"}
    elif kind == "text":
        wanted |= {"min": f"min({name})", "max": f"max({name})"}
        wanted |= {"min_length": f"min(length({name}))", "max_length": f"max(length({name}))"}
    return wanted


def _second_scan(column: str, kind: str, first: Mapping[str, Any], rows: int, exact: bool) -> dict[str, str]:
    name, wanted = quoted(column), {}
    if exact or rows <= _EXACT or first["about"] <= _EXACT // 20:
        wanted["distinct"] = f"count(DISTINCT {name})"
    short = (first.get("max_length") or 0) <= _SHOWN
    if kind in ("integer", "number", "text", "bool") and short and first["about"] <= _COUNTED:
        wanted["top"] = f"histogram({_finite(name) if kind == 'number' else name})"
    return wanted


def _sums(column: str, kind: str, first: Mapping[str, Any]) -> dict[str, str]:
    """Whole numbers of 64 bits are added up as such: as doubles, large ones that cancel out take small ones along."""
    if kind not in ("integer", "number"):
        return {}
    name = quoted(column)
    number, low, high = _finite(name), first["min"], first["max"]
    whole = kind == "integer" and low is not None and low >= -(2**63) and high < 2**63
    return {"mean": f"avg(CAST({name} AS BIGINT))" if whole else f"avg({number})", "stddev": f"stddev_samp({number})"}


def _finite(name: str) -> str:
    number = f"CAST({name} AS DOUBLE)"
    return f"CASE WHEN abs({number}) <= {_LARGEST} THEN {number} END"


def _measured(connection: Any, table: str, wanted: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Column → measure → value, all in one scan."""
    places = {f"m{index}": place for index, place in enumerate((c, m) for c in wanted for m in wanted[c])}
    found: dict[str, dict[str, Any]] = {column: {} for column in wanted}
    if places:
        row = _row(connection, {alias: wanted[column][measure] for alias, (column, measure) in places.items()}, table)
        for alias, (column, measure) in places.items():
            found[column][measure] = row[alias]
    return found


def _row(connection: Any, expressions: Mapping[str, str], table: str) -> dict[str, Any]:
    selected = ", ".join(f"{sql} AS {alias}" for alias, sql in expressions.items())
    values = connection.execute(f"SELECT {selected} FROM {quoted(table)}").fetchone()
    return dict(zip(expressions, values, strict=True))


def _distinct(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    exact = "distinct" in second
    return {"distinct": int(second["distinct"] if exact else first["about"]), "distinct_exact": exact}


def _told(kind: str, first: Mapping[str, Any], second: Mapping[str, Any], shape: Shape | None) -> dict[str, Any]:
    told: dict[str, Any] = {"top_values": _top(second.get("top"))}
    low: Any = first.get("min")
    high: Any = first.get("max")
    if low is None:
        return told
    if kind in ("integer", "number"):
        quantiles = first["quantiles"] or [None] * len(QUANTILES)
        told |= {"min": str(low), "max": str(high), "min_number": float(low), "max_number": float(high)}
        told |= {"mean": rounded(first["mean"]), "stddev": rounded(first["stddev"])}
        told |= dict(zip(QUANTILES, quantiles, strict=True))
    elif kind == "timestamp":
        told |= {"min": _instant(low), "max": _instant(high), "min_number": low / 1e6, "max_number": high / 1e6}
    elif kind == "text":
        told |= {"min": low[:_SHOWN], "max": high[:_SHOWN]}
        told |= {"min_length": first["min_length"], "max_length": first["max_length"]}
        told |= {"pattern": shape.pattern, "pattern_share": shape.share} if shape else {}
    return told


def _instant(microseconds: int) -> str:
    return iso(_EPOCH + timedelta(microseconds=microseconds))


def _top(counts: Mapping[Any, int] | None) -> str | None:
    if counts is None or len(counts) > _COUNTED:
        return None
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return orjson.dumps([[value, count] for value, count in ordered[:TOP]]).decode()


def rounded(value: float | None) -> float | None:
    """To 12 significant digits; None where there is no number."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.12g}")
