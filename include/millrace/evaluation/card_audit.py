"""What a model card says beyond quality: fairness, stability, worth, what it takes to run, and where it comes from."""

from __future__ import annotations

from millrace.evaluation.audit_finding import FairnessScore, StabilityTest
from millrace.evaluation.card_text import bounded, digits_for, digits_of, figure, percent
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.metric import METRICS, direction_of

_MEGABYTE = 1e6
_SHOWN = 16


def fairness_text(evidence: Evidence) -> list[str]:
    """Who is treated worse, sensitive column by sensitive column; of several classes the one that is least alike."""
    if not evidence.fairness:
        return ["No sensitive column is declared, so it was not measured whether groups of people are treated alike."]
    columns = dict.fromkeys(item.column for item in evidence.fairness)
    worst = [min((item for item in evidence.fairness if item.column == column), key=_alikeness) for column in columns]
    return [
        *(_column_text(item) for item in worst),
        "Demographic parity is the least share decided over the greatest; equalized odds is the same of the true or of "
        "the false positive rate, whichever is less alike. 1 is alike.",
    ]


def _alikeness(item: FairnessScore) -> tuple[bool, float]:
    known = [found.value for found in (item.demographic_parity, item.equalized_odds) if found.value is not None]
    return not known, min(known, default=1.0)


def _column_text(item: FairnessScore) -> str:
    if item.compared < 2:
        return (
            f"{item.column}: fewer than two groups have {item.min_rows:,} rows, so nothing was compared (what counts: "
            f"{item.decides})."
        )
    if item.demographic_parity.value is None:
        who = "everybody" if any(group.selected for group in item.groups if group.rows >= item.min_rows) else "nobody"
        return f"{item.column}: “{item.decides}” is said of {who} in the groups compared, so nothing tells them apart."
    parts = f"demographic parity {bounded(item.demographic_parity)}: “{item.decides}” is least often said of "
    parts += f"{item.least} and most often of {item.greatest}, of {item.compared} groups"
    if item.equalized_odds.value is None:
        return f"{item.column}: {parts}; too few rows of each kind to compare equalized odds."
    odds = f"equalized odds {bounded(item.equalized_odds)}"
    if item.odds_rate:
        odds += f": the {item.odds_rate} positive rate is least for {item.odds_least} and greatest for "
        odds += item.odds_greatest
    return f"{item.column}: {parts}; {odds}."


def stability_text(evidence: Evidence) -> list[str]:
    """What changed and missing inputs do; empty where it was not measured."""
    if not evidence.stability:
        return []
    unit = " standard deviations of the label" if evidence.problem == "regression" else ""
    found = []
    together = [item for item in evidence.stability if item.change == "perturbed" and not item.feature]
    for item in together:
        found.append(
            f"With small noise on all numbers at once, predictions move by "
            f"{figure(item.moved)}{unit} on average, on {item.rows:,} rows{_left(evidence, item)}."
        )
    missing = [item for item in evidence.stability if item.change == "missing"]
    if missing:
        worst = max(missing, key=lambda item: (item.moved, item.feature))
        found.append(
            f"Of features that go missing, {worst.feature or 'all'} moves predictions most: by {figure(worst.moved)}"
            f"{unit} on average{_left(evidence, worst)}."
        )
    broken = sum(item.broken for item in evidence.stability)
    found.append(
        f"{broken:,} predictions were not finite any more." if broken else "No prediction was ever not finite."
    )
    return found


def _left(evidence: Evidence, item: StabilityTest) -> str:
    if item.metric is None:
        return ""
    title = METRICS[evidence.metric].title
    digits = digits_of(evidence, evidence.metric)
    worse = f", {figure(item.drop, digits)} worse" if item.drop is not None and item.drop > 0 else ""
    return f", and {title} is {figure(item.metric, digits)}{worse}"


