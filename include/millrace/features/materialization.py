"""From feature tables to the online store: what has to be written, and writing it in a stream.

A view is brought to an instant, its high-water mark: for each key the newest fact that was usable then and had not
expired. Where nothing else happened since the last time, only facts that became usable since are written, and those of
partitions that are new. Where a partition changed or went away, the layout is another, or the store is not as it was
left, the view is written anew. Either way it ends up as if it had been brought there at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import digest_of
from millrace.features.base import EVENT_TIMESTAMP, INSTANT
from millrace.features.newest import Facts, Newest, Window, newest_facts
from millrace.online import ViewLayout
from millrace.online.base import OnlineWriter, ViewState

log = logging.getLogger(__name__)
PROGRESS_SECONDS = 5.0
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """One partition of a feature table. Instants are microseconds since 1970.

    Attributes:
        digest: of its content.
        start: no fact of it happened before; None for a static table.
        end: all of its facts happened before; None for a static table.
    """

    digest: str
    start: int | None = None
    end: int | None = None

    def reaches(self, earliest: int | None, mark: int) -> bool:
        """Whether a fact of it can be usable by the mark and not expired at it."""
        begun = self.start is None or self.start <= mark
        return begun and (self.end is None or earliest is None or self.end > earliest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the last run left in the store, as it was noted then.

    Attributes:
        complete: False where a run did not come to its end since: the store may hold a part of what it wrote.
        high_water_mark: of the view at the last complete run, in microseconds since 1970; 0 where there was none.
        layout: digest of its layout.
        partitions: key → digest of the partitions whose facts it holds.
        newest_event: of the newest fact that the view answered with; None where there was none.
    """

    complete: bool
    high_water_mark: int
    layout: str
    partitions: Mapping[str, str]
    newest_event: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to write.

    Attributes:
        window: the facts that count; None where the store is as it should be.
        mark: the view's high-water mark afterwards.
        noted: how far the lake has brought it then; less than `mark` where another writer (Feast's push or
            materialize) went further: its rows stay until the lake has a new partition of their time.
        replace: why the view is written anew; "" where rows are added.
        partitions: key → digest of the partitions whose facts the store holds afterwards.
    """

    window: Window | None
    mark: int
    noted: int
    replace: str
    partitions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What a run did.

    Attributes:
        offered: keys written.
        rows: rows of the view in the store afterwards.
        newest_event: of the newest fact that the view answers with; None where there is none.
    """

    offered: int
    rows: int
    newest_event: int | None


def plan_view(
    layout: ViewLayout, extents: Mapping[str, Extent], *, end: int, held: Held | None, stored: ViewState | None
) -> Plan:
    """Decide what to write.

    Args:
        layout: of the view.
        extents: key → partition of the feature table, all there are.
        end: the instant to bring the view to; one that is further already stays there.
        held: what the last run left; None where there was none.
        stored: what the store says of the view; None where it has none.
    """
    before, there = held.high_water_mark if held else 0, stored.high_water_mark if stored else 0
    mark = max([end, *(known for known in (before, there) if known)])  # one before 1970 is less than none
    earliest = mark - layout.ttl_us if layout.ttl_us else None
    reached = {key: item for key, item in extents.items() if item.reaches(earliest, mark)}
    digests = {key: item.digest for key, item in reached.items()}
    new = sorted(key for key in reached if held is None or key not in held.partitions)
    why = _why_anew(layout, held, stored, digests, extents=extents)
    if not why and there > before and any(_begun(reached[key], there) for key in new):
        why = f"another writer brought it further, and {_told(new)} is new"
    if why:
        window = Window(mark=mark, earliest=earliest, partitions=_named(reached))
        return Plan(window=window, mark=mark, noted=mark, replace=why, partitions=digests)
    if not new and end <= before:
        return Plan(window=None, mark=mark, noted=before, replace="", partitions=digests)
    window = Window(mark=mark, earliest=earliest, since=before, partitions=_named(reached), whole=new)
    return Plan(window=window, mark=mark, noted=max(end, before), replace="", partitions=digests)


