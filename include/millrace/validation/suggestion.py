"""A starting contract out of the past: expectations, history and a limit, written as YAML that a person edits."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from millrace.lake.duck import quoted
from millrace.spec.contract import HistorySpec
from millrace.validation.past import END, Past
from millrace.validation.proposal import NEARLY_NO_NULLS, Proposal, event_times, propose

_LAST = 3
_TOO_MANY = 0.05
"""Share of a partition's rows over which an expectation only warns: what breaks so often is no fault."""
_INDENT = " " * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A history entry with what was seen."""

    spec: HistorySpec
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A contract to start from.

    Attributes:
        dataset: `<domain>.<source>`.
        title: which rows it was made of.
        proposals: the expectations.
        history: measures to hold against earlier partitions.
        max_quarantined_share: share of quarantined rows over which a partition should block.
        worst_share: the share these expectations would have set aside in the worst partition.
        silent: columns of which nothing is asked, and why.
    """

    dataset: str
    title: str
    proposals: Sequence[Proposal]
    history: Sequence[Remark]
    max_quarantined_share: float
    worst_share: float
    silent: Sequence[str]

    def to_yaml(self) -> str:
        """Keys of a source, indented so that they stand right under `sources.<source>` of a domain's file."""
        domain, source = self.dataset.split(".", 1)
        lines = [f"# {self.title}", f"# a start to be edited; it goes under sources.{source} of domains/{domain}.yaml"]
        lines += [f"# {line}" for line in self.silent]
        lines += [f"# of the worst partition {self.worst_share:.2%} would have been set aside"]
        lines += [f"max_quarantined_share: {self.max_quarantined_share}", "contract:"]
        for item in self.proposals:
            lines += _entry(item.expectation.model_dump(exclude_defaults=True), item.seen, item.expectation.on_failure)
        lines.append("history:")
        for remark in self.history:
            lines += _entry(remark.spec.model_dump(exclude_unset=True), remark.seen, remark.spec.on_failure)
        return "".join(f"{_INDENT}{line}\n" for line in lines)


def suggest(past: Past, *, dataset: str, title: str, key: Iterable[str]) -> Suggestion:
    """The contract that the past speaks for.

    Args:
        past: the partitions looked at, with some row.
        dataset: `<domain>.<source>`.
        title: which rows these are.
        key: columns that identify a record.
    """
    proposals = _counted(past, propose(past, key))
    aside = [item.breaks for item in proposals if item.breaks and item.expectation.on_failure == "quarantine"]
    either = " OR ".join(f"({condition})" for condition in aside) or "false"
    worst = max((broken / rows for rows, broken in past.count_each([either]) if rows), default=0.0)
    asked = {str(item.expectation.kwargs.get("column")) for item in proposals}
    return Suggestion(
        dataset=dataset,
        title=title,
        proposals=proposals,
        history=list(_history(past)),
        max_quarantined_share=min(1.0, max(0.01, _up(2 * worst, 0.01))),
        worst_share=worst,
        silent=list(_silent(past, asked)),
    )


def _counted(past: Past, proposals: Sequence[Proposal]) -> list[Proposal]:
    """The proposals with the rows they would have set aside; those that break too often only warn."""
    judging = [item for item in proposals if item.breaks]
    each = past.count_each([item.breaks for item in judging])
    counted = {}
    for index, item in enumerate(judging):
        broken = sum(row[index + 1] for row in each)
        often = any(row[index + 1] > _TOO_MANY * row[0] for row in each)
        told = item.seen + (f"; breaks in {broken:,} of {past.rows:,} rows" if broken else "")
        spec = item.expectation.model_copy(update={"on_failure": "warn"}) if often else item.expectation
        counted[id(item)] = Proposal(expectation=spec, seen=told, breaks=item.breaks)
    return [counted.get(id(item), item) for item in proposals]


def _history(past: Past) -> Iterator[Remark]:
    counts = [float(profile.rows) for profile in past.each]
    moved = _moves([value / statistics.median(counts) for value in counts])
    change = min(1.0, max(0.2, _up(2 * moved, 0.05)))
    yield Remark(
        spec=HistorySpec(measure="row_count", last=_LAST, max_relative_change=change),
        seen=f"it moved by {moved:.1%} at most",
    )
    for name in past.pooled.columns:
        shares = [item.null_share or 0.0 for item in past.of(name)]
        if max(shares, default=0.0) > NEARLY_NO_NULLS:
            moved = _moves(shares)
            spec = HistorySpec(
                measure="null_share", column=name, last=_LAST, max_absolute_change=max(0.05, _up(2 * moved, 0.05))
            )
            yield Remark(spec=spec, seen=f"{min(shares):.1%} to {max(shares):.1%} null")
    for name in event_times(past)[:1]:
        hours = max(_ages(past, name))
        spec = HistorySpec(measure="freshness", column=name, max_hours=max(1, math.ceil(2 * hours)))
        yield Remark(spec=spec, seen=f"the newest instant is {hours:.1f} hours before the partition's end at most")


def _moves(values: Sequence[float]) -> float:
    """The largest distance of a value from the median of those before it that history would look at."""
    return max(
        (
            abs(value - statistics.median(values[max(0, index - _LAST) : index]))
            for index, value in enumerate(values)
            if index
        ),
        default=0.0,
    )


def _ages(past: Past, column: str) -> list[float]:
    name, end = quoted(column), quoted(END)
    sql = f'SELECT epoch({end} - max({name}) FILTER (WHERE {name} < {end})) FROM past GROUP BY "partition#", {end}'
    return [float(row[0]) / 3600 for row in past.connection.execute(sql).fetchall() if row[0] is not None]


def _silent(past: Past, asked: set[str]) -> Iterator[str]:
    for name, item in past.pooled.columns.items():
        if item.nulls == item.rows:
            yield f"{name}: always null, so nothing is said about its values"
        elif name not in asked:
            yield f"{name}: nothing held often enough to be asked"


def _up(value: float, step: float) -> float:
    return round(math.ceil(round(value / step, 6)) * step, 10)


def _entry(values: dict[str, Any], seen: str, on_failure: str) -> list[str]:
    values["on_failure"] = on_failure
    flow = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True)
    return [f"  # {seen}", f"  - {flow.strip()}"]
