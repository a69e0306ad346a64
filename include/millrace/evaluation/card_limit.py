"""What a model card says of the limits of a model."""

from __future__ import annotations

from millrace.evaluation.card_text import SMALL_SLICE, digits_of, figure, listed
from millrace.evaluation.evidence import Evidence

_MISSING = 0.2


def limits_text(evidence: Evidence) -> list[str]:
    """What nobody should expect of the challenger."""
    time, found = evidence.time, []
    if time.training_partitions and not time.declared:
        first, last = time.training_partitions[0], time.training_partitions[-1]
        seen = first if first == last else f"{first} to {last}"
        found.append(f"It has seen {seen} only; what is different outside (seasons, new values) it cannot know.")
    ece = evidence.challenger_score.metrics.get("ece")
    if ece is not None and ece.value is not None:
        named = " of the most probable class" if evidence.classes else ""
        found.append(
            f"Probabilities{named} were off by {figure(ece.value)} on average; do not read them finer than that."
        )
    if rare := [item.name for item in evidence.classes if item.training_rows < SMALL_SLICE]:
        found.append(f"It saw too few rows to learn these classes well: {', '.join(rare)}.")
    bias = evidence.challenger_score.metrics.get("bias")
    if bias is not None and bias.value is not None:
        amount, way = figure(abs(bias.value), digits_of(evidence, "bias")), "much" if bias.value > 0 else "little"
        found.append(f"On average it predicts {amount} too {way}.")
    if small := [f"{item.column} {item.value}" for item in evidence.slices if item.rows < SMALL_SLICE]:
        found.append(f"Too few rows to say anything of: {', '.join(small[:10])}{' …' if len(small) > 10 else ''}.")
    gaps = {name: share for name, share in evidence.data.missing_share.items() if share > _MISSING}
    if gaps:
        named = ", ".join(
            f"{name} ({share:.0%})" for name, share in sorted(gaps.items(), key=lambda item: -item[1])[:6]
        )
        found.append(f"Often missing when it was trained: {named}.")
    found += _audit_limits(evidence)
    found.append("Rows without a label (no outcome yet, or never one) are not in any figure here.")
    return found


def _audit_limits(evidence: Evidence) -> list[str]:
    found = []
    for item in evidence.fairness:
        if small := [group.value for group in item.groups if group.rows < item.min_rows]:
            found.append(f"Too few rows to compare these groups of {item.column}: {listed(small, 10)}.")
    if evidence.origin is not None and evidence.origin.source:
        found.append("It was trained elsewhere: what it has seen cannot be checked here.")
    if sum(item.broken for item in evidence.stability):
        features = sorted({item.feature or "all numbers" for item in evidence.stability if item.broken})
        found.append(f"It gives no number when these change or are missing: {listed(features, 10)}.")
    return found
