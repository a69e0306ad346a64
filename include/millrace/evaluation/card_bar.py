"""Places of the points, whiskers and bars of the model card's comparisons: models, gains, slices."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.evaluation.card_panel import Scale
from millrace.evaluation.card_text import SMALL_SLICE, digits_of, figure, interval
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Estimate, SliceScore
from millrace.evaluation.metric import METRICS
from millrace.evaluation.slice import CROSS

_SHOWN_GAINS = 12
_BASELINE = "baseline"
_OPEN_CROSSINGS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One row of a comparison: a point and the ends of its interval, in percent of the width."""

    name: str
    of: str
    text: str
    bounds: str
    at: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Rows on one common scale.

    Attributes:
        title: what is shown.
        rule: place of the line of reference; None without one.
        caption: what one must know to read it.
    """

    title: str
    marks: list[Mark]
    rule: float | None
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceBar:
    """One slice: its bar, whisker and the champion's mark, in percent of the width.

    Attributes:
        item: the slice.
        overall: place of the figure of all rows.
        small: whether it has too few rows to judge.
    """

    item: SliceScore
    at: float | None
    low: float | None
    high: float | None
    champion: float | None
    overall: float | None
    small: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceGroup:
    """The slices of one column, or of crossed ones.

    Attributes:
        folded: whether a reader opens them first.
    """

    column: str
    bars: list[SliceBar]
    folded: bool


def model_comparison(evidence: Evidence) -> Comparison | None:
    """The models that learned on the ranking metric, the challenger first; None where nothing is defined."""
    models = sorted(evidence.candidates, key=lambda item: (item.name != evidence.challenger, item.name))
    rows = [(item.name, "challenger" if item.name == evidence.challenger else "other", item) for item in models]
    if evidence.champion is not None:
        rows.insert(1, (f"champion, release {evidence.champion.release}", "champion", evidence.champion))
    title = METRICS[evidence.metric].title
    left_out = [item for _, of, item in rows if item.trainer == _BASELINE and of != "challenger"]
    caption = "The whiskers are 95 % intervals of each model alone."
    if evidence.champion is not None:
        caption += " Good and bad days move both models together, so the paired gain tells more."
    digits = digits_of(evidence, evidence.metric)
    for item in left_out:
        known = item.metrics.get(evidence.metric, Estimate())
        caption += f" Not drawn: {item.name}, with {figure(known.value, digits)}."
    found = [
        (name, of, item.metrics.get(evidence.metric, Estimate())) for name, of, item in rows if item not in left_out
    ]
    return _compare(title, found, digits, caption)


def gain_comparison(evidence: Evidence) -> Comparison | None:
    """The paired gain over the champion on all rows and on the slices that have one, the worst first."""
    overall = evidence.versus_champion.gain
    slices = [
        item for item in evidence.slices if item.gain and item.gain.value is not None and item.rows >= SMALL_SLICE
    ]
    worst = sorted(slices, key=_gain)[:_SHOWN_GAINS]
    rows = [("all rows", "challenger", overall)]
    rows += [(f"{item.column} {item.value}", "slice", item.gain or Estimate()) for item in worst]
    digits = digits_of(evidence, evidence.metric) + 1
    caption = "Right of the line the challenger is better; an interval that crosses it may be chance."
    if len(slices) > len(worst):
        caption += f" Of {len(slices)} slices the worst {len(worst)} are shown."
    title = f"{METRICS[evidence.metric].title}: gain over the champion"
    return _compare(title, rows, digits, caption, rule=0.0, sign=True)


def _gain(item: SliceScore) -> float:
    return (item.gain.value if item.gain else None) or 0.0


def _compare(
    title: str,
    rows: list[tuple[str, str, Estimate]],
    digits: int,
    caption: str,
    *,
    rule: float | None = None,
    sign: bool = False,
) -> Comparison | None:
    known = [value for _, _, item in rows for value in (item.value, item.low, item.high) if value is not None]
    if not known:
        return None
    scale = Scale.of([*known, *([rule] if rule is not None else [])], 100.0)

    def place(value: float | None) -> float | None:
        return None if value is None else scale.place(value)

    return Comparison(
        title=title,
        marks=[
            Mark(
                name=name,
                of=of,
                text=figure(item.value, digits, sign=sign),
                bounds=interval(item, digits, sign=sign),
                at=place(item.value),
                low=place(item.low),
                high=place(item.high),
            )
            for name, of, item in rows
        ],
        rule=place(rule),
        caption=caption,
    )


def slice_groups(evidence: Evidence) -> list[SliceGroup]:
    """The slices column by column; many crossed ones are folded away."""
    bars: dict[str, list[SliceBar]] = {}
    for bar in _slice_bars(evidence):
        bars.setdefault(bar.item.column, []).append(bar)
    return [
        SliceGroup(column=column, bars=items, folded=CROSS in column and len(items) > _OPEN_CROSSINGS)
        for column, items in bars.items()
    ]


def _slice_bars(evidence: Evidence) -> list[SliceBar]:
    judged = [item for item in evidence.slices if item.rows >= SMALL_SLICE] or evidence.slices
    overall = evidence.challenger_score.metrics.get(evidence.metric, Estimate()).value
    known = [value for item in judged for value in _values(item)] + ([overall] if overall is not None else [])
    if not known:
        return []
    room = 0.1 * (max(known) - min(known)) or 1.0
    scale = Scale(low=max(0.0, min(known) - room), high=max(known) + room / 2, length=100.0)

    def place(value: float | None) -> float | None:
        return None if value is None else scale.place(value)

    return [
        SliceBar(
            item=item,
            at=place(item.score.value),
            low=place(item.score.low),
            high=place(item.score.high),
            champion=place(item.champion.value) if item.champion else None,
            overall=place(overall),
            small=item.rows < SMALL_SLICE,
        )
        for item in evidence.slices
    ]


def _values(item: SliceScore) -> list[float]:
    found = [item.score.value, item.score.low, item.score.high, item.champion.value if item.champion else None]
    return [value for value in found if value is not None]
