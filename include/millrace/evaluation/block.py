"""Blocks of rows that are drawn together: calendar days, since rows of one day share their weather and their queues."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayBlocks:
    """Which day each row belongs to, and how often each day is drawn in each round.

    Attributes:
        of_row: (n,) index of a row's day among the days that have rows.
        days: those days, in order.
        draws: (rounds, days) how often a round holds a day; each round draws as many days as there are.
    """

    of_row: NDArray[np.int64]
    days: list[date]
    draws: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> DayBlocks:
        """The blocks of some of the rows, under the same draws."""
        return DayBlocks(of_row=self.of_row[rows], days=self.days, draws=self.draws)


def day_blocks(event_timestamp: NDArray[np.datetime64], timezone: str, *, rounds: int, seed: int) -> DayBlocks:
    """Blocks of calendar days of a time zone, drawn with replacement (Efron and Tibshirani 1993, block bootstrap).

    Args:
        event_timestamp: (n,) instants in UTC.
        timezone: IANA name of the calendar.
        rounds: bootstrap rounds.
        seed: of the draws; equal days and seed give equal draws.
    """
    instants = event_timestamp.astype("datetime64[us]").astype(np.int64)
    days, of_row = _days(instants, timezone)
    generator = np.random.default_rng(seed)
    count = len(days)
    draws = generator.multinomial(count, np.full(count, 1 / count), size=rounds).astype(np.float64)
    return DayBlocks(of_row=of_row, days=days, draws=draws)


def _days(instants: NDArray[np.int64], timezone: str) -> tuple[list[date], NDArray[np.int64]]:
    zone = ZoneInfo(timezone)
    first = (_EPOCH + int(instants.min()) * _MICROSECOND).astimezone(zone).date()
    last = (_EPOCH + int(instants.max()) * _MICROSECOND).astimezone(zone).date()
    calendar = [first + timedelta(days=step) for step in range((last - first).days + 1)]
    midnights = [(datetime.combine(day, time(), zone) - _EPOCH) // _MICROSECOND for day in calendar]
    place = np.searchsorted(np.array(midnights, dtype=np.int64), instants, side="right") - 1
    present, of_row = np.unique(place, return_inverse=True)
    return [calendar[int(item)] for item in present], of_row.astype(np.int64)
