"""Who stands where: the quarantine of a partition after a validation, and after somebody's decision. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import canonical, iso
from millrace.validation.quarantine import (
    CLOSED,
    CORRECTED,
    DISMISSED,
    OPEN,
    REVALIDATED,
    SCHEMA,
    SUPERSEDED,
    WAIVED,
)

BY_VALIDATION = "validation"
"""Who closed a row that nobody decided on."""


def settle(
    previous: pa.Table | None,
    failing: pa.Table,
    present: Container[str],
    *,
    now: datetime,
    lost: Collection[str] = (),
) -> pa.Table:
    """The entries of a partition, given those there were and the rows that fail now; each id stands once.

    What somebody waived, corrected or dismissed stays closed, whether it fails again or is gone for now.
    Any other failing row is open and keeps the time it was first seen. An open row that fails no more is closed as
    `revalidated` where its source still has it, else as `superseded`. Settling the outcome again changes nothing.

    Args:
        previous: entries there were.
        failing: entries of the rows and records that fail now, each id once.
        present: ids that the source still has; only asked for open rows that fail no more.
        now: when rows are closed by this.
        lost: ids of decided rows that clean-up itself sets aside: no decision makes a clean row of them, so they are
            open again.

    Returns:
        The entries in the order of their ids.
    """
    before = SCHEMA.empty_table() if previous is None else previous
    kept = decided(before, lost=lost)
    fails = pc.is_in(before["row_id"], failing["row_id"].combine_chunks())
    again = _with_first_seen(without(failing, kept["row_id"]), before)
    rest = before.filter(pc.invert(fails))
    rest = without(rest, kept["row_id"])
    still_open = pc.equal(rest["status"], OPEN)
    closed, opened = rest.filter(pc.invert(still_open)), rest.filter(still_open)
    there = pa.array([row_id in present for row_id in opened["row_id"].to_pylist()], pa.bool_())
    ended = [
        close(opened.filter(there), REVALIDATED, by=BY_VALIDATION, reason="", now=now),
        close(opened.filter(pc.invert(there)), SUPERSEDED, by=BY_VALIDATION, reason="", now=now),
    ]
    return _ordered([kept, again, closed, *ended])


def decided(entries: pa.Table, *, lost: Collection[str] = ()) -> pa.Table:
    """The entries that somebody decided on: rows that are clean whatever the contract says, and dismissed records."""
    chosen = pc.and_(
        pc.equal(entries["status"], CLOSED),
        pc.is_in(entries["resolution"], pa.array([WAIVED, CORRECTED, DISMISSED])),
    )
    return without(entries.filter(chosen), pa.array(sorted(lost), pa.string()))


def dismissed(entries: pa.Table) -> set[str]:
    """Ids of the records that somebody said to be none of the data's: neither clean, nor waiting, nor counted."""
    chosen = decided(entries)
    return set(chosen.filter(pc.equal(chosen["resolution"], DISMISSED))["row_id"].to_pylist())


def opened(entries: pa.Table) -> pa.Table:
    """The entries whose rows are not clean."""
    return entries.filter(pc.equal(entries["status"], OPEN))


def unsettled(previous: pa.Table, failing: pa.Table) -> pa.Table:
    """Open entries that fail no more: whether they are closed as revalidated or superseded depends on the source."""
    return without(opened(previous), failing["row_id"])


def decide(
    entries: pa.Table,
    resolutions: Mapping[str, str],
    *,
    by: str,
    reason: str,
    now: datetime,
    corrected: Mapping[str, str] | None = None,
) -> pa.Table:
    """Close open entries as somebody decided; entries that are closed already stay as they are.

    One that was corrected is so again where another row is to stand in its place; its `resolved_reason` then says
    what stood there before, and by whom. Decisions on different rows may come in any order, and one that comes twice
    changes nothing.

    Args:
        entries: of a partition.
        resolutions: id → `waived`, `corrected`, `dismissed` or `revalidated`.
        by: who decided.
        reason: why.
        now: when.
        corrected: id → the row that stands in its place, as JSON.
    """
    given = corrected or {}
    anew = {row_id: text for row_id, text in given.items() if resolutions.get(row_id) == CORRECTED}
    again = corrected_again(entries, anew)
    meant = pc.is_in(entries["row_id"], pa.array(list(resolutions), pa.string()))
    chosen = pc.or_(pc.and_(meant, pc.equal(entries["status"], OPEN)), again)
    parts = [entries.filter(pc.invert(chosen))]
    rows = entries.filter(chosen)
    told = pa.array([resolutions[row_id] for row_id in rows["row_id"].to_pylist()], pa.string())
    for resolution in sorted(set(resolutions.values())):
        before = rows.filter(pc.equal(told, resolution))
        texts = [given.get(row_id) for row_id in before["row_id"].to_pylist()]
        part = close(before, resolution, by=by, reason=reason, now=now)
        reasons = [_reason(row, given, reason) for row in before.to_pylist()]
        part = _set(part, "resolved_reason", pa.array(reasons, pa.string()))
        parts.append(_set(part, "corrected", pa.array(texts, pa.string())))
    return _ordered(parts)


