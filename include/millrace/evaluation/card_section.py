"""What a model card says in words: its sections, made of the evidence bundle alone."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.evaluation.evidence import Estimate, Evidence
from millrace.evaluation.metric import METRICS, direction_of

SMALL_SLICE = 200
_MISSING = 0.2
_SHOWN_CLASSES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of the card.

    Attributes:
        key: anchor, and what the template shows with it.
        title: heading.
        text: its sentences; tables and bars follow them.
        required: whether an empty one makes the card incomplete.
    """

    key: str
    title: str
    text: list[str]
    required: bool = True

    @property
    def filled(self) -> bool:
        """True where it says something."""
        return any(item.strip() for item in self.text)


def card_sections(evidence: Evidence) -> list[Section]:
    """The sections of a bundle's card, in their order."""
    return [
        Section(key="purpose", title="What it is for", text=_purpose(evidence)),
        Section(key="people", title="By whom", text=_people(evidence)),
        Section(key="data", title="On what data", text=_data(evidence)),
        Section(key="quality", title="How good it is", text=_quality(evidence)),
        Section(key="champion", title="Against the champion", text=_champion(evidence)),
        Section(key="slices", title="For whom it is worse", text=_slices(evidence)),
        Section(key="explanation", title="What moves it", text=_explanation(evidence)),
        *_tuning(evidence),
        Section(key="limits", title="Known limits", text=_limits(evidence)),
    ]


