"""The model card: the evidence bundle in words, tables and bars, as one HTML file and as Markdown."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.document import write_atomically
from millrace.evaluation.card_section import SMALL_SLICE, card_sections, figure, interval
from millrace.evaluation.evidence import Evidence, SliceScore
from millrace.evaluation.metric import METRICS, metrics_for
from millrace.evaluation.tuning_plot import HEIGHT, WIDTH, parameter_rows, plot_history

_TEMPLATES = Path(__file__).parent / "template"
_SHOWN_FEATURES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A rendered card."""

    html: str
    markdown: str


def render_card(evidence: Evidence, digest: str, answers: list[Any]) -> Card:
    """Both forms of the card.

    Args:
        evidence: the bundle.
        digest: its address.
        answers: of the gates (`gate.Answer`), shown with it.
    """
    score, tuning = evidence.challenger_score, evidence.tuning.get(evidence.challenger)
    values = {
        "e": evidence,
        "digest": digest,
        "sections": card_sections(evidence),
        "answers": answers,
        "score": score,
        "metrics": metrics_for(evidence.problem),
        "metric": METRICS[evidence.metric],
        "slices": _slice_bars(evidence),
        "features": evidence.explanation.features[:_SHOWN_FEATURES],
        "widest": max((item.share for item in evidence.explanation.features), default=0) or 1,
        "parameters": parameter_rows(tuning) if tuning else [],
        "history": plot_history(tuning) if tuning else None,
        "shortened": tuning is not None and len(tuning.history) < sum(tuning.trials.values()),
        "plot": {"width": WIDTH, "height": HEIGHT},
        "figure": figure,
        "interval": interval,
        "digits": 2 if evidence.problem == "regression" else 3,
    }
    environment = _environment()
    return Card(
        html=environment.get_template("model_card.html.j2").render(values),
        markdown=environment.get_template("model_card.md.j2").render(values),
    )


def store_card(folder: Path, digest: str, card: Card) -> Path:
    """Write a card beside its bundle; the path of the HTML file."""
    path = folder / f"{digest}.html"
    write_atomically(path, card.html.encode())
    write_atomically(path.with_suffix(".md"), card.markdown.encode())
    return path


@functools.cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["marked"] = _mark
    return environment


def _mark(text: str) -> Any:
    """Text for HTML, with `what stands in backquotes` as code."""
    import markupsafe

    parts = [markupsafe.escape(part) for part in text.split("`")]
    marked = [part if number % 2 == 0 else f"<code>{part}</code>" for number, part in enumerate(parts)]
    return markupsafe.Markup("".join(marked))


def _slice_bars(evidence: Evidence) -> list[dict[str, Any]]:
    """Each slice with the place of its bar, its whisker and the champion's mark in percent of one common scale."""
    judged = [item for item in evidence.slices if item.rows >= SMALL_SLICE] or evidence.slices
    marks = [mark for item in judged for mark in _marks(item)]
    overall = evidence.challenger_score.metrics[evidence.metric].value
    marks += [overall] if overall is not None else []
    if not marks:
        return []
    low, high = min(marks), max(marks)
    low, high = (max(0.0, low - 0.1 * (high - low)), high + 0.05 * (high - low)) if high > low else (low - 1, high + 1)

    def place(value: float | None) -> float | None:
        return None if value is None else round(min(100.0, max(0.0, (value - low) / (high - low) * 100)), 2)

    return [
        {
            "item": item,
            "at": place(item.score.value),
            "low": place(item.score.low),
            "high": place(item.score.high),
            "champion": place(item.champion.value) if item.champion else None,
            "overall": place(overall),
            "small": item.rows < SMALL_SLICE,
        }
        for item in evidence.slices
    ]


def _marks(item: SliceScore) -> list[float]:
    found = [item.score.value, item.score.low, item.score.high, item.champion.value if item.champion else None]
    return [value for value in found if value is not None]