def corrected_again(entries: pa.Table, corrected: Mapping[str, str]) -> pa.Array:
    """Which entries are closed as corrected, and are to be so by another row."""
    was = pc.and_(pc.equal(entries["status"], CLOSED), pc.equal(entries["resolution"], CORRECTED)).to_pylist()
    told = zip(was, entries["row_id"].to_pylist(), entries["corrected"].to_pylist(), strict=True)
    return pa.array([each and corrected.get(row_id, text) != text for each, row_id, text in told], pa.bool_())


def reopen(entries: pa.Table, ids: Collection[str]) -> pa.Table:
    """The entries with some of those that somebody decided on open again, for the reasons they had."""
    chosen = decided(entries)
    chosen = chosen.filter(pc.is_in(chosen["row_id"], pa.array(sorted(ids), pa.string())))
    rest = without(entries, chosen["row_id"])
    for name, value in {"status": OPEN, "resolution": "", "resolved_by": "", "resolved_reason": ""}.items():
        chosen = _set(chosen, name, pa.repeat(pa.scalar(value, pa.string()), chosen.num_rows))
    for name in ("resolved_at", "corrected"):
        chosen = _set(chosen, name, pa.nulls(chosen.num_rows, SCHEMA.field(name).type))
    return _ordered([rest, chosen])


def _reason(before: Mapping[str, Any], corrected: Mapping[str, str], reason: str) -> str:
    """Why an entry is closed; where it was corrected before, also by whom and what of it is another now."""
    if before["status"] == OPEN:
        return reason
    old, new = orjson.loads(before["corrected"] or "{}"), orjson.loads(corrected[before["row_id"]])
    other = canonical({name: value for name, value in old.items() if name not in new or new[name] != value}).decode()
    told = f"in place of {other} by {before['resolved_by']} at {iso(before['resolved_at'])}"
    told += f": {before['resolved_reason']}" if before["resolved_reason"] else ""
    return f"{reason} ({told})" if reason else told


def set_aside(entries: pa.Table, more: pa.Table) -> pa.Table:
    """Open entries for further rows, in place of those of the same ids; when these were first seen is kept."""
    return _ordered([without(entries, more["row_id"]), _with_first_seen(more, entries)])


def close(entries: pa.Table, resolution: str, *, by: str, reason: str, now: datetime) -> pa.Table:
    """The entries as closed."""
    for name, value in {
        "status": CLOSED,
        "resolution": resolution,
        "resolved_by": by,
        "resolved_reason": reason,
        "resolved_at": now,
    }.items():
        entries = _set(entries, name, pa.repeat(pa.scalar(value, SCHEMA.field(name).type), entries.num_rows))
    return entries


def without(entries: pa.Table, ids: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The entries of other ids."""
    known = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return entries.filter(pc.invert(pc.is_in(entries["row_id"], known)))


def _with_first_seen(entries: pa.Table, before: pa.Table) -> pa.Table:
    places = pc.index_in(entries["row_id"], before["row_id"].combine_chunks())
    known = before["first_seen"].combine_chunks().take(places.combine_chunks())
    return _set(entries, "first_seen", pc.coalesce(known, entries["first_seen"].combine_chunks()))


def _set(entries: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = SCHEMA.get_field_index(name)
    return entries.set_column(place, SCHEMA.field(place), values)


def _ordered(parts: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(parts).combine_chunks().sort_by("row_id")
