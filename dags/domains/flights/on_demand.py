"""Features computed when they are asked for: the same functions in training, batch scoring and the online service."""

from __future__ import annotations

import numpy as np

Columns = dict[str, np.ndarray]


def plane_age(columns: Columns) -> Columns:
    """Years since the plane was built, at the time of the flight."""
    return {"plane_age": columns["year"] - columns["plane_year"]}


def schedule(columns: Columns) -> Columns:
    """Minutes between scheduled departure and arrival, each by the clock of its place."""
    departure, arrival = (_minute_of_day(columns[name]) for name in ("sched_dep_time", "sched_arr_time"))
    return {"sched_block_minutes": np.mod(arrival - departure, 1440.0)}


def _minute_of_day(clock: np.ndarray) -> np.ndarray:
    """Minutes since midnight of a time written as 1430."""
    return np.floor(clock / 100) * 60 + np.mod(clock, 100)
