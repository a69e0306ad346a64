"""Partitions in time: the keys `2013-03` and `2013-03-07`, their bounds and their neighbours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from millrace.errors import SpecError

Grain = Literal["month", "day"]
_PATTERN: dict[str, tuple[re.Pattern[str], str]] = {
    "month": (re.compile(r"^\d{4}-(0[1-9]|1[0-2])$"), "%Y-%m"),
    "day": (re.compile(r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"), "%Y-%m-%d"),
}


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One unit of data in time. Its bounds are instants in UTC, its calendar that of `timezone`."""

    key: str
    grain: Grain = "month"
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        pattern, form = _PATTERN[self.grain]
        if not pattern.match(self.key):
            raise SpecError(
                f"{self.key!r} is not the key of a {self.grain}",
                where="partition",
                remedy=f"write it as {datetime(2013, 3, 7).strftime(form)}",
            )

    @classmethod
    def at(cls, moment: datetime, grain: Grain = "month", timezone: str = "UTC") -> Partition:
        """The partition that an instant lies in.

        Args:
            moment: with its time zone.
            grain: size of a partition.
            timezone: calendar of the partitions.
        """
        return cls(moment.astimezone(ZoneInfo(timezone)).strftime(_PATTERN[grain][1]), grain, timezone)

    @property
    def _first(self) -> datetime:
        return datetime.strptime(self.key, _PATTERN[self.grain][1]).replace(tzinfo=ZoneInfo(self.timezone))

    @property
    def local_start(self) -> datetime:
        """First instant of the partition, in the calendar's own zone."""
        return self._first

    @property
    def start(self) -> datetime:
        """First instant of the partition (UTC)."""
        return self._first.astimezone(UTC)

    @property
    def end(self) -> datetime:
        """First instant after the partition (UTC): when all of it is known to have happened."""
        return self.shift(1).start

    def shift(self, steps: int) -> Partition:
        """The partition `steps` later (earlier where negative)."""
        if self.grain == "day":
            moved = datetime.strptime(self.key, "%Y-%m-%d") + timedelta(days=steps)
            return Partition(moved.strftime("%Y-%m-%d"), "day", self.timezone)
        month = self._first.year * 12 + self._first.month - 1 + steps
        return Partition(f"{month // 12:04d}-{month % 12 + 1:02d}", "month", self.timezone)

    def until(self, last: Partition) -> list[Partition]:
        """This partition and those after it up to and including `last`."""
        found, step = [], self
        while step.key <= last.key:
            found.append(step)
            step = step.shift(1)
        return found

    def __str__(self) -> str:
        return self.key
