"""What monitors found, by use case, partition and kind; the newest result stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from millrace.artifact import canonical
from millrace.governance.state import MONITOR_RESULT, reading, stamp, writing
from millrace.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorResult:
    """One result.

    Attributes:
        use_case: name of the use case.
        partition: key of the partition that was looked at.
        kind: `drift`, `performance`, `labels`, `decision` …
        payload: figures, JSON.
    """

    use_case: str
    partition: str
    kind: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class MonitorResults:
    """The monitor results of an installation."""

    settings: Settings

    def put(
        self,
        use_case: str,
        partition: str,
        kind: str,
        payload: Mapping[str, Any],
        *,
        connection: Connection | None = None,
    ) -> None:
        """Keep a result, in place of one that is there; in a `state.writing` transaction where one is given."""
        if connection is None:
            with writing(self.settings) as writer:
                return self.put(use_case, partition, kind, payload, connection=writer)
        values = {
            "use_case": use_case,
            "partition": partition,
            "kind": kind,
            "payload": canonical(dict(payload)).decode(),
            "recorded_at": stamp(datetime.now(UTC)),
        }
        changed = {name: values[name] for name in ("payload", "recorded_at")}
        key = ["use_case", "partition", "kind"]
        if connection.dialect.name == "postgresql":
            postgres = postgresql.insert(MONITOR_RESULT).values(values)
            connection.execute(postgres.on_conflict_do_update(index_elements=key, set_=changed))
        else:
            lite = sqlite.insert(MONITOR_RESULT).values(values)
            connection.execute(lite.on_conflict_do_update(index_elements=key, set_=changed))
        return None

    def get(self, use_case: str, partition: str, kind: str) -> dict[str, Any] | None:
        """The payload of one result, or None."""
        found = [item.payload for item in self.list(use_case, kind=kind, partition=partition)]
        return found[0] if found else None

    def list(self, use_case: str, *, kind: str | None = None, partition: str | None = None) -> list[MonitorResult]:
        """Results ordered by partition, then kind."""
        query = select(MONITOR_RESULT).where(MONITOR_RESULT.c.use_case == use_case)
        if kind is not None:
            query = query.where(MONITOR_RESULT.c.kind == kind)
        if partition is not None:
            query = query.where(MONITOR_RESULT.c.partition == partition)
        with reading(self.settings) as connection:
            rows = connection.execute(query.order_by(MONITOR_RESULT.c.partition, MONITOR_RESULT.c.kind)).all()
        return [
            MonitorResult(
                use_case=row.use_case, partition=row.partition, kind=row.kind, payload=orjson.loads(row.payload)
            )
            for row in rows
        ]
