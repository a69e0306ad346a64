"""Records that never became rows, where a partition is validated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from millrace.ingestion import UNASSIGNED
from millrace.step.assessment import Assessment
from millrace.step.ingestion import WHOLE
from millrace.step.place import Place, read_records
from millrace.validation.contract import count_of
from millrace.validation.naming import LATE
from millrace.validation.quarantine import describe_records, identify_records, read_quarantine, store_quarantine
from millrace.validation.settlement import dismissed, opened, settle


def name_records(place: Place, records: pa.Table | None) -> tuple[set[str], set[str]]:
    """Ids of the records that never became rows, and of those that are only late: they say nothing of the partition."""
    if records is None:
        return set(), set()
    rows, ids = identify_records(records, source=place.name)
    late = pc.equal(rows["reason"], LATE).to_pylist()
    return set(ids), {row_id for row_id, is_late in zip(ids, late, strict=True) if is_late}


def count_reasons(
    place: Place, found: Assessment, records: pa.Table | None, left_out: Collection[str]
) -> dict[str, int]:
    """Reason → rows and records that wait for it; what somebody accepted does not."""
    counts: Counter[str] = Counter() if records is None else Counter(records["reason"].to_pylist())
    accepted = {*left_out, *(row_id for row_id in found.standing.added if row_id not in found.standing.replaced)}
    if records is not None and accepted:
        rows, ids = identify_records(records, source=place.name)
        counts.subtract(
            reason for row_id, reason in zip(ids, rows["reason"].to_pylist(), strict=True) if row_id in accepted
        )
    for item in found.aside:
        counts[item.reason] += len(item.rows)
    return dict(counts)


def tell_unassigned(place: Place) -> list[str]:
    """How many records wait that belong to no partition, in words."""
    waiting = 0 if place.spec.static else opened(read_quarantine(place.quarantine, UNASSIGNED)[2]).num_rows
    return [f"{count_of(waiting, 'record')} of the source belong to no partition"] if waiting else []


def settle_unassigned(place: Place, now: datetime) -> None:
    """Records of no partition stand in the quarantine under a key of their own, whichever partition is validated."""
    found = None if place.spec.static else place.rejected.note(UNASSIGNED)
    if found is None:
        return
    base, notes, entries = read_quarantine(place.quarantine, UNASSIGNED)
    if notes.get("rejected") == str(found[0].version):
        return
    records = place.rejected.read(version=found[0].version, partitions=[UNASSIGNED])
    failing = describe_records(records, source=place.name, snapshot=found[0], now=now)
    settled = settle(entries, failing, set(), now=now)
    store_quarantine(place.quarantine, settled, UNASSIGNED, note={"rejected": str(found[0].version)}, after=base)


def count_dismissed(place: Place) -> int:
    """Records of a partition that are there and were dismissed."""
    told = dismissed(read_quarantine(place.quarantine, place.key)[2])
    found = place.rejected.note(place.key or WHOLE) if told else None
    records = None if found is None else read_records(place, found[0])
    return 0 if records is None else len(told.intersection(identify_records(records, source=place.name)[1]))
