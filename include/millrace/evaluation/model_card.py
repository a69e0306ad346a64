"""The model card: the evidence bundle in words, tables and plots, as one HTML file and as Markdown."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.document import write_atomically
from millrace.evaluation import card_audit, card_bar, card_panel
from millrace.evaluation.card_section import card_sections
from millrace.evaluation.card_text import code, digits_for, digits_of, figure, interval, markdown, percent
from millrace.evaluation.evidence import Evidence
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
    values = {**_judged(evidence, digest, answers), **_drawn(evidence), **_worded(evidence)}
    environment = _environment()
    return Card(
        html=environment.get_template("model_card.html.j2").render(values),
        markdown=environment.get_template("model_card.md.j2").render(values),
    )


def _judged(evidence: Evidence, digest: str, answers: list[Any]) -> dict[str, Any]:
    others = [item for item in evidence.candidates if item.name != evidence.challenger]
    champion = [evidence.champion] if evidence.champion else []
    return {
        "e": evidence,
        "digest": digest,
        "sections": card_sections(evidence),
        "answers": answers,
        "passed": sum(item.outcome == "pass" for item in answers),
        "score": evidence.challenger_score,
        "models": [evidence.challenger_score, *champion, *others],
        "metrics": metrics_for(evidence.problem),
        "metric": METRICS[evidence.metric],
        "fairness": [(item, card_audit.fairness_rows(item)) for item in evidence.fairness],
        "stability": card_audit.stability_rows(evidence),
        "origin": card_audit.origin_facts(evidence),
    }


def _drawn(evidence: Evidence) -> dict[str, Any]:
    tuning = evidence.tuning.get(evidence.challenger)
    return {
        "panels": card_panel.quality_panels(evidence),
        "panel": {"width": card_panel.WIDTH, "height": card_panel.HEIGHT},
        "comparison": card_bar.model_comparison(evidence),
        "gains": card_bar.gain_comparison(evidence) if evidence.champion else None,
        "slices": card_bar.slice_groups(evidence),
        "features": evidence.explanation.features[:_SHOWN_FEATURES],
        "widest": max((item.share for item in evidence.explanation.features), default=0) or 1,
        "parameters": parameter_rows(tuning) if tuning else [],
        "history": plot_history(tuning) if tuning else None,
        "shortened": tuning is not None and len(tuning.history) < sum(tuning.trials.values()),
        "frame": {"width": WIDTH, "height": HEIGHT},
    }


def _worded(evidence: Evidence) -> dict[str, Any]:
    value = evidence.value
    return {
        "digits": digits_of(evidence, evidence.metric),
        "digits_of": functools.partial(digits_of, evidence),
        "money": digits_for(value.per_row.value) if value else 2,
    }


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
    environment.filters |= {"marked": _mark, "md": markdown, "code": code}
    environment.globals |= {"figure": figure, "interval": interval, "percent": percent}
    return environment


def _mark(text: str) -> Any:
    """Text for HTML, with `what stands in backquotes` as code."""
    import markupsafe

    parts = [markupsafe.escape(part) for part in text.split("`")]
    marked = [part if number % 2 == 0 else f"<code>{part}</code>" for number, part in enumerate(parts)]
    return markupsafe.Markup("".join(marked))
