"""A small installation, `store`: purchases, one feature table on them in SQL, and one use case that may be released."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from millrace.governance.release import Release, Releases
from millrace.governance.state import writing
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain, load_use_case

SQL = """
SELECT customer, placed_at AS event_timestamp, placed_at AS known_at,
    sum(amount) OVER (PARTITION BY customer ORDER BY placed_at) AS spent
FROM orders WHERE placed_at >= $start AND placed_at < $end
"""
DOMAIN: dict[str, Any] = {
    "name": "store",
    "description": "purchases",
    "owners": ["admin"],
    "first": "2020-01",
    "sources": {
        "orders": {
            "kind": "file",
            "uri": "orders.csv",
            "columns": {"order": "int64", "day": "string", "customer": "string", "amount": "float64"},
            "partition_columns": {"day": "%Y-%m"},
            "key": ["order"],
            "cleanup": [{"derive": {"placed_at": "CAST(day AS TIMESTAMPTZ)"}}],
        }
    },
    "feature_tables": {
        "spending": {
            "sql": "store/spending.sql",
            "entities": ["customer"],
            "features": {"spent": "float64"},
            "tags": {"of": "customer"},
            "description": "What a customer has spent.",
        }
    },
}
USE_CASE: dict[str, Any] = {
    "domain": "store",
    "description": "Will they come again?",
    "owners": ["admin"],
    "tier": "low",
    "problem": "binary",
    "entity": {"source": "orders", "key": "order", "timestamp": "placed_at"},
    "label": {"expression": "1.0", "known_at": "placed_at"},
    "candidates": {"baseline": {"trainer": "baseline"}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Files of an installation, and what they say now."""

    settings: Settings

    @property
    def domain(self) -> DomainSpec:
        return load_domain(self.settings.dags, "store")

    @property
    def use_case(self) -> UseCaseSpec:
        return load_use_case(self.settings.dags, "again")

    def table(self, text: str | None = None, **changes: Any) -> None:
        """Change the feature table, its SQL or keys of its spec; None takes a key away."""
        spec = {**DOMAIN["feature_tables"]["spending"], **changes}
        spec = {name: value for name, value in spec.items() if value is not None}
        write(self.settings.dags / "domains" / "store.yaml", {**DOMAIN, "feature_tables": {"spending": spec}})
        if text is not None:
            (self.settings.sql_folder / "store" / "spending.sql").write_text(text)

    def service(self, name: str = "again_v1", use_case: str = "again", **features: Any) -> None:
        """Change a use case's service."""
        service = {"name": name, "views": {"spending": ["spent"]}, "row": {"amount": "number"}, **features}
        write(
            self.settings.dags / "use_cases" / f"{use_case}.yaml",
            {**USE_CASE, "name": use_case, "features": service},
        )

    def clean(self, partitions: tuple[str, ...] = ("2020-01", "2020-02", "2020-03")) -> None:
        """Clean rows."""
        for number, key in enumerate(partitions):
            start = datetime.fromisoformat(f"{key}-01").replace(tzinfo=UTC)
            rows = [
                {
                    "order": 100 * number + index,
                    "day": str((start + timedelta(hours=7 * index)).date()),
                    "customer": "abc"[index % 3],
                    "amount": float(index % 5),
                    "placed_at": start + timedelta(hours=7 * index),
                }
                for index in range(60)
            ]
            kinds = pa.schema(
                [
                    ("order", pa.int64()),
                    ("day", pa.string()),
                    ("customer", pa.string()),
                    ("amount", pa.float64()),
                    ("placed_at", pa.timestamp("us", "UTC")),
                ]
            )
            table = Table(self.settings.lake, "store/clean/orders")
            table.replace(pa.Table.from_pylist(rows, kinds), partition=key)

    def release(self, version: int = 1, service: str = "again_v1", package: str = "") -> None:
        """Write a release to the ledger."""
        found = Release(
            use_case="again",
            version=version,
            package=package or f"{version:064d}",
            candidate="baseline",
            trainer="baseline",
            trained_through="2020-02",
            holdout="2020-03",
            effective_at=f"2020-04-{version:02d}T00:00:00Z",
            evidence="e" * 64,
            policy="p" * 64,
            feature_service=service,
            threshold=0.5,
            reference="r" * 64,
        )
        with writing(self.settings) as connection:
            Releases(self.settings).add(found, actor="admin", note={}, connection=connection)

    def at(self, registry_url: str) -> Store:
        """The same files with another registry."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, registry_url=registry_url))


def make(folder: Path, settings: Settings) -> Store:
    """A store with its files in a folder."""
    dags = folder / "dags"
    (dags / "domains" / "store").mkdir(parents=True)
    (dags / "use_cases").mkdir()
    store = Store(settings=dataclasses.replace(settings, dags=dags))
    store.table(SQL)
    store.service()
    return store


def write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=False))
