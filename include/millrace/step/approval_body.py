"""What a person reads who is asked to approve: figures against the champion, gates, for whom it is worse, the card."""

from __future__ import annotations

from millrace.artifact import Verdict, iso
from millrace.evaluation.card_section import card_sections
from millrace.evaluation.card_text import digits_of, figure, interval, markdown
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Comparison, Estimate
from millrace.evaluation.metric import METRICS, metrics_for
from millrace.governance.approval_request import Request
from millrace.governance.requester import SYSTEM
from millrace.spec.policy import PolicySpec

_SECTIONS = ("champion", "slices", "fairness", "value", "limits")
_LONGEST = 600


def approval_body(evidence: Evidence, verdict: Verdict, policy: PolicySpec, request: Request, *, card: str) -> str:
    """The request as Markdown.

    Args:
        evidence: what was measured.
        verdict: what the gates said of it.
        policy: under which they were asked, and what an unanswered request counts as.
        request: by when, who may not, and what was answered before.
        card: address of the model card.
    """
    score, time = evidence.challenger_score, evidence.time
    parts = [
        *_answers(request),
        _line(evidence.description),
        f"Candidate **{markdown(score.name)}** ({markdown(score.trainer)}), trained through "
        f"{markdown(score.trained_through)}, measured on "
        f"{evidence.data.holdout_rows:,} rows of {time.measured_on}.",
        _elsewhere(evidence),
        _figures(evidence),
        _gates(verdict, policy),
        *_sections(evidence),
        _waivers(request),
        f"[Model card]({card}) · evidence `{evidence.digest[:12]}` · package `{score.package[:12]}`",
        _rules(policy, request),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _answers(request: Request) -> list[str]:
    told = "\n".join(f"- {_line(sentence)}" for sentence in request.answers)
    return [f"**Answered before**\n\n{told}"] if told else []


def _elsewhere(evidence: Evidence) -> str:
    source = evidence.origin.source if evidence.origin is not None else ""
    return f"It was trained elsewhere and comes from **{_line(source)}**." if source else ""


def _figures(evidence: Evidence) -> str:
    """A row a metric, the ranking one first, beside the champion's if there is one; then the paired gain."""
    champion = evidence.champion
    against = f" champion, release {champion.release} | 95 % interval |" if champion else ""
    lines = [f"| | challenger | 95 % interval |{against}", "|---|---|---|" + ("---|---|" if champion else "")]
    score = evidence.challenger_score.metrics
    named = [metric for metric in metrics_for(evidence.problem) if metric.name in score]
    for metric in sorted(named, key=lambda item: item.name != evidence.metric):
        digits = digits_of(evidence, metric.name)
        theirs = f" {_cells(champion.metrics.get(metric.name, Estimate()), digits)} |" if champion else ""
        title = f"**{metric.title}**" if metric.name == evidence.metric else metric.title
        lines.append(f"| {title} | {_cells(score[metric.name], digits)} |{theirs}")
    gains = [
        _gain(evidence, "champion", evidence.versus_champion),
        _gain(evidence, "baseline", evidence.versus_baseline),
    ]
    return "\n".join(lines) + "\n\n" + "  \n".join(line for line in gains if line)


def _cells(estimate: Estimate, digits: int) -> str:
    return f"{figure(estimate.value, digits)} | {interval(estimate, digits) or '–'}"


def _gain(evidence: Evidence, name: str, comparison: Comparison) -> str:
    gain, title = comparison.gain, METRICS[evidence.metric].title
    if gain.value is None:
        return ""
    digits = digits_of(evidence, evidence.metric) + 1
    bounds = interval(gain, digits, sign=True)
    paired = f", 95 % interval {bounds}, on the same rows and days" if bounds else ""
    return f"Gain over the {name} in {title} (above 0 is better): **{figure(gain.value, digits, sign=True)}**{paired}."


def _gates(verdict: Verdict, policy: PolicySpec) -> str:
    told = "\n".join(f"- {_line(reason)}" for reason in verdict.reasons)
    return f"**Gates of policy {policy.tier}: {verdict.outcome}**\n\n{told}"


def _sections(evidence: Evidence) -> list[str]:
    return [
        f"**{section.title}**\n\n" + "\n".join(f"- {_line(text)}" for text in section.text if text.strip())
        for section in card_sections(evidence)
        if section.key in _SECTIONS and section.filled
    ]


def _waivers(request: Request) -> str:
    told = "\n".join(f"- {_line(sentence)}" for sentence in request.waivers)
    return f"**Rules waived for this package**\n\n{told}" if told else ""


def _rules(policy: PolicySpec, request: Request) -> str:
    may_not = "; ".join(_line(f"{name} ({why})") for name, why in request.barred.items() if _shown(name))
    approved = f" Approved already: {_line(', '.join(request.approved))}." if request.approved else ""
    hours = f"{policy.approval_timeout_hours:g} hours"
    counts = "it counts as rejected" if policy.on_timeout == "reject" else f"it is asked again, for another {hours}"
    due = iso(request.due.replace(microsecond=0))
    return (
        f"May not approve: {may_not}.{approved} An answer that does not count opens this request again; the task's log "
        f"and the ledger say why. To be answered within {hours}, by {due}; without an answer {counts}."
    )


def _shown(name: str) -> bool:
    """Names that people go by; not the addresses git knows somebody by too."""
    return "@" not in name and name != SYSTEM


def _line(text: str) -> str:
    """On one line and without marks, whatever was written into a comment, a description or the data."""
    flat = " ".join(text.split())
    return markdown(flat if len(flat) <= _LONGEST else flat[: _LONGEST - 1] + "…")
