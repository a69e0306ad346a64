"""The id of an answer of the online service: which release answered, and when, in words that lineage reads back.

`flight_delay/3/online-0644b0a0c2f1d4-5f0c9a31-1b` names an answer, with `.4` at its end the fifth row of it. The time
stands in it, so that also an answer of which no row was kept says what is known of it.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

_FORM = re.compile(
    r"(?P<use_case>[a-z][a-z0-9_]{0,62})/(?P<release>[1-9][0-9]{0,8})/"
    r"(?P<name>online-(?P<time>[0-9a-f]{14})-[0-9a-f]{8}-[0-9a-f]{1,16})(?:\.(?P<row>[0-9]{1,9}))?\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerId:
    """What an id says.

    Attributes:
        use_case: the model that answered.
        release: version of its release.
        name: what tells the answer from all others.
        answered_at: wall clock, in microseconds since 1970.
        row: place of a row in the answer; None for the answer as a whole.
    """

    use_case: str
    release: int
    name: str
    answered_at: int
    row: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What an id says; None where the text is none."""
        if (found := _FORM.match(text)) is None:
            return None
        row = found["row"]
        return cls(
            use_case=found["use_case"],
            release=int(found["release"]),
            name=found["name"],
            answered_at=int(found["time"], 16),
            row=None if row is None else int(row),
        )


class AnswerIds:
    """Makes ids of one process; no two are the same.

    Args:
        clock: nanoseconds since 1970.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._process = secrets.token_hex(4)
        self._count = itertools.count()

    def make(self, use_case: str, release: int) -> str:
        """The id of the next answer."""
        return f"{use_case}/{release}/online-{self._clock() // 1000:014x}-{self._process}-{next(self._count):x}"
