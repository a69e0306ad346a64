"""What every online store can do, whatever keeps its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from millrace.online.layout import ViewLayout

if TYPE_CHECKING:
    import pyarrow as pa

EVENT_TIMESTAMP = "event_timestamp"
KNOWN_AT = "known_at"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


PackedRow = tuple[bytes, int, int, bytes]
"""One row as the store keeps it: key, event_timestamp, known_at (microseconds since 1970), packed values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewState:
    """What a store holds of a view.

    Attributes:
        layout: entities, features and TTL, as last written.
        high_water_mark: microseconds since 1970 up to which the view is materialized; 0 before the first time.
        rows: how many entities have a row.
    """

    layout: ViewLayout
    high_water_mark: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Values and the mark they were read at, both of one moment.

    Attributes:
        values: one list an entity, in the order asked; missing, expired and null are None.
        high_water_mark: the instant up to which the view was materialized; None before the first time.
    """

    values: list[list[Any]]
    high_water_mark: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRows:
    """Whole rows, with what they were read by, all of one moment.

    Attributes:
        layout: of the view.
        rows: (event_timestamp, all values in the layout's order) an entity; None where missing or expired.
        high_water_mark: the instant up to which the view was materialized; None before the first time.
    """

    layout: ViewLayout
    rows: list[tuple[datetime, list[Any]] | None]
    high_water_mark: datetime | None


class OnlineReader(Protocol):
    """Reads packed rows by key. Cheap to make, connects when first asked, safe to share between threads."""

    def look_up(self, view: str, entities: Sequence[Sequence[Any]], features: Sequence[str]) -> Found:
        """Values of the named features, with the high-water mark they were read at.

        Missing, expired (older than the TTL at the view's high-water mark) and null are all None; NaN is NaN.

        Raises:
            FeatureError: no such store, view or feature, or a key that is not one of the view's.
            OnlineStoreUnavailableError: the store does not answer.
        """
        ...

    def read(self, view: str, entities: Sequence[Sequence[Any]], features: Sequence[str]) -> list[list[Any]]:
        """The values of `look_up`."""
        ...

    def look_up_rows(self, view: str, entities: Sequence[Sequence[Any]]) -> FoundRows:
        """All values of the entities' rows, with layout and high-water mark; raises as `look_up` does."""
        ...

    def read_rows(self, view: str, entities: Sequence[Sequence[Any]]) -> list[tuple[datetime, list[Any]] | None]:
        """The rows of `look_up_rows`."""
        ...

    def views(self) -> list[str]:
        """Names of the views in the store, sorted; empty where there is no store yet."""
        ...

    def layout(self, view: str) -> ViewLayout:
        """Entities, features and TTL of a view, as last written."""
        ...

    def high_water_mark(self, view: str) -> datetime | None:
        """The instant up to which the view is materialized; None before the first time."""
        ...

    def ttl(self, view: str) -> timedelta | None:
        """How long a value of the view stays usable; None for ever."""
        ...

    def close(self) -> None:
        """Let go of the connection; the next read makes a new one."""
        ...


class OnlineWriter(Protocol):
    """Writes packed rows, columnar and streaming. One writer belongs to one thread."""

    def declare(self, view: str, layout: ViewLayout) -> None:
        """Make an empty view where there is none; a view that exists keeps its rows and layout."""
        ...

    def write(
        self,
        view: str,
        layout: ViewLayout,
        batches: Iterable[pa.RecordBatch | Sequence[PackedRow]],
        *,
        high_water_mark: int,
        replace: bool = False,
    ) -> int:
        """Upsert rows and move the mark, which comes last: a write that was cut short is made good by the next one.

        A row replaces one of its key unless that is newer by (event_timestamp, known_at). Where the layout is another
        than the store's, or `replace` is set, the view's rows become exactly these, for readers at one moment.

        Args:
            view: name of the view.
            layout: how its rows are packed.
            batches: Arrow batches with the layout's columns, `event_timestamp` and `known_at`, or packed rows; rows
                with a null in their key are left out.
            high_water_mark: microseconds since 1970; never moves back, unless the rows are replaced.
            replace: drop the rows there were.

        Returns:
            rows of the view afterwards.

        Raises:
            FeatureError: a column of the layout is missing.
            OnlineStoreUnavailableError: the store does not answer; the mark has not moved.
        """
        ...

    def forget(self, view: str) -> None:
        """Remove a view and its rows."""
        ...

    def state(self, view: str) -> ViewState | None:
        """What the store holds of a view; None where there is no such view (or no store yet)."""
        ...

    def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""
        ...


def to_datetime(microseconds: int) -> datetime:
    """The UTC instant so many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)
