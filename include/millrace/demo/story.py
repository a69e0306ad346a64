"""The story itself: backfill, first release, then month after month as the decisions fall."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from millrace.demo.watch import Json, RunWatcher
from millrace.spec import DomainSpec, UseCaseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which months the story tells.

    Attributes:
        domain: the domain.
        use_case: the use case whose model lives through it.
        first: key of the first partition.
        release: key of the holdout of the first training run.
        last: key of the last partition.
    """

    domain: DomainSpec
    use_case: UseCaseSpec
    first: str
    release: str
    last: str

    @property
    def history(self) -> list[str]:
        """Partitions that are backfilled."""
        return self._keys(self.first, self.release)

    @property
    def months(self) -> list[str]:
        """Partitions that arrive one by one."""
        after = self.domain.partition(self.release).shift(1).key
        return self._keys(after, self.last)

    @property
    def dag_ids(self) -> tuple[str, ...]:
        """DAGs the story needs."""
        kinds = ("train", "score", "monitor", "rollback")
        return (f"{self.domain.name}_data", *(f"{self.use_case.name}_{kind}" for kind in kinds))

    def _keys(self, first: str, last: str) -> list[str]:
        found = self.domain.partition(first).until(self.domain.partition(last))
        return [partition.key for partition in found]


@dataclass(slots=True)
class Story:
    """Runs a plan through Airflow.

    Attributes:
        plan: what is told.
        watcher: how runs are started and awaited.
        tell: called with (partition, stage, text) as things happen.
        months: month → decision and training outcome, as the DAGs returned them.
        wall_s: seconds by stage.
        began: when it was begun.
    """

    plan: Plan
    watcher: RunWatcher
    tell: Callable[[str, str, str], None] = lambda partition, stage, text: None
    months: dict[str, Json] = field(default_factory=dict)
    wall_s: dict[str, float] = field(default_factory=dict)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    def run(self) -> None:
        """Tell it from the first backfill to the last month.

        Raises:
            ServiceError: a run failed; the message names stage, log and remedy.
        """
        self.watcher.settle(*self.plan.dag_ids, tell=lambda text: self.tell(self.plan.first, "data", text))
        self.watcher.remember(*self.plan.dag_ids)
        with self._clock("backfill"):
            self._backfill()
        with self._clock("first_release"):
            self.tell(self.plan.release, "train", "…")
            steps = self._steps(self.plan.release, "train")
            self._trained(self.plan.release, self.watcher.trigger(self._dag("train"), self.plan.release, tell=steps))
        with self._clock("months"):
            for partition in self.plan.months:
                self._month(partition)

    def _backfill(self) -> None:
        domain = self.plan.domain
        history = self.plan.history
        for partition in history:
            self.tell(partition, "data", "…")
        first, last = domain.partition(history[0]), domain.partition(history[-1])
        dag_id = f"{domain.name}_data"
        # Airflow reads the bounds of a backfill as wall-clock dates in the timetable's own zone.
        self.watcher.backfill(dag_id, first.local_start, last.local_start)
        for partition in history:
            self.watcher.next_run(dag_id, partition, tell=self._steps(partition, "data"))
            self.tell(partition, "data", "done")
            scored = self.watcher.next_run(self._dag("score"), partition)
            self.tell(partition, "score", self._score_text(scored))

    def _month(self, partition: str) -> None:
        plan = self.plan
        self.tell(partition, "data", "…")
        self.watcher.trigger(f"{plan.domain.name}_data", partition)
        self.tell(partition, "data", "done")
        scored = self.watcher.next_run(self._dag("score"), partition)
        self.tell(partition, "score", self._score_text(scored))
        monitored = self.watcher.next_run(self._dag("monitor"), partition)
        decision = self.watcher.result(monitored, "decide_retraining")
        self.months[partition] = {"decision": decision}
        self.tell(partition, "decide", "retrain" if decision["retrain"] else "keep")
        if decision["retrain"]:
            self.tell(partition, "train", "…")
            self._trained(partition, self.watcher.next_run(self._dag("train"), partition))

    def _trained(self, partition: str, run: Json) -> None:
        verdict = self.watcher.result(run, "check_gates")
        release = self.watcher.result(run, "release_model")
        self.months.setdefault(partition, {}).update(verdict=verdict, release=release)
        self.tell(partition, "train", f"v{release['version']} {release['candidate']}" if release else "refused")

    def _score_text(self, run: Json) -> str:
        report: dict[str, Any] = self.watcher.result(run, "score_partition")
        return f"v{report['release']}" if report.get("release") else str(report.get("reason", ""))

    def _steps(self, partition: str, stage: str) -> Callable[[str], None]:
        return lambda step: self.tell(partition, stage, step)

    def _dag(self, kind: str) -> str:
        return f"{self.plan.use_case.name}_{kind}"

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.wall_s[stage] = round(time.monotonic() - start, 2)
