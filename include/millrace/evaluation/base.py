"""What an evaluation hands on: references and the few figures worth showing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from millrace.artifact import ModelRef, PlainValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(PlainValue):
    """The outcome of comparing candidates on the holdout.

    Attributes:
        use_case: its use case.
        challenger: the best candidate.
        champion: version of the release in force just before the holdout's end; 0 where there is none.
        champion_package: digest of its package.
        holdout: key of the partition everything was measured on.
        rows: rows of it with a label.
        metric: the metric that ranks.
        metrics: candidate, and `champion` → `value`, `low` and `high` of that metric, where they are defined.
        gain: `value`, `low` and `high` of the paired gain over the champion; empty without one.
        evidence: digest of the evidence bundle.
        reference: digest of the drift reference.
        policy: digest of the policy the evidence was made for.
        card: path of the model card (HTML); the same as Markdown lies beside it.
        absent: candidates of the use case that were not trained, and so are not judged.
    """

    use_case: str
    challenger: ModelRef
    champion: int
    champion_package: str = ""
    holdout: str
    rows: int
    metric: str
    metrics: dict[str, dict[str, float]]
    gain: dict[str, float] = field(default_factory=dict)
    evidence: str
    reference: str
    policy: str
    card: str
    absent: list[str] = field(default_factory=list)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The value that `to_dict` was called on."""
        known = {item.name for item in dataclasses.fields(cls)}
        values = {name: value for name, value in plain.items() if name in known}
        return cls(**{**values, "challenger": ModelRef.from_dict(plain["challenger"])})
