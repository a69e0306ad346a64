"""Time zones: that there is one of a name, and how its clocks are read where they show a time twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

Repeated = Literal["earlier", "later", "quarantine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How times that carry no zone are read.

    Attributes:
        zone: whose clocks showed them.
        repeated: which instant a time is that these showed twice, as they were set back: the `earlier`, the `later`,
            or neither (`quarantine`), since nothing tells. A time that they never showed is always refused.
    """

    zone: ZoneInfo
    repeated: Repeated = "quarantine"

    def instant(self, shown: datetime) -> datetime | None:
        """The instant (UTC) at which the clocks showed a time, None where they never did or leave it open.

        Raises:
            OverflowError: it lies beyond the calendar.
        """
        first, second = (shown.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        never, twice = first > second, first < second
        if never or (twice and self.repeated == "quarantine"):
            return None
        return second if self.repeated == "later" else first


def known_zone(name: str) -> str:
    """The name of a time zone, where there is one of that name.

    Raises:
        ValueError: there is none.
    """
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("no time zone of that name, such as America/New_York") from error
    return name
