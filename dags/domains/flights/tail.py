"""Arrivals of a plane as known at any moment.

A row stands at each moment the numbers change: when a flight is known to have landed, and when it leaves the last day,
7 or 28 days. Counts and whole minutes are summed as integers: the same numbers for any split into partitions.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa

DAY = 86_400_000_000
WINDOWS = {"1d": DAY, "7d": 7 * DAY, "28d": 28 * DAY}


def tail_delays(sources: dict[str, pa.Table], start: datetime, end: datetime) -> pa.Table:
    """Share late by over 15 minutes and mean delay of a plane's arrivals in windows that end at each change."""
    flights = sources["flights"].select(["tailnum", "arr_delay", "known_at"]).drop_null()
    if not flights.num_rows:
        return _table(pa.array([], pa.string()), np.empty(0, np.int64), {})
    plane = flights["tailnum"].combine_chunks().dictionary_encode()
    code = plane.indices.to_numpy().astype(np.int64)
    known = flights["known_at"].cast(pa.int64()).to_numpy()
    delay = np.rint(flights["arr_delay"].to_numpy()).astype(np.int64)
    late = flights["arr_delay"].to_numpy() > 15

    first, span = known.min() - 28 * DAY, known.max() - known.min() + 57 * DAY  # room for each plane's windows

    def place(of: np.ndarray, at: np.ndarray) -> np.ndarray:
        """One axis for all planes: plane after plane, each in the order of time."""
        return of * span + (at - first)

    order = np.lexsort((delay, known, code))
    landed = place(code, known)[order]
    total = {"delay": _running(delay[order]), "late": _running(late[order].astype(np.int64))}
    bounds = (_microseconds(start), _microseconds(end))
    at = np.concatenate([known, *(known + width for width in WINDOWS.values())])
    of = np.tile(code, 1 + len(WINDOWS))
    inside = (at >= bounds[0]) & (at < bounds[1])
    change = np.unique(place(of[inside], at[inside]))
    of, at = change // span, change % span + first
    upto = np.searchsorted(landed, change, side="right")

    columns: dict[str, np.ndarray] = {}
    for name, width in WINDOWS.items():
        since = np.searchsorted(landed, place(of, at - width), side="right")
        count = upto - since
        with np.errstate(invalid="ignore"):
            columns[f"tail_late_share_{name}"] = (total["late"][upto] - total["late"][since]) / count
            columns[f"tail_mean_delay_{name}"] = (total["delay"][upto] - total["delay"][since]) / count
        columns[f"tail_arrivals_{name}"] = count.astype(np.float64)
    last = delay[order][upto - 1].astype(np.float64)
    columns["tail_last_delay"] = np.where(columns["tail_arrivals_28d"] > 0, last, np.nan)
    return _table(plane.dictionary.take(pa.array(of)), at, columns)


def _running(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(values)])


def _microseconds(moment: datetime) -> int:
    return pa.scalar(moment, pa.timestamp("us", "UTC")).cast(pa.int64()).as_py()


def _table(planes: pa.Array, at: np.ndarray, columns: dict[str, np.ndarray]) -> pa.Table:
    names = [f"tail_{what}_{window}" for window in WINDOWS for what in ("late_share", "mean_delay", "arrivals")]
    moments = pa.array(at).cast(pa.timestamp("us", "UTC"))
    features = {
        name: pa.array(columns.get(name, np.empty(0)), from_pandas=True) for name in [*names, "tail_last_delay"]
    }
    return pa.table({"tailnum": planes, "event_timestamp": moments, "known_at": moments, **features})
