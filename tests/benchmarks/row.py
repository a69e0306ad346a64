"""One row of a speed table, as the last lines of a benchmark print it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured, and what is asked for. Less is better, of figures and of ratios.

    Attributes:
        name: name of the row: that of its benchmark, with a part after a dot where it has several rows.
        scale: how much larger than usual the work was.
        ours: figure of ours.
        other: the same figure of what we are compared with; None where there is nothing to compare with.
        other_is: what that is.
        unit: of both figures.
        goal: bound on the ratio ours / other, or on our figure itself.
        goal_kind: which of the two.
        peak_mb: peak memory of our side above what its imports take; None where no single process does the work.
    """

    name: str
    scale: float
    ours: float
    other: float | None = None
    other_is: str = ""
    unit: str
    goal: float
    goal_kind: Literal["ratio", "absolute"]
    peak_mb: float | None = None

    def __post_init__(self) -> None:
        if self.goal_kind == "ratio" and not self.other:
            raise ValueError(f"{self.name}: a goal on the ratio needs something to compare with")

    @property
    def ratio(self) -> float | None:
        """Ours by other."""
        return self.ours / self.other if self.other else None

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        figure = self.ratio if self.goal_kind == "ratio" else self.ours
        return figure is not None and figure <= self.goal

    def to_json(self) -> str:
        """The line."""
        plain: dict[str, Any] = {
            "name": self.name,
            "scale": self.scale,
            "ours": _round(self.ours),
            "other": _round(self.other),
            "other_is": self.other_is,
            "unit": self.unit,
            "ratio": _round(self.ratio),
            "goal": self.goal,
            "goal_kind": self.goal_kind,
            "met": self.met,
            "peak_mb": _round(self.peak_mb),
        }
        return orjson.dumps(plain).decode()


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
