"""How a search for parameters went, as the model card draws it: places of points and bars."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from statistics import median
from typing import Any

from millrace.evaluation.metric import METRICS, direction_of
from millrace.governance.tuning_record import TrialPoint, TuningRecord

WIDTH, HEIGHT = 560.0, 150.0
_FAR = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One trial of the drawing.

    Attributes:
        point: the trial.
        x: to the right, 0 to `WIDTH`.
        y: downwards, 0 to `HEIGHT`; `HEIGHT` for a trial without a value.
        beyond: whether its value lies outside the scale.
    """

    point: TrialPoint
    x: float
    y: float
    beyond: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The history of a search, ready to be drawn.

    Attributes:
        title: what people call the metric.
        dots: its trials.
        best: corners of the line along the best value so far.
        untuned: height of the spec's own parameters; None where they have no value, or one beyond the scale.
        ticks: values of the scale and their heights.
        last: number of the last trial.
        beyond: whether any dot lies outside the scale.
    """

    title: str
    dots: list[Dot]
    best: list[tuple[float, float]]
    untuned: float | None
    ticks: list[tuple[float, float]]
    last: int
    beyond: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterRow:
    """One searched parameter.

    Attributes:
        name: as the space has it.
        found: its value in words; empty where the spec's own was kept.
        importance: its share, 0 to 1; None where too few trials tell.
        bar: width of its bar in percent of the most important one's.
    """

    name: str
    found: str
    importance: float | None
    bar: float


def plot_history(record: TuningRecord) -> History | None:
    """Where each trial stands in the drawing; None where no trial of the history has a value.

    The scale reaches from the best value to the worst, but no further than four times the distance of the median, so
    that one hopeless trial does not press all others into a line; it stands on the edge.
    """
    way = direction_of(record.metric)
    values = [item.value for item in record.history if item.value is not None and math.isfinite(item.value)]
    if not values:
        return None
    best = way * max(way * value for value in values)
    edge = _edge(values, best=best, way=way)
    last = max(record.history[-1].number, 1)
    low, high = sorted((best, edge))

    def height(value: float) -> float:
        return round(HEIGHT * (0.05 + 0.85 * (high - min(max(value, low), high)) / (high - low)), 1)

    def place(item: TrialPoint) -> Dot:
        x = round(WIDTH * item.number / last, 1)
        if item.value is None:
            return Dot(point=item, x=x, y=HEIGHT)
        return Dot(point=item, x=x, y=height(item.value), beyond=not low <= item.value <= high)

    dots = [place(item) for item in record.history]
    own = record.untuned
    return History(
        title=METRICS[record.metric].title,
        dots=dots,
        best=_stairs(dots, way=way),
        untuned=height(own) if own is not None and low <= own <= high else None,
        ticks=[(value, height(value)) for value in (low, high)],
        last=record.history[-1].number,
        beyond=any(dot.beyond for dot in dots),
    )


def parameter_rows(record: TuningRecord) -> list[ParameterRow]:
    """What was searched, the most important first."""
    names = sorted({*record.params, *record.importance}, key=lambda name: (-record.importance.get(name, 0.0), name))
    widest = max(record.importance.values(), default=0.0) or 1.0
    return [
        ParameterRow(
            name=name,
            found=_worded(record.params[name]) if name in record.params else "",
            importance=record.importance.get(name),
            bar=round(100 * record.importance.get(name, 0.0) / widest, 2),
        )
        for name in names
    ]


def _edge(values: list[float], *, best: float, way: int) -> float:
    """The worse end of the scale; never the best value itself."""
    worst = way * min(way * value for value in values)
    usual = abs(median(values) - best)
    far = best - way * _FAR * usual
    edge = way * max(way * worst, way * far) if usual else worst
    return edge if edge != best else best - way * (abs(best) * 0.1 or 1.0)


def _stairs(dots: list[Dot], *, way: int) -> list[tuple[float, float]]:
    """The line along the best value so far, from the first trial that has one to the last trial."""
    corners: list[tuple[float, float]] = []
    reached: float | None = None
    for dot in dots:
        value = dot.point.value
        if value is None or (reached is not None and way * value <= way * reached):
            continue
        corners += [(dot.x, corners[-1][1])] if corners else []
        corners.append((dot.x, dot.y))
        reached = value
    return [*corners, (dots[-1].x, corners[-1][1])]


def _worded(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
