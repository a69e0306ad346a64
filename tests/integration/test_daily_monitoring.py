"""A domain by day that is live: a drop planted in its labels is found by the window, and none where there is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.integration.test_daily_life import Daily, clean_day, install

from millrace.governance.ledger import Ledger
from millrace.governance.monitor_result import MonitorResults
from millrace.lake import Table
from millrace.monitoring.decision import Decision
from millrace.monitoring.drift import DriftReport
from millrace.monitoring.performance import PerformanceReport
from millrace.partition import Partition
from millrace.spec import UseCaseSpec
from millrace.step.check import check_use_case
from millrace.step.monitoring import decide_retraining, join_labels, measure_performance
from millrace.step.scoring import score_partition

pytestmark = [pytest.mark.integration, pytest.mark.full]
WINDOW, TURNED = 7, 2
DAYS = [item.key for item in Partition("2021-01-01", "day").until(Partition("2021-01-22", "day"))]
HOLDOUT, LIVE = DAYS[13], DAYS[14:]
CANDIDATES = {
    "lightgbm": {
        "trainer": "lightgbm",
        "params": {"rounds": 40, "num_leaves": 7, "threads": 1, "early_stopping": 5},
    },
    "baseline": {"trainer": "baseline"},
}


def turned(daily: Daily, key: str) -> pa.Table:
    """A day whose heavy passes are the ones that are not fined."""
    rows = clean_day(daily.domain, key)
    place = rows.column_names.index("fined")
    return rows.set_column(place, "fined", pc.subtract(pa.scalar(1.0), rows.column("fined")))


def watch(daily: Daily, use_case: UseCaseSpec, key: str) -> tuple[PerformanceReport, Decision]:
    join_labels(use_case, daily.domain, key, settings=daily.settings)
    report = measure_performance(use_case, daily.domain, key, settings=daily.settings)
    calm = DriftReport(use_case=use_case.name, partition=key, release=1)
    return report, decide_retraining(use_case, key, calm, report, settings=daily.settings)


def test_a_planted_drop_asks_for_training_and_days_without_one_do_not(tmp_path: Path) -> None:
    daily = install(tmp_path, DAYS)
    use_case = daily.ask(
        candidates=CANDIDATES,
        evaluation={"slices": ["gate"], "holdout_partitions": WINDOW, "validation_partitions": 3, "bootstrap": 50},
        monitoring={"performance_drop": 0.1, "max_age_partitions": 0},
        min_training_partitions=4,
    )
    assert check_use_case("toll_fine", settings=daily.settings) == []
    evaluation, verdict = daily.judge(use_case, *daily.train(use_case, HOLDOUT))
    assert verdict.passed, verdict.reasons
    daily.release(use_case, evaluation, verdict)
    for key in LIVE:
        if key in LIVE[-TURNED:]:
            clean = Table(daily.settings.lake, daily.domain.clean_table("passes"))
            clean.replace(turned(daily, key), partition=key)
        score_partition(use_case, daily.domain, key, settings=daily.settings)
    seen = {key: watch(daily, use_case, key) for key in LIVE}
    causes = [decision.cause for _, decision in seen.values()]
    assert causes[:4] == ["insufficient_labels"] * 4, "a window of fewer than five days concludes nothing"
    assert causes[4 : len(LIVE) - TURNED] == ["none"] * (len(LIVE) - TURNED - 4)
    assert causes[-1] == "drop"
    check_last(daily, use_case, seen)


def check_last(daily: Daily, use_case: UseCaseSpec, seen: dict[str, tuple[PerformanceReport, Decision]]) -> None:
    """What the last day says, keeps and finds again; late labels of earlier days are in it."""
    key = LIVE[-1]
    report, decision = seen[key]
    assert report.window is not None and report.live is not None and report.shadow is not None
    assert f"on {WINDOW} partitions, {LIVE[-WINDOW]} to {key}, " in decision.reasons[0]
    assert (decision.numbers["window"], decision.numbers["partitions"]) == (WINDOW, WINDOW)
    assert report.shadow == dataclasses.replace(report.live, role="shadow")
    own = [MonitorResults(daily.settings).get("toll_fine", day, "labels") for day in LIVE[-WINDOW:]]
    assert report.live.rows > sum(item["labelled"] for item in own if item)
    entries = Ledger(daily.settings).entries("toll_fine", kinds=("retrain_decided",))
    assert [entry.subject for entry in entries if entry.payload["retrain"]][-1] == key
    head = Ledger(daily.settings).head()
    assert watch(daily, use_case, key) == (report, decision)
    assert Ledger(daily.settings).head() == head
