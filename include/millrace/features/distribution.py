"""How the values of a feature lie: a histogram of a sample, and the line of blocks that shows it in a terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from millrace.artifact import PlainValue
from millrace.lake.duck import connect, quoted

BINS, SAMPLE = 16, 20_000
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution(PlainValue):
    """The values of one feature in a sample of rows.

    Attributes:
        rows: rows looked at.
        missing: share of them without a value; NaN counts as none.
        low: 1st percentile; None for categories, and where there is no value.
        middle: median.
        high: 99th percentile.
        counts: values in bins of equal width from low to high, those beyond in the outer ones; of categories the
            counts of the most frequent.
        top: the most frequent categories, the first the most.
    """

    rows: int
    missing: float
    low: float | None = None
    middle: float | None = None
    high: float | None = None
    counts: list[int] = field(default_factory=list)
    top: list[str] = field(default_factory=list)

    @property
    def sparkline(self) -> str:
        """One block a bin; a bin with any value is never blank."""
        most = max(self.counts, default=0)
        return "".join(" " if not n else _BLOCKS[min(7, round(n / most * 7))] for n in self.counts)

    @property
    def sentence(self) -> str:
        """The figures beside the line."""
        missing = f", {self.missing:.1%} missing" if self.missing else ""
        if self.top:
            return f"{', '.join(self.top[:3])}{' …' if len(self.top) > 3 else ''}{missing}"
        if self.low is None:
            return "no values"
        return f"{self.low:.4g} … {self.middle:.4g} … {self.high:.4g}{missing}"


def measure_distributions(rows: pa.Table, features: list[str]) -> dict[str, Distribution]:
    """Distribution of each feature in a sample of the rows, the same for the same rows.

    Args:
        rows: rows of a feature table.
        features: columns of it.
    """
    connection = connect(threads=1, external=False)
    try:
        connection.register("rows", rows.select(features))
        connection.execute(
            f"CREATE TEMP TABLE sample AS SELECT * FROM rows USING SAMPLE reservoir({SAMPLE} ROWS) REPEATABLE (7)"
        )
        return {name: _measure(connection, name, rows.schema.field(name).type) for name in features}
    finally:
        connection.close()


def _measure(connection: Any, name: str, kind: pa.DataType) -> Distribution:
    column = quoted(name)
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        rows, known = connection.execute(f"SELECT count(*), count({column}) FROM sample").fetchone()
        found = connection.execute(
            f"SELECT CAST({column} AS VARCHAR), count(*) FROM sample WHERE {column} IS NOT NULL "
            f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {BINS}"
        ).fetchall()
        top = [str(value) for value, _ in found]
        return Distribution(rows=rows, missing=_share(rows - known, rows), counts=[n for _, n in found], top=top)
    value = f"epoch({column})" if pa.types.is_timestamp(kind) else f"CAST({column} AS DOUBLE)"
    number = f"(SELECT {value} AS x FROM sample)"
    rows, known, low, middle, high = connection.execute(
        f"SELECT count(*), count(x) FILTER (isfinite(x)), quantile_disc(x, 0.01) FILTER (isfinite(x)), "
        f"quantile_disc(x, 0.5) FILTER (isfinite(x)), quantile_disc(x, 0.99) FILTER (isfinite(x)) FROM {number}"
    ).fetchone()
    if not known:
        return Distribution(rows=rows, missing=_share(rows, rows))
    place = f"least({BINS - 1}, greatest(0, CAST(floor((x - $1) / ($2 - $1) * {BINS}) AS BIGINT)))"
    found = (
        connection.execute(f"SELECT {place}, count(*) FROM {number} WHERE isfinite(x) GROUP BY 1", [low, high])
        if high > low
        else connection.execute(f"SELECT 0, count(*) FROM {number} WHERE isfinite(x)")
    )
    counts = dict(found.fetchall())
    bins = [int(counts.get(index, 0)) for index in range(BINS if high > low else 1)]
    return Distribution(rows=rows, missing=_share(rows - known, rows), low=low, middle=middle, high=high, counts=bins)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
