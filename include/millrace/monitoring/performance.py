"""How well releases do on the labels that have arrived, against what they did on their own holdout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from millrace.artifact import DatasetRef, PlainValue

MINIMUM_ROWS = 200
LEAST_DAYS = 5
"""Working days of a week, of a window of days: fewer say more of their weather than of the release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(PlainValue):
    """The partitions through one that live performance is measured on, where they are several.

    Attributes:
        partitions: how many are looked back on, the one looked at among them.
        measured: those of them with labelled rows that the release scored.
        first: key of the earliest of these, "" for none.
        last: key of the latest.
        elsewhere: those in which another release scored rows; these rows are left out.
        least_days: labelled days that a conclusion takes.
    """

    partitions: int
    measured: int = 0
    first: str = ""
    last: str = ""
    elsewhere: int = 0
    least_days: int = 0

    @property
    def told(self) -> str:
        """The partitions as people write them."""
        count = self.partitions if self.measured == self.partitions else f"{self.measured} of {self.partitions}"
        if not self.measured:
            return f"{count} partitions"
        return f"{count} partitions, {self.first if self.measured == 1 else f'{self.first} to {self.last}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePerformance(PlainValue):
    """One role's success on a partition, or on a window of them.

    Attributes:
        role: `live`, or `shadow` (the first release, scored along).
        release: version that scored most of the rows.
        rows: labelled rows.
        days: days that have some.
        value: the metric; None where it is undefined.
        low: lower bound of its 95 % interval.
        high: upper bound.
        holdout: the same metric of the same release on its own holdout.
        drop: how much worse it is than there, in the metric's own direction; negative where it is better.
        sufficient: whether there are labels enough to conclude anything.
    """

    role: str
    release: int
    rows: int
    days: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    holdout: float | None = None
    drop: float | None = None
    sufficient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceReport(PlainValue):
    """The success of what scored a partition.

    Without a window it has none in its plain form either, which is then that of a partition alone.

    Attributes:
        use_case: its use case.
        partition: key of the partition.
        metric: metric of the use case.
        live: of what answered; None where nothing scored.
        shadow: of the first release, where it was scored along.
        reason: why there is nothing to report (`no_release`, `no_labels`), else "".
        window: what it was measured on, where that is several partitions.
    """

    use_case: str
    partition: str
    metric: str
    live: RolePerformance | None = None
    shadow: RolePerformance | None = None
    reason: str = ""
    window: Window | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; `from_dict` gives an equal value back."""
        plain = PlainValue.to_dict(self)
        return {name: value for name, value in plain.items() if name != "window" or value is not None}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The value that `to_dict` was called on."""
        values = dict(plain)
        if values.get("window") is not None:
            values["window"] = Window.from_dict(values["window"])
        for role in ("live", "shadow"):
            if values.get(role) is not None:
                values[role] = RolePerformance.from_dict(values[role])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReport(PlainValue):
    """Which of a partition's scored rows have their label.

    Attributes:
        use_case: its use case.
        partition: key of the partition.
        rows: rows that were scored live.
        labelled: those whose label was known by the partition's end.
        unlabelled: the rest: no outcome yet, or never one.
        ref: snapshot of `<uc>/labelled`; None where nothing scored.
        reason: `no_release` where nothing scored, else "".
    """

    use_case: str
    partition: str
    rows: int = 0
    labelled: int = 0
    unlabelled: int = 0
    ref: DatasetRef | None = None
    reason: str = ""

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The value that `to_dict` was called on."""
        ref = plain.get("ref")
        return cls(**{**plain, "ref": None if ref is None else DatasetRef.from_dict(ref)})


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveGain(PlainValue):
    """How much better what was live did than the first release kept, over partitions.

    Attributes:
        metric: metric of the use case.
        gain: mean over partitions of the difference, in the metric's own direction.
        low: lower bound of its 95 % day-block bootstrap interval.
        high: upper bound.
        partitions: those that have both roles.
    """

    metric: str
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    partitions: list[str]


def judge_role(
    role: str,
    release: int,
    *,
    rows: int,
    days: int,
    value: float | None,
    low: float | None,
    high: float | None,
    holdout: float | None,
    direction: int,
    least_days: int = 0,
) -> RolePerformance:
    """Put a measurement beside the release's own holdout.

    Args:
        direction: 1 where more of the metric is better, -1 where less is.
        least_days: days that a conclusion takes.
    """
    known = value is not None and holdout is not None
    drop = direction * (holdout - value) if value is not None and holdout is not None else None
    return RolePerformance(
        role=role,
        release=release,
        rows=rows,
        days=days,
        value=value,
        low=low,
        high=high,
        holdout=holdout,
        drop=None if drop is None else float(f"{drop:.10g}"),
        sufficient=known and low is not None and rows >= MINIMUM_ROWS and days >= least_days,
    )
