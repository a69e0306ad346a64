"""Places of the points and lines of the model card's plots with two axes; the template turns them into SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from millrace.evaluation.card_text import figure
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Curve

WIDTH, HEIGHT = 270.0, 150.0
_TICKS = 4
_BANDED = "challenger"
_TITLES = {
    "roc": ("ROC", "false positive rate", "true positive rate"),
    "precision_recall": ("Precision and recall", "recall", "precision"),
    "residuals": ("Errors along the prediction", "prediction", "prediction less label"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a panel.

    Attributes:
        of: `challenger` or `champion`.
        points: corners as SVG has them.
        band: corners of the area around it; "" where there is none.
        dots: places and words of points that are drawn on it.
    """

    of: str
    points: str
    band: str = ""
    dots: list[tuple[float, float, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plot with two axes, `WIDTH` wide and `HEIGHT` high; y grows downwards.

    Attributes:
        x_ticks: words of the lower axis and their places.
        y_ticks: those of the other one.
        guide: ends of the line of reference: chance, or what is right; None without one.
        caption: what one must know to read it.
    """

    title: str
    x_title: str
    y_title: str
    x_ticks: list[tuple[str, float]]
    y_ticks: list[tuple[str, float]]
    lines: list[Line]
    guide: tuple[float, float, float, float] | None
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A stretch of numbers laid on a length."""

    low: float
    high: float
    length: float

    @classmethod
    def of(cls, values: Sequence[float], length: float, *, room: float = 0.05) -> Scale:
        """A scale that holds all values, with some room at both ends."""
        low, high = min(values), max(values)
        margin = room * (high - low) or abs(high) * 0.1 or 1.0
        return cls(low=low - margin, high=high + margin, length=length)

    def place(self, value: float) -> float:
        """Where a value stands, kept within the length."""
        share = (value - self.low) / (self.high - self.low)
        return round(min(max(share, 0.0), 1.0) * self.length, 2)

    def ticks(self) -> list[float]:
        """Round numbers on it, about `_TICKS` of them."""
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(item * power for item in (1, 2, 5, 10) if item * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def quality_panels(evidence: Evidence) -> list[Panel]:
    """ROC and precision–recall or residuals, then calibration; those there are points for."""
    kinds = dict.fromkeys(item.kind for item in evidence.curves)
    panels = [_curve_panel(kind, [item for item in evidence.curves if item.kind == kind], evidence) for kind in kinds]
    return [*panels, *([_calibration_panel(evidence)] if evidence.calibration else [])]


def _curve_panel(kind: str, curves: list[Curve], evidence: Evidence) -> Panel:
    title, x_title, y_title = _TITLES[kind]
    unit = Scale(low=0.0, high=1.0, length=0.0)
    across, up, guide, caption = unit, unit, None, ""
    together = " of all classes together, each against the rest" if evidence.classes else ""
    if kind == "residuals":
        across = Scale.of([x for item in curves for x in item.x], WIDTH)
        bands = [y for item in curves if item.of == _BANDED for y in [*item.low, *item.high]]
        up = Scale.of([0.0, *bands, *(y for item in curves for y in item.y)], HEIGHT)
        level = HEIGHT - up.place(0.0)
        guide = (0.0, level, WIDTH, level)
        caption = "Median error; nine tenths of the challenger's errors lie in the pale band."
    elif kind == "roc":
        guide = (0.0, HEIGHT, WIDTH, 0.0)
        caption = f"The thin line is chance{together}."
    else:
        level = HEIGHT * (1 - evidence.data.mean_label)
        guide = None if evidence.classes else (0.0, level, WIDTH, level)
        caption = f"Precision{together}." if evidence.classes else "The thin line is the share of ones in all rows."
    if kind != "residuals":
        across, up = (Scale(low=0.0, high=1.0, length=item) for item in (WIDTH, HEIGHT))
    return Panel(
        title=title,
        x_title=x_title,
        y_title=y_title,
        x_ticks=_ticks(across, down=False),
        y_ticks=_ticks(up, down=True),
        lines=[_line(item, across, up) for item in sorted(curves, key=lambda item: item.of, reverse=True)],
        guide=guide,
        caption=caption,
    )


def _line(curve: Curve, across: Scale, up: Scale) -> Line:
    def corners(values: list[float], order: int = 1) -> str:
        pairs = list(zip(curve.x, values, strict=True))[::order]
        return " ".join(f"{across.place(x):g},{round(HEIGHT - up.place(y), 2):g}" for x, y in pairs)

    shown = curve.low and curve.of == _BANDED
    band = f"{corners(curve.low)} {corners(curve.high, -1)}" if shown else ""
    return Line(of=curve.of, points=corners(curve.y), band=band)


def _calibration_panel(evidence: Evidence) -> Panel:
    across, up = (Scale(low=0.0, high=1.0, length=item) for item in (WIDTH, HEIGHT))
    dots = [
        (
            across.place(item.predicted),
            round(HEIGHT - up.place(item.observed), 2),
            f"{item.rows:,} rows: predicted {figure(item.predicted)}, came {figure(item.observed)}",
        )
        for item in evidence.calibration
    ]
    whose = " of the most probable class" if evidence.classes else ""
    return Panel(
        title="Calibration",
        x_title=f"predicted probability{whose}",
        y_title="share that came",
        x_ticks=_ticks(across, down=False),
        y_ticks=_ticks(up, down=True),
        lines=[Line(of="challenger", points=" ".join(f"{x:g},{y:g}" for x, y, _ in dots), dots=dots)],
        guide=(0.0, HEIGHT, WIDTH, 0.0),
        caption="On the thin line probabilities mean what they say.",
    )


def _ticks(scale: Scale, *, down: bool) -> list[tuple[str, float]]:
    return [
        (f"{value:g}", round(scale.length - scale.place(value), 2) if down else scale.place(value))
        for value in scale.ticks()
    ]
