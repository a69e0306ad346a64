"""What the released models were worth month by month, beside the first release kept for ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from millrace.evaluation.block import DayBlocks, day_blocks
from millrace.evaluation.bootstrap import resample_metric
from millrace.evaluation.sklearn_metric import measure
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec

Floats = NDArray[np.float64]
_ROUNDS = 1000


@dataclass(slots=True)
class LiveGain:
    """The metric of the releases in force against that of the first release, month by month on the same rows.

    The mean difference has a 95 % interval from a bootstrap that draws days within each month (Efron and Tibshirani
    1993, block bootstrap), both models on the same days.
    """

    use_case: UseCaseSpec
    domain: DomainSpec
    settings: Settings
    live: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    _rounds: list[Floats] = field(default_factory=list)

    def add(self, partition: str) -> None:
        """Measure one month; a month without labels or without both models adds nothing."""
        live, first, label, moments = self._paired(partition)
        if len(label) == 0 or (self.use_case.problem == "binary" and len(np.unique(label)) < 2):
            return
        metric, problem = self.use_case.evaluation.metric, self.use_case.problem
        self.live[partition] = measure(problem, label, live)[metric]
        self.first[partition] = measure(problem, label, first)[metric]
        blocks = day_blocks(moments, self.domain.timezone, rounds=_ROUNDS, seed=self.use_case.seed)
        self._rounds.append(self._resample(label, live, blocks) - self._resample(label, first, blocks))

    def mean(self) -> dict[str, float | None]:
        """Mean difference over the months, with its interval; None before there are two models to compare."""
        metric = self.use_case.evaluation.metric
        if not self._rounds:
            return {metric: None, "low": None, "high": None}
        gains = [self.live[key] - self.first[key] for key in self.live]
        low, high = np.nanpercentile(np.mean(self._rounds, axis=0), [2.5, 97.5])
        return {metric: round(float(np.mean(gains)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}

    def _resample(self, label: Floats, prediction: Floats, blocks: DayBlocks) -> Floats:
        return resample_metric(self.use_case.problem, self.use_case.evaluation.metric, label, prediction, blocks)

    def _paired(self, partition: str) -> tuple[Floats, Floats, Floats, Any]:
        """Live and first predictions of the rows that have both, with label and time; shadow rows are the first's."""
        rows = Table(self.settings.lake, self.use_case.table("labelled")).read(partitions=[partition])
        live = rows.filter(pc.equal(rows["role"], "live")).sort_by("key")
        shadow = rows.filter(pc.equal(rows["role"], "shadow")).sort_by("key")
        first = shadow if shadow.num_rows else live
        if first.column("key").combine_chunks() != live.column("key").combine_chunks():
            keep = pc.is_in(live["key"], value_set=first["key"])
            live = live.filter(keep)
            first = first.filter(pc.is_in(first["key"], value_set=live["key"]))
        return (
            live["prediction"].to_numpy(),
            first["prediction"].to_numpy(),
            live["label"].to_numpy(),
            live["event_timestamp"].to_numpy(),
        )
