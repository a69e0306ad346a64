"""What a model card says in words: its sections, made of the evidence bundle alone."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.evaluation import card_audit
from millrace.evaluation.card_limit import limits_text
from millrace.evaluation.card_text import SMALL_SLICE, bounded, digits_of, figure, listed
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Estimate, SliceScore
from millrace.evaluation.metric import METRICS, direction_of

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
    value = card_audit.value_text(evidence)
    return [
        Section(key="purpose", title="What it is for", text=_purpose(evidence)),
        Section(key="people", title="By whom", text=_people(evidence)),
        Section(key="data", title="On what data", text=_data(evidence)),
        Section(key="quality", title="How good it is", text=_quality(evidence)),
        Section(key="champion", title="Against the champion", text=_champion(evidence)),
        Section(key="slices", title="For whom it is worse", text=_slices(evidence)),
        Section(key="fairness", title="Fairness", text=card_audit.fairness_text(evidence)),
        Section(key="explanation", title="What moves it", text=_explanation(evidence)),
        *_tuning(evidence),
        Section(key="stability", title="Stability", text=card_audit.stability_text(evidence)),
        *([Section(key="value", title="What it is worth", text=value)] if value else []),
        Section(key="footprint", title="What it takes to run", text=card_audit.footprint_text(evidence)),
        Section(key="origin", title="Where it comes from", text=card_audit.origin_text(evidence)),
        Section(key="limits", title="Known limits", text=limits_text(evidence)),
    ]


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
    maker = "trained elsewhere" if evidence.time.declared else f"trained by the {score.trainer} trainer"
    return [
        f"Owned by {', '.join(evidence.owners)}; risk tier {evidence.tier}.",
        f"Candidate {score.name}, {maker}; "
        f"chosen among {len(evidence.candidates)} candidates by {METRICS[evidence.metric].title}.",
        *([f"Not trained, and so not judged: {', '.join(evidence.absent)}."] if evidence.absent else []),
    ]


def _data(evidence: Evidence) -> list[str]:
    data, time = evidence.data, evidence.time
    measured = f"measured on {data.holdout_rows:,} rows of {time.measured_on} ({data.holdout_days} days)"
    known = f"Only labels known by {time.cut[:16].replace('T', ' ')} UTC were used. {_labels(evidence)}"
    features = (
        f"Features come from the service {evidence.feature_service}, each as it was known at the moment of prediction."
    )
    if time.declared:
        through = evidence.challenger_score.trained_through
        told = f"through {through}, as is declared" if through else "on rows that nobody names"
        return [f"Trained elsewhere {told}; {measured}.", known, features]
    if not time.training_partitions:
        return []
    first, last = time.training_partitions[0], time.training_partitions[-1]
    return [
        f"Trained on {data.training_rows:,} rows of {first if first == last else f'{first} to {last}'}; {measured} "
        "that no training row is from.",
        known,
        features,
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
    metric = evidence.metric
    score = evidence.challenger_score.metrics.get(metric, Estimate())
    if score.value is None:
        return []
    digits, baseline = digits_of(evidence, metric), evidence.versus_baseline
    against = ""
    if baseline.gain.value is not None:
        against = f" Over the baseline that is a gain of {figure(baseline.gain.value, digits, sign=True)}."
    found = [
        f"{METRICS[metric].title} {bounded(score, digits)}, from {evidence.rounds} bootstrap rounds that draw whole "
        f"days.{against}"
    ]
    if (rule := evidence.rule) is not None and "f_beta" in evidence.challenger_score.metrics:
        found.append(
            f"F-beta is at the threshold {rule.threshold:g} with beta {rule.beta:g}; lift is the share of ones in the "
            "tenth of rows with the highest probability over their share in all rows."
        )
    return found


def _champion(evidence: Evidence) -> list[str]:
    versus, metric = evidence.versus_champion, evidence.metric
    if evidence.champion is None:
        return [
            (versus.reason and f"Not compared: {versus.reason}.") or "No champion was in force: there is none to beat."
        ]
    score = evidence.champion.metrics.get(metric, Estimate())
    if score.value is None:
        return []
    title, digits = METRICS[metric].title, digits_of(evidence, metric)
    if versus.gain.value is None:
        known = figure(score.value, digits)
        return [f"Release {versus.release} has {title} {known}; the gain is undefined on these rows."]
    sure = versus.gain.low is not None and versus.gain.high is not None
    verdict = "The two cannot be told apart on these days."
    if sure and (versus.gain.low or 0) > 0:
        verdict = "The challenger is better beyond chance."
    elif sure and (versus.gain.high or 0) < 0:
        verdict = "The champion is better beyond chance."
    return [
        f"Release {versus.release} ({evidence.champion.trainer}, trained through {evidence.champion.trained_through}) "
        f"has {title} {figure(score.value, digits)} on the same rows. The paired gain is "
        f"{bounded(versus.gain, digits + 1, sign=True)}. {verdict}"
    ]


def _slices(evidence: Evidence) -> list[str]:
    if not evidence.slices:
        return []
    way, digits = direction_of(evidence.metric), digits_of(evidence, evidence.metric)
    judged = [item for item in evidence.slices if item.score.value is not None and item.rows >= SMALL_SLICE]
    if not judged:
        return [f"No slice has {SMALL_SLICE} rows with a defined metric; the bars below are hints only."]
    worst = min(judged, key=lambda item: (way * (item.score.value or 0), item.column, item.value))
    overall = evidence.challenger_score.metrics.get(evidence.metric, Estimate())
    found = [
        f"It is weakest on {worst.column} {worst.value}: {METRICS[evidence.metric].title} "
        f"{figure(worst.score.value, digits)} on {worst.rows:,} rows, where all rows have "
        f"{figure(overall.value, digits)}."
    ]
    return [*found, *_worse_than_champion(judged)]


def _worse_than_champion(judged: list[SliceScore]) -> list[str]:
    compared = [item for item in judged if item.gain is not None and item.gain.value is not None]
    if not compared:
        return []
    worse = [
        f"{item.column} {item.value}"
        for item in compared
        if item.gain and item.gain.high is not None and item.gain.high < 0
    ]
    if worse:
        return [f"It is worse than the champion beyond chance on {listed(worse, 8)}."]
    return [f"On none of {len(compared)} slices is it worse than the champion beyond chance."]


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
    judged = f"each judged on {listed(found.folds)} by models of the partitions before; the holdout played no part"
    best, own = figure(found.value, 4), figure(found.untuned, 4)
    outcome = f"The best has {title} {best}, the spec's own parameters have {own}."
    if not found.params:
        outcome = f"None was better than the spec's own parameters ({title} {best}), and these were kept."
    elif found.untuned is None:
        outcome = f"The best has {title} {best}; the trial of the spec's own parameters did not come to an end."
    text = f"{total} {'trial' if total == 1 else 'trials'} ({states}), {judged}. {outcome}"
    return [Section(key="tuning", title="How its parameters were found", text=[text])]