def figure(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A number for people; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def interval(estimate: Estimate, digits: int = 3, *, sign: bool = False) -> str:
    """The 95 % interval for people; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{figure(estimate.low, digits, sign=sign)} to {figure(estimate.high, digits, sign=sign)}"


def _purpose(evidence: Evidence) -> list[str]:
    if not evidence.description.strip():
        return []
    answer = {
        "binary": "a probability, that of the label being 1",
        "multiclass": f"a probability of each class: {', '.join(item.name for item in evidence.classes)}",
        "regression": "a number, the label",
    }[evidence.problem]
    count = len(evidence.challenger_score.features)
    return [evidence.description, f"It answers with {answer} (`{evidence.label}`), from {count} features."]


def _people(evidence: Evidence) -> list[str]:
    if not evidence.owners:
        return []
    score = evidence.challenger_score
    return [
        f"Owned by {', '.join(evidence.owners)}; risk tier {evidence.tier}.",
        f"Candidate {score.name}, trained by the {score.trainer} trainer; "
        f"chosen among {len(evidence.candidates)} candidates by {METRICS[evidence.metric].title}.",
        *([f"Not trained, and so not judged: {', '.join(evidence.absent)}."] if evidence.absent else []),
    ]


def _data(evidence: Evidence) -> list[str]:
    data, time = evidence.data, evidence.time
    if not time.training_partitions:
        return []
    first, last = time.training_partitions[0], time.training_partitions[-1]
    return [
        f"Trained on {data.training_rows:,} rows of {first if first == last else f'{first} to {last}'}; measured on "
        f"{data.holdout_rows:,} rows of {time.holdout} ({data.holdout_days} days) that no training row is from.",
        f"Only labels known by {time.cut[:16].replace('T', ' ')} UTC were used. {_labels(evidence)}",
        f"Features come from the service {evidence.feature_service}, each as it was known at the moment of prediction.",
    ]


def _labels(evidence: Evidence) -> str:
    data = evidence.data
    if not evidence.classes:
        return (
            f"The label's mean is {data.training_mean_label:.3f} in training and {data.mean_label:.3f} in the holdout."
        )
    largest = sorted(evidence.classes, key=lambda item: (-item.training_rows, item.name))[:_SHOWN_CLASSES]
    shares = [
        f"{item.name} {item.training_rows / max(data.training_rows, 1):.1%} ({item.rows / data.holdout_rows:.1%})"
        for item in largest
    ]
    rest = len(evidence.classes) - len(largest)
    return f"Share of each class in training (in the holdout): {', '.join(shares)}{f', {rest} more' if rest else ''}."


def _quality(evidence: Evidence) -> list[str]:
    score = evidence.challenger_score.metrics.get(evidence.metric, Estimate())
    if score.value is None:
        return []
    title = METRICS[evidence.metric].title
    bounds = f" (95 % interval {interval(score)})" if score.low is not None else ""
    baseline = evidence.versus_baseline
    against = ""
    if baseline.gain.value is not None:
        against = f" Over the baseline that is a gain of {figure(baseline.gain.value, sign=True)}."
    return [
        f"{title} {figure(score.value)}{bounds}, from {evidence.rounds} bootstrap rounds that draw whole days.{against}"
    ]


def _champion(evidence: Evidence) -> list[str]:
    versus = evidence.versus_champion
    if evidence.champion is None:
        return [
            (versus.reason and f"Not compared: {versus.reason}.") or "No champion was in force: there is none to beat."
        ]
    score = evidence.champion.metrics[evidence.metric]
    title = METRICS[evidence.metric].title
    if versus.gain.value is None:
        return [f"Release {versus.release} has {title} {figure(score.value)}; the gain is undefined on these rows."]
    sure = versus.gain.low is not None and versus.gain.high is not None
    verdict = "The two cannot be told apart on these days."
    if sure and (versus.gain.low or 0) > 0:
        verdict = "The challenger is better beyond chance."
    elif sure and (versus.gain.high or 0) < 0:
        verdict = "The champion is better beyond chance."
    return [
        f"Release {versus.release} ({evidence.champion.trainer}, trained through {evidence.champion.trained_through}) "
        f"has {title} {figure(score.value)} on the same rows. The paired gain is "
        f"{figure(versus.gain.value, 4, sign=True)} (95 % interval {interval(versus.gain, 4, sign=True)}). {verdict}"
    ]


def _slices(evidence: Evidence) -> list[str]:
    if not evidence.slices:
        return []
    way = direction_of(evidence.metric)
    judged = [item for item in evidence.slices if item.score.value is not None and item.rows >= SMALL_SLICE]
    if not judged:
        return [f"No slice has {SMALL_SLICE} rows with a defined metric; the bars below are hints only."]
    worst = min(judged, key=lambda item: (way * (item.score.value or 0), item.column, item.value))
    overall = evidence.challenger_score.metrics[evidence.metric]
    return [
        f"It is weakest on {worst.column} {worst.value}: {METRICS[evidence.metric].title} {figure(worst.score.value)} "
        f"on {worst.rows:,} rows, where all rows have {figure(overall.value)}."
    ]


def _explanation(evidence: Evidence) -> list[str]:
    found = evidence.explanation
    if not found.features:
        return []
    how = {
        "contributions": "Mean absolute contribution to the score, as the model itself adds it up",
        "permutation": f"Loss of {METRICS[evidence.metric].title} when a column is shuffled",
    }[found.method]
    top = ", ".join(item.feature for item in found.features[:3])
    return [f"{how}, on {found.rows:,} rows of the holdout. Most weight: {top}."]


def _tuning(evidence: Evidence) -> list[Section]:
    """How the challenger's parameters were found; no section where nothing was searched."""
    found = evidence.tuning.get(evidence.challenger)
    if found is None:
        return []
    title, total = METRICS[found.metric].title, sum(found.trials.values())
    words = {"complete": "came to an end", "pruned": "given up as they fell behind", "failed": "failed"}
    states = ", ".join(f"{found.trials[state]} {word}" for state, word in words.items() if found.trials.get(state))
    judged = f"each judged on {_listed(found.folds)} by models of the partitions before; the holdout played no part"
    best, own = figure(found.value, 4), figure(found.untuned, 4)
    outcome = f"The best has {title} {best}, the spec's own parameters have {own}."
    if not found.params:
        outcome = f"None was better than the spec's own parameters ({title} {best}), and these were kept."
    elif found.untuned is None:
        outcome = f"The best has {title} {best}; the trial of the spec's own parameters did not come to an end."
    text = f"{total} {'trial' if total == 1 else 'trials'} ({states}), {judged}. {outcome}"
    return [Section(key="tuning", title="How its parameters were found", text=[text])]


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _limits(evidence: Evidence) -> list[str]:
    time, found = evidence.time, []
    if time.training_partitions:
        seen = f"{time.training_partitions[0]} to {time.training_partitions[-1]}"
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
        found.append(
            f"On average it predicts {figure(abs(bias.value), 2)} too {'much' if bias.value > 0 else 'little'}."
        )
    if small := [f"{item.column} {item.value}" for item in evidence.slices if item.rows < SMALL_SLICE]:
        found.append(f"Too few rows to say anything of: {', '.join(small[:10])}{' …' if len(small) > 10 else ''}.")
    gaps = {name: share for name, share in evidence.data.missing_share.items() if share > _MISSING}
    if gaps:
        named = ", ".join(
            f"{name} ({share:.0%})" for name, share in sorted(gaps.items(), key=lambda item: -item[1])[:6]
        )
        found.append(f"Often missing when it was trained: {named}.")
    found.append("Rows without a label (no outcome yet, or never one) are not in any figure here.")
    return found
