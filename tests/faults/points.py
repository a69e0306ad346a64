"""Points at which a process may die: before and after each call of the functions that a fault test names."""

from __future__ import annotations

import json
import os
from typing import Any

KILLED = 86


class Points:
    """Counts what was reached, and ends the process at once at the point of that number.

    Args:
        die_at: number of the point; -1 for none.
        tell: whether the last words are printed, as `{"killed": <the point>}`.
    """

    def __init__(self, die_at: int, *, tell: bool = False) -> None:
        self.die_at, self.tell = die_at, tell
        self.events: list[str] = []

    def reach(self, event: str) -> None:
        """Note a point, and die there if it is the one."""
        self.events.append(event)
        if len(self.events) - 1 == self.die_at:
            if self.tell:
                print(json.dumps({"killed": event}), flush=True)
            os._exit(KILLED)

    def around(self, owner: Any, name: str) -> None:
        """Make points before and after each call of `owner.name`."""
        inner = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            self.reach(f"before {name}")
            found = inner(*args, **kwargs)
            self.reach(f"after {name}")
            return found

        setattr(owner, name, outer)
