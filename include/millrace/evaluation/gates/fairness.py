"""Groups of people must be treated alike."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from millrace.evaluation.audit_finding import FairnessScore
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Estimate
from millrace.evaluation.gate import Answer, Gate
from millrace.spec.use_case import UseCaseSpec

Share = Annotated[float, Field(ge=0, le=1)]


class Fairness(Gate):
    """Fails where one group of a sensitive column is selected too seldom, or judged right less often, than another.

    Demographic parity is the least share selected over the greatest (the four-fifths rule asks for 0.8); equalized
    odds the same of the true and of the false positive rates, the worse of both. Where nobody is selected, or
    everybody, nothing is decided and nothing is judged; of several classes at least one must be.

    Attributes:
        min_demographic_parity: least ratio of shares selected; 0 asks for none.
        min_equalized_odds: least ratio of true, and of false, positive rates; 0 asks for none.
        columns: sensitive columns that are judged; all that the use case declares by default.
        min_rows: rows a group needs to be compared; smaller ones are named.
        min_of_each: rows that are 1, and rows that are not, that it needs for its positive rates to be compared.
        required: whether a use case that declares no sensitive column is refused.
    """

    shared: ClassVar[tuple[str, ...]] = ("min_rows", "min_of_each")
    min_demographic_parity: Share = 0.8
    min_equalized_odds: Share = 0.0
    columns: Annotated[list[str], Field(default_factory=list)]
    min_rows: Annotated[int, Field(ge=1)] = 100
    min_of_each: Annotated[int, Field(ge=1)] = 20
    required: bool = False

    def answer(self, evidence: Evidence) -> Answer:
        """The least alike decides; insufficient where a column has fewer than two groups, or nothing is decided."""
        scores = [item for item in evidence.fairness if not self.columns or item.column in self.columns]
        if absent := sorted(set(self.columns) - {item.column for item in scores}):
            return Answer(outcome="insufficient_data", sentence=f"Not measured by group: {', '.join(absent)}.")
        if not scores:
            if self.required:
                return Answer(outcome="insufficient_data", sentence="No sensitive column was measured.")
            sentence = "The use case declares no sensitive column, so no groups were compared."
            return Answer(outcome="pass", sentence=sentence)
        if any((item.min_rows, item.min_of_each) != (self.min_rows, self.min_of_each) for item in scores):
            return Answer(outcome="insufficient_data", sentence="Groups of other sizes were compared than asked for.")
        return self._judge(scores)

    def check(self, use_case: UseCaseSpec) -> str:
        """There must be columns to judge, and only such as are declared."""
        declared = use_case.evaluation.sensitive
        if self.required and not declared:
            return "evaluation.sensitive of the use case names no column, and the gate requires one"
        if unknown := [name for name in self.columns if name not in declared]:
            return f"columns names {', '.join(unknown)}, which evaluation.sensitive of the use case does not"
        return ""

    def _judge(self, scores: list[FairnessScore]) -> Answer:
        failing: list[tuple[float, str]] = []
        holding: list[tuple[float, str]] = []
        lacking: list[str] = []
        numbers: dict[str, float] = {"scores": float(len(scores))}
        decided = {item.column for item in scores if not _undecided(item)}
        for item in scores:
            if _undecided(item) and item.column in decided:
                continue
            for ratio, limit, sentence in self._measured(item):
                if ratio is None:
                    lacking.append(sentence)
                    continue
                (failing if ratio < limit else holding).append((ratio - limit, sentence))
        if parity := [item.demographic_parity.value for item in scores if item.demographic_parity.value is not None]:
            numbers["demographic_parity"] = min(parity)
        if odds := [item.equalized_odds.value for item in scores if item.equalized_odds.value is not None]:
            numbers["equalized_odds"] = min(odds)
        aside = _too_small(scores, self.min_rows) + _set_aside([item for item in scores if item.column in decided])
        if failing:
            told = "; ".join(sentence for _, sentence in sorted(failing)[:4])
            return Answer(outcome="fail", numbers=numbers, sentence=f"{told}.{aside}")
        if lacking:
            told = "; ".join(dict.fromkeys(lacking))
            return Answer(outcome="insufficient_data", numbers=numbers, sentence=f"{told}.{aside}")
        nearest = f" Nearest to its limit: {min(holding)[1]}." if holding else ""
        sentence = f"Groups of {_columns(scores)} are treated alike.{nearest}{aside}"
        return Answer(outcome="pass", numbers=numbers, sentence=sentence)

    def _measured(self, item: FairnessScore) -> list[tuple[float | None, float, str]]:
        """Ratio, what it must reach, and a sentence, for each figure that is asked for."""
        found: list[tuple[float | None, float, str]] = []
        if self.min_demographic_parity > 0:
            told = _undecided(item) or f"fewer than two groups of {item.column} have {item.min_rows} rows"
            if item.demographic_parity.value is not None:
                told = _selected(item, self.min_demographic_parity)
            found.append((item.demographic_parity.value, self.min_demographic_parity, told))
        if self.min_equalized_odds > 0:
            told = _undecided(item) or (
                f"fewer than two groups of {item.column} have {item.min_rows} rows with "
                f"{item.min_of_each} of each outcome"
            )
            if item.equalized_odds.value is not None:
                told = _odds(item, self.min_equalized_odds)
            found.append((item.equalized_odds.value, self.min_equalized_odds, told))
        return found


def _undecided(item: FairnessScore) -> str:
    """Why there is nothing to compare between groups that are large enough; "" where there is."""
    if item.compared < 2 or item.demographic_parity.value is not None:
        return ""
    shares = [group.selected for group in item.groups if group.rows >= item.min_rows]
    who = "everybody" if max(shares, default=0.0) > 0 else "nobody"
    return f"{who} is selected ({item.decides}), so groups of {item.column} cannot be compared"


def _set_aside(scores: list[FairnessScore]) -> str:
    told = list(dict.fromkeys(reason for item in scores if (reason := _undecided(item))))
    more = f"; and {len(told) - 3} more of the kind" if len(told) > 3 else ""
    return f" Set aside: {'; '.join(told[:3])}{more}." if told else ""


def _selected(item: FairnessScore, limit: float) -> str:
    shares = {group.value: group.selected for group in item.groups}
    return (
        f"{item.column} {item.least} is selected in {shares[item.least]:.1%} of rows, {item.greatest} in "
        f"{shares[item.greatest]:.1%}: demographic parity {_figure(item.demographic_parity)}, {limit:g} is asked for "
        f"({item.decides})"
    )


def _odds(item: FairnessScore, limit: float) -> str:
    rates = {
        group.value: group.true_positive_rate if item.odds_rate == "true" else group.false_positive_rate
        for group in item.groups
    }
    least, greatest = (rates[name] or 0.0 for name in (item.odds_least, item.odds_greatest))
    return (
        f"the {item.odds_rate} positive rate of {item.column} {item.odds_least} is {least:.1%}, of "
        f"{item.odds_greatest} {greatest:.1%}: equalized odds {_figure(item.equalized_odds)}, {limit:g} is asked for "
        f"({item.decides})"
    )


def _figure(estimate: Estimate) -> str:
    between = f" ({estimate.low:.2f} to {estimate.high:.2f})" if estimate.low is not None else ""
    return f"{estimate.value:.2f}{between}"


def _too_small(scores: list[FairnessScore], min_rows: int) -> str:
    small = {f"{item.column} {group.value}": None for item in scores for group in item.groups if group.rows < min_rows}
    names = list(small)
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f" Too few rows to compare: {', '.join(names[:6])}{more}." if names else ""


def _columns(scores: list[FairnessScore]) -> str:
    return ", ".join(dict.fromkeys(item.column for item in scores))


GATE = Fairness
