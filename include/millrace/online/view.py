"""Reading a view by key, apart from where its bytes lie: keys in, values out, expiry by the view's own mark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millrace.errors import FeatureError, OnlineStoreUnavailableError, UnknownViewError
from millrace.online.base import Found, FoundRows, to_datetime
from millrace.online.layout import RowCodec, ViewLayout, key_encoder

StoredRow = tuple[int, bytes]
"""event_timestamp (microseconds since 1970) and packed values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a reader has worked out of a view.

    Attributes:
        name: its name.
        layout: how its rows are packed.
        high_water_mark: microseconds since 1970; 0 before the first materialization.
        codec: unpacks its rows.
        key: bytes of an entity's key; None where a part is null.
        positions: feature → place in an unpacked row.
        oldest: rows that happened before this are expired.
        moment: the high-water mark; None before the first materialization.
    """

    name: str
    layout: ViewLayout
    high_water_mark: int
    codec: RowCodec
    key: Callable[[Sequence[Any]], bytes | None]
    positions: dict[str, int]
    oldest: int
    moment: datetime | None

    @classmethod
    def of(cls, name: str, layout: ViewLayout, high_water_mark: int) -> View:
        """Work a view out."""
        return cls(
            name=name,
            layout=layout,
            high_water_mark=high_water_mark,
            codec=RowCodec(layout),
            key=key_encoder(layout),
            positions={feature: index for index, (feature, _) in enumerate(layout.features)},
            oldest=high_water_mark - layout.ttl_us if layout.ttl_us and high_water_mark else -(2**63),
            moment=to_datetime(high_water_mark) if high_water_mark else None,
        )


class ViewReader(ABC):
    """What the readers of all stores share; one of a store says how it fetches rows and views."""

    @abstractmethod
    def _fetch(self, view: str, entities: Sequence[Sequence[Any]]) -> tuple[View, list[StoredRow | None]]:
        """The view and a row an entity, both of one moment."""

    @abstractmethod
    def _view(self, view: str) -> View:
        """The view as it is now."""

    @abstractmethod
    def _unlearn(self, view: str) -> None:
        """Forget what was known of a view, so that the next fetch asks the store."""

    def _rows(self, view: str, entities: Sequence[Sequence[Any]]) -> tuple[View, list[StoredRow | None]]:
        try:
            return self._fetch(view, entities)
        except (UnknownViewError, OnlineStoreUnavailableError):
            raise
        except FeatureError:  # no key of the view as it was known, but perhaps of the one there is now
            self._unlearn(view)
            return self._fetch(view, entities)

    def look_up(self, view: str, entities: Sequence[Sequence[Any]], features: Sequence[str]) -> Found:
        """Values of the named features, with the high-water mark they were read at."""
        known, rows = self._rows(view, entities)
        try:
            pick = known.codec.picker([known.positions[name] for name in features])
        except KeyError as error:
            raise FeatureError(
                f"view {view!r} has no feature {error.args[0]!r}",
                where=self.where,
                remedy=f"use one of: {', '.join(known.positions)}; or materialize the view again after a change",
            ) from error
        width, oldest = len(features), known.oldest
        return Found(
            values=[[None] * width if row is None or row[0] < oldest else pick(row[1]) for row in rows],
            high_water_mark=known.moment,
        )

    def read(self, view: str, entities: Sequence[Sequence[Any]], features: Sequence[str]) -> list[list[Any]]:
        """The values of `look_up`."""
        return self.look_up(view, entities, features).values

    def read_rows(self, view: str, entities: Sequence[Sequence[Any]]) -> list[tuple[datetime, list[Any]] | None]:
        """The rows of `look_up_rows`."""
        return self.look_up_rows(view, entities).rows

    def look_up_rows(self, view: str, entities: Sequence[Sequence[Any]]) -> FoundRows:
        """All values of the entities' rows, with layout and high-water mark."""
        known, rows = self._rows(view, entities)
        unpack, oldest = known.codec.unpack, known.oldest
        return FoundRows(
            layout=known.layout,
            rows=[None if row is None or row[0] < oldest else (to_datetime(row[0]), unpack(row[1])) for row in rows],
            high_water_mark=known.moment,
        )

    def layout(self, view: str) -> ViewLayout:
        """Entities, features and TTL of a view, as last written."""
        return self._view(view).layout

    def high_water_mark(self, view: str) -> datetime | None:
        """The instant up to which the view is materialized; None before the first time."""
        return self._view(view).moment

    def ttl(self, view: str) -> timedelta | None:
        """How long a value of the view stays usable; None for ever."""
        ttl_us = self._view(view).layout.ttl_us
        return timedelta(microseconds=ttl_us) if ttl_us else None

    @property
    @abstractmethod
    def where(self) -> str:
        """The store's address, without a password."""

    def _unknown(self, view: str, known: Sequence[str]) -> UnknownViewError:
        return UnknownViewError(
            f"no view {view!r} in the online store",
            where=self.where,
            remedy=f"materialize it, or use one of: {', '.join(sorted(known)) or '(none)'}",
        )