def value_text(evidence: Evidence) -> list[str]:
    """What decisions are worth; empty where the use case does not say."""
    value = evidence.value
    if value is None:
        return []
    digits = digits_for(value.per_row.value)
    how = ""
    if evidence.rule is not None:
        how = f" (1 is decided from a probability of {evidence.rule.threshold:g} on)"
    worth = (
        f"Its decisions{how} are worth {bounded(value.per_row, digits)} a row in {value.currency}: "
        f"{figure(value.total, 0)} {value.currency} on the {value.rows:,} rows of the holdout."
    )
    blind = (
        f"The best single answer to all rows is worth {figure(value.baseline.value, digits)} {value.currency} a row."
    )
    over = "that"
    if value.champion is not None:
        over = "the champion's"
        blind += f" The champion's decisions are worth {figure(value.champion.value, digits)} {value.currency} a row."
    return [worth, f"{blind} The paired gain over {over} is {bounded(value.gain, digits, sign=True)} a row."]


def footprint_text(evidence: Evidence) -> list[str]:
    """Size, and how long it takes where that was measured."""
    found = [f"Its package has {evidence.challenger_score.bytes / _MEGABYTE:.2f} MB."]
    if (item := evidence.latency) is not None:
        found.append(
            f"In a process of its own it answers after {figure(item.load, 0)} ms, libraries included; one row takes "
            f"{figure(item.one_median, 2)} ms (median; 99 of 100 at most {figure(item.one_p99, 2)} ms), "
            f"{item.rows:,} rows at once {figure(item.batch, 1)} ms."
        )
    return found


def origin_text(evidence: Evidence) -> list[str]:
    """Whose work it is and by what it can be made again; empty where that is not recorded."""
    origin = evidence.origin
    if origin is None:
        return []
    if origin.source:
        return [
            f"It was trained elsewhere and comes from `{origin.source}`; how it was trained is the word of its maker."
        ]
    if not origin.commit:
        return ["It was trained by code that stands under no version control, so only its lock and recipe are named."]
    state = {"clean": "with nothing changed since", "dirty": "with changes that are not in it"}.get(origin.tree, "")
    return [f"It was trained by the code of commit `{origin.commit[:12]}`{f', {state}' if state else ''}."]


def origin_facts(evidence: Evidence) -> list[tuple[str, str]]:
    """Name and digest of everything it comes from."""
    origin = evidence.origin
    facts = [
        ("Commit", f"{origin.commit} ({origin.tree})" if origin and origin.commit else ""),
        ("Lock of its software", origin.lock if origin else ""),
        ("Recipe", origin.recipe if origin else ""),
        ("Package", evidence.challenger_score.package),
        ("Training set (snapshot)", evidence.data.training_set),
        ("Labels known until", evidence.data.known_until),
        ("Holdout", evidence.data.holdout_digest),
        ("Feature service", evidence.feature_service),
        ("Use case", evidence.use_case_digest),
        ("Policy", evidence.policy),
        ("Drift reference", evidence.reference),
        ("Seed", f"{evidence.seed}, {evidence.rounds} bootstrap rounds"),
    ]
    return [(name, text) for name, text in facts if text]


def fairness_rows(item: FairnessScore) -> list[dict[str, str]]:
    """The groups of a sensitive column as the card's table has them."""
    return [
        {
            "value": group.value,
            "rows": f"{group.rows:,}",
            "label": figure(group.mean_label),
            "selected": percent(group.selected),
            "true": percent(group.true_positive_rate),
            "false": percent(group.false_positive_rate),
            "small": "yes" if group.rows < item.min_rows else "",
        }
        for group in item.groups
    ]


def stability_rows(evidence: Evidence) -> list[StabilityTest]:
    """The tests that moved predictions most; that of all numbers at once first."""
    way = direction_of(evidence.metric)
    ranked = sorted(
        evidence.stability,
        key=lambda item: (bool(item.feature), -item.broken, -item.moved, way * (item.metric or 0.0), item.feature),
    )
    return ranked[:_SHOWN]
