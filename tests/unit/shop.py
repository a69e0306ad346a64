"""A small domain, `shop`, with one source, `orders`: what ingestion and validation are tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millrace.spec import DomainSpec

HEADER = "order,day,customer,amount,placed_at\n"
ROWS = """\
1,2020-01,ann,10.5,2020-01-01T10:00:00Z
2,2020-01,bob,NA,2020-01-02T10:00:00Z
3,2020-02,ann,30,2020-02-01T10:00:00Z
4,2020-01,"c, d",40,2020-01-03T10:00:00Z
"""
COLUMNS = {"order": "int64", "day": "string", "customer": "string", "amount": "float64", "placed_at": "timestamp"}


def make_domain(
    uri: str | Path,
    *,
    contract: Sequence[Mapping[str, Any]] = (),
    derive: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    **source: Any,
) -> DomainSpec:
    """The domain `shop` over a file; more arguments go into its source."""
    orders = {
        "uri": str(uri),
        "columns": COLUMNS,
        "partition_columns": {"day": "%Y-%m"},
        "key": ["order"],
        "contract": [dict(item) for item in contract],
        "cleanup": [*([{"derive": dict(derive)}] if derive else []), *([{"drop": list(drop)}] if drop else [])],
        "max_quarantined_share": 1.0,
        **source,
    }
    return DomainSpec.model_validate(
        {
            "name": "shop",
            "description": "orders",
            "owners": ["admin"],
            "first": "2020-01",
            "sources": {"orders": orders},
            "feature_tables": {},
        }
    )


def write_orders(folder: Path, rows: str = ROWS, header: str = HEADER) -> Path:
    """A CSV file of orders."""
    path = folder / "orders.csv"
    path.write_text(header + rows, encoding="utf-8")
    return path
