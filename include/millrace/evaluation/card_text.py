"""Numbers and lists as the model card words them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Estimate

SMALL_SLICE = 200
"""Rows that a slice needs for its figures to say anything."""
_IN_UNITS_OF_THE_LABEL = frozenset({"rmse", "mae", "bias"})
_SIGNIFICANT = 4
_MOST_DIGITS = 6
_MARKS = re.compile(r"[\\*\[\]<>|~]|(?<![^\W_])_|_(?![^\W_])")
_OPENING = re.compile(r"^(?:([-+=#])|(\d+)([.)])(?=\s|$))")


def figure(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A number for people; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"


def interval(estimate: Estimate, digits: int = 3, *, sign: bool = False) -> str:
    """The 95 % interval for people; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{figure(estimate.low, digits, sign=sign)} to {figure(estimate.high, digits, sign=sign)}"


def bounded(estimate: Estimate, digits: int = 3, *, sign: bool = False) -> str:
    """A figure with its 95 % interval in brackets, where it has one."""
    bounds = interval(estimate, digits, sign=sign)
    return figure(estimate.value, digits, sign=sign) + (f" (95 % interval {bounds})" if bounds else "")


def digits_of(evidence: Evidence, metric: str) -> int:
    """Digits after the point: three, and where a metric has the label's unit as many as four significant ones need."""
    if metric not in _IN_UNITS_OF_THE_LABEL:
        return 3
    known = evidence.challenger_score.metrics.get("rmse", Estimate()).value
    return digits_for(known)


def digits_for(value: float | None) -> int:
    """Digits after the point that show four significant ones."""
    if not value:
        return 2
    return min(_MOST_DIGITS, max(0, _SIGNIFICANT - 1 - math.floor(math.log10(abs(value)))))


def listed(names: Sequence[str], most: int = 0) -> str:
    """`a, b and c`; with `most`, no more than so many of them."""
    if most and len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as percent; a dash where there is none."""
    return "–" if share is None else f"{share * 100:.{digits}f} %"


def markdown(text: str) -> str:
    """Text on one line that Markdown shows as it stands; only `what stands in backquotes` becomes code.

    Values come from data, specs and comments: none of them may make a heading, a link or an image.
    """
    parts = " ".join(text.split()).split("`")
    if len(parts) % 2 == 0:
        parts[-2:] = [f"{parts[-2]}'{parts[-1]}"]
    told = "".join(_MARKS.sub(r"\\\g<0>", part) if number % 2 == 0 else code(part) for number, part in enumerate(parts))
    return _OPENING.sub(lambda found: f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}", told)


def code(text: str) -> str:
    """Text as Markdown code on one line, in a table too."""
    flat = " ".join(text.replace("`", "'").split()).replace("|", "\\|")
    return f"`{flat}`" if flat else ""
