"""How far each view of an online store was brought, and from which partitions: what the next run goes on from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from millrace.artifact import canonical
from millrace.governance.state import MATERIALIZATION, moment_of, reading, stamp, writing
from millrace.online.address import show
from millrace.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Materialization:
    """What one view of an online store holds.

    Attributes:
        view: the view.
        domain: its domain.
        complete: False from before the first write of a run until after its last: such a view is written anew.
        high_water_mark: the instant as of which the view answers; None before the first run was complete.
        newest_event: event_timestamp of the newest fact it answered with then; None where there was none.
        layout: digest of the layout that was written.
        partitions: key → digest of the partitions of the feature table whose facts are in the store.
        rows: rows of the view then.
    """

    view: str
    domain: str
    complete: bool = False
    high_water_mark: datetime | None = None
    newest_event: datetime | None = None
    layout: str = ""
    partitions: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Materializations:
    """What is known of one online store.

    Attributes:
        settings: the installation, in whose state database it is kept.
        store: address of the online store; its password plays no role.
    """

    settings: Settings
    store: str

    @property
    def digest(self) -> str:
        """The store's name in the state database."""
        return store_digest(self.store)

    def get(self, view: str) -> Materialization | None:
        """What is known of a view."""
        return self.all().get(view)

    def all(self) -> dict[str, Materialization]:
        """View → what is known of it, by name."""
        table = MATERIALIZATION.c
        query = select(MATERIALIZATION).where(table.store == self.digest).order_by(table.view)
        with reading(self.settings) as connection:
            rows = connection.execute(query).all()
        return {row.view: _read(row) for row in rows}

    def begin(self, view: str, domain: str) -> None:
        """Note that writing starts: until `finish`, what the store holds of the view is not relied on."""
        values = _values(Materialization(view=view, domain=domain))
        self._put(values, changed=("complete", "recorded_at"))

    def finish(self, found: Materialization) -> None:
        """Note what the store holds now."""
        values = _values(found)
        self._put(values, changed=tuple(values))

    def _put(self, values: dict[str, Any], *, changed: tuple[str, ...]) -> None:
        values = {"store": self.digest, **values}
        keep = {name: values[name] for name in changed}
        key = ["store", "view"]
        with writing(self.settings) as connection:
            if connection.dialect.name == "postgresql":
                postgres = postgresql.insert(MATERIALIZATION).values(values)
                connection.execute(postgres.on_conflict_do_update(index_elements=key, set_=keep))
            else:
                lite = sqlite.insert(MATERIALIZATION).values(values)
                connection.execute(lite.on_conflict_do_update(index_elements=key, set_=keep))


def store_digest(address: str) -> str:
    """Digest of where an online store is: with a changed password it is the same store."""
    place = show(address) if "://" in address else str(Path(address).absolute())
    return hashlib.sha256(place.encode()).hexdigest()


def _values(found: Materialization) -> dict[str, Any]:
    return {
        "view": found.view,
        "domain": found.domain,
        "complete": found.complete,
        "high_water_mark": "" if found.high_water_mark is None else stamp(found.high_water_mark),
        "newest_event": "" if found.newest_event is None else stamp(found.newest_event),
        "layout": found.layout,
        "partitions": canonical(dict(found.partitions)).decode(),
        "rows": found.rows,
        "recorded_at": stamp(datetime.now(UTC)),
    }


def _read(row: Any) -> Materialization:
    return Materialization(
        view=row.view,
        domain=row.domain,
        complete=bool(row.complete),
        high_water_mark=moment_of(row.high_water_mark) if row.high_water_mark else None,
        newest_event=moment_of(row.newest_event) if row.newest_event else None,
        layout=row.layout,
        partitions=orjson.loads(row.partitions),
        rows=row.rows,
    )
