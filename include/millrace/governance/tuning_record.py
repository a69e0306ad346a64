"""What a search for parameters came to, in brief: part of a recipe, and from there of the evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from millrace.artifact import PlainValue

TrialState = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPoint(PlainValue):
    """One trial in the history of a search.

    Attributes:
        number: its place in the study.
        value: the metric; None where it did not come to an end.
        state: how it ended.
    """

    number: int
    value: float | None
    state: TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRecord(PlainValue):
    """How the parameters of a candidate were found.

    Attributes:
        metric: what trials were judged by.
        folds: the partitions they were judged on, in the order of time.
        trials: state → number of trials that ended so.
        value: the metric of the best trial.
        untuned: that of the spec's own parameters; None where that trial did not come to an end.
        params: of the best trial, by the names of the space; empty where the spec's own were not beaten.
        importance: share of each parameter in what makes good trials good; empty where too few trials tell.
        history: the trials in their order; of a long search, the best of each stretch.
    """

    metric: str
    folds: list[str]
    trials: dict[str, int]
    value: float | None
    untuned: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    importance: dict[str, float] = field(default_factory=dict)
    history: list[TrialPoint] = field(default_factory=list)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The value that `to_dict` was called on."""
        known = {item.name: plain[item.name] for item in dataclasses.fields(cls) if item.name in plain}
        return cls(**{**known, "history": [TrialPoint.from_dict(item) for item in plain.get("history", [])]})