def bring_view(
    writer: OnlineWriter,
    facts: Facts,
    view: str,
    layout: ViewLayout,
    plan: Plan,
    *,
    held: Held | None = None,
    memory_limit: str = "1GB",
    threads: int = 2,
) -> Brought:
    """Write what a plan says, in a stream; the log tells how far it is.

    Args:
        writer: the online store.
        facts: the feature table, at the snapshot that was planned for.
        view: name of the view.
        layout: its layout.
        plan: what to write; one with a window.
        held: what the plan was made from.
        memory_limit: over it DuckDB spills to disk.
        threads: cores DuckDB may use.

    Raises:
        FeatureError: the feature table lacks a column.
        OnlineStoreUnavailableError: the store does not answer; the mark has not moved.
    """
    assert plan.window is not None
    with newest_facts(facts, layout, plan.window, memory_limit=memory_limit, threads=threads) as found:
        progress = _Progress(view, found)
        rows = writer.write(view, layout, progress.told(), high_water_mark=plan.mark, replace=bool(plan.replace))
    before = held.newest_event if held is not None and not plan.replace else None
    if before is not None and before < (plan.window.earliest or before):
        before = None
    newest = max((item for item in (progress.newest, before) if item is not None), default=None)
    return Brought(offered=progress.rows, rows=rows, newest_event=newest)


def write_newest(writer: OnlineWriter, facts: Facts, view: str, layout: ViewLayout, *, window: Window) -> int:
    """Add the newest facts of a window to a view of the online store, whatever it holds: keys written."""
    with newest_facts(facts, layout, window) as found:
        progress = _Progress(view, found)
        writer.write(view, layout, progress.told(), high_water_mark=window.mark)
    return progress.rows


def layout_digest(layout: ViewLayout) -> str:
    """Digest of a layout."""
    return digest_of(layout.to_json())


def instant(moment: datetime) -> int:
    """Microseconds since 1970 of an instant; without zone it is read as UTC."""
    column = pa.array([moment])
    zoned = column if column.type.tz else column.cast(pa.timestamp("us")).cast(INSTANT)
    return int(zoned.cast(INSTANT).cast(pa.int64())[0].as_py())


class _Progress:
    """Hands batches on and says now and then how far it is."""

    def __init__(self, view: str, found: Newest) -> None:
        self.rows = 0
        self.newest: int | None = None
        self._view = view
        self._found = found

    def told(self) -> Iterator[pa.RecordBatch]:
        """The batches."""
        started = last = time.monotonic()
        log.info("%s: %d keys to write", self._view, self._found.keys)
        for batch in self._found.batches:
            yield batch
            self._count(batch)
            now = time.monotonic()
            if now - last >= PROGRESS_SECONDS:
                last, share = now, 100 * self.rows / max(self._found.keys, 1)
                rate = self.rows / max(now - started, 1e-3)
                log.info("%s: %d keys (%.0f %%), %.0f a second", self._view, self.rows, share, rate)

    def _count(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        newest = pc.max(batch.column(EVENT_TIMESTAMP)).cast(INSTANT).cast(pa.int64()).as_py()
        self.newest = max((item for item in (self.newest, newest) if item is not None), default=None)


def _why_anew(
    layout: ViewLayout,
    held: Held | None,
    stored: ViewState | None,
    digests: Mapping[str, str],
    *,
    extents: Mapping[str, Extent],
) -> str:
    """Why a view cannot be gone on with; "" where it can."""
    if held is None or not held.complete:
        return "no complete run is noted of it"
    if stored is None or stored.high_water_mark < held.high_water_mark:
        return "the store does not hold what was left in it"
    if held.layout != layout_digest(layout) or stored.layout != layout:
        return "its layout is another"
    changed = [key for key, digest in held.partitions.items() if digests.get(key, digest) != digest]
    # A partition that expired as a whole since is no longer among the digests: its rows are not read any more.
    gone = [key for key in held.partitions if key not in extents]
    if changed or gone:
        return f"{_told(sorted([*changed, *gone]))} changed after it was written"
    return ""


def _told(partitions: Sequence[str]) -> str:
    """Partitions by name, a few of them where there are many."""
    more = len(partitions) - _NAMED
    return ", ".join(partitions[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _begun(extent: Extent, mark: int) -> bool:
    return extent.start is None or extent.start <= mark


def _named(extents: Iterable[str]) -> list[str] | None:
    """Partitions to read; None for a table that has none."""
    keys = sorted(extents)
    return None if keys == [""] else keys
