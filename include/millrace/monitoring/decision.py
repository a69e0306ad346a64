"""Whether to train again, and why or why not. A pure function of what was measured.

Rules, the first that holds decides:

1. Nothing scored, or too few labels have arrived: no. What cannot be measured cannot be improved on.
2. The live metric, of the partition or of a window of them, dropped under the release's own holdout by more than
   `performance_drop`: yes.
3. The release is `max_age_partitions` old: yes, unless a decision to retrain lies within `cooldown_partitions`.
4. Else no. Drift is named beside either answer and decides nothing: it says that the world moved, not that the model
   got worse.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from millrace.artifact import PlainValue
from millrace.monitoring.drift import DriftReport
from millrace.monitoring.performance import MINIMUM_ROWS, PerformanceReport, RolePerformance, Window
from millrace.spec.use_case import MonitoringSpec

NO_RELEASE = "no_release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(PlainValue):
    """Whether to train again.

    Attributes:
        use_case: its use case.
        partition: key of the partition that was looked at.
        retrain: the answer.
        reasons: sentences for people, the deciding one first.
        numbers: the figures it rests on.
        release: version of the release that was judged; 0 for none.
        cause: `drop`, `age`, `none`, `insufficient_labels` or `no_release`.
    """

    use_case: str
    partition: str
    retrain: bool
    reasons: list[str]
    numbers: dict[str, float] = field(default_factory=dict)
    release: int = 0
    cause: str = "none"


def decide(
    monitoring: MonitoringSpec,
    drift: DriftReport,
    performance: PerformanceReport,
    *,
    age: int,
    since_retrain: int | None,
    title: str,
) -> Decision:
    """Apply the rules.

    Args:
        monitoring: the limits.
        drift: of the partition.
        performance: of the partition.
        age: partitions between the release's holdout and this one.
        since_retrain: partitions since the last earlier decision to retrain; None where there was none.
        title: what the metric is called.
    """
    live = performance.live
    if live is None:
        return Decision(
            use_case=performance.use_case,
            partition=performance.partition,
            retrain=False,
            reasons=[performance.reason or NO_RELEASE],
            cause=NO_RELEASE,
        )
    window = performance.window
    retrain, cause, reason = _apply(monitoring, live, age, since_retrain, title, window=window)
    return Decision(
        use_case=performance.use_case,
        partition=performance.partition,
        retrain=retrain,
        reasons=[reason, *_left_out(window), *_beside(monitoring, drift, cause)],
        numbers=_numbers(performance.metric, live, drift, age) | _extent(window),
        release=live.release,
        cause=cause,
    )


def _apply(
    monitoring: MonitoringSpec,
    live: RolePerformance,
    age: int,
    since_retrain: int | None,
    title: str,
    *,
    window: Window | None,
) -> tuple[bool, str, str]:
    if not live.sufficient or live.value is None or live.holdout is None or live.drop is None:
        return False, "insufficient_labels", f"Too few labels to conclude anything: {_labels(live, window)}."
    on = f" on {window.told}" if window else ""
    interval = f"95 % interval {live.low:.4g} to {live.high:.4g}"
    figures = f"{title} {live.value:.4g} ({interval}){on}, {live.holdout:.4g} on its holdout"
    limit = monitoring.performance_drop
    if live.drop > limit:
        return True, "drop", f"{figures}: worse by {live.drop:.4g}, more than {limit:g}."
    held = f"{figures}: {_difference(live.drop, limit)}"
    old = f"The release is {age} partition{'' if age == 1 else 's'} old"
    if monitoring.max_age_partitions and age >= monitoring.max_age_partitions:
        if since_retrain is not None and since_retrain <= monitoring.cooldown_partitions:
            ago = f"{since_retrain} of {monitoring.cooldown_partitions} partitions of cool-down"
            return False, "none", f"{held}. {old}, but only {ago} have passed."
        return True, "age", f"{old}, {monitoring.max_age_partitions} is the limit. {held}."
    return False, "none", f"{held}. {old}."


def _labels(live: RolePerformance, window: Window | None) -> str:
    found = f"{live.rows} rows on {live.days} days"
    if window is None:
        return found
    days = f" on {window.least_days} days" if window.least_days else ""
    return f"{found}, {window.told}; it takes {MINIMUM_ROWS} rows{days}"


def _left_out(window: Window | None) -> list[str]:
    """What of a window another release answered."""
    if window is None or not window.elsewhere:
        return []
    partitions = "1 partition" if window.elsewhere == 1 else f"{window.elsewhere} partitions"
    return [f"Rows of {partitions} that another release scored are left out."]


def _extent(window: Window | None) -> dict[str, float]:
    return {"window": float(window.partitions), "partitions": float(window.measured)} if window else {}


def _difference(drop: float, limit: float) -> str:
    return f"worse by {drop:.4g}, within {limit:g}" if drop > 0 else f"better by {-drop:.4g}"


def _beside(monitoring: MonitoringSpec, drift: DriftReport, cause: str) -> list[str]:
    """What is said of drift beside the answer."""
    if drift.reason or not drift.features:
        return []
    figures = f"{drift.drifted_features} of {drift.features} features drifted (PSI over {monitoring.drift_psi:g})"
    first = f", most {', '.join(drift.drifted[:3])}" if drift.drifted else ""
    found = []
    if drift.share > monitoring.drift_share:
        moved = "" if cause in {"drop", "age"} else "; drift alone does not retrain"
        found.append(f"Drift: {figures}{first}{moved}.")
    elif drift.drifted:
        found.append(f"{figures}{first}.")
    if drift.prediction_psi > monitoring.drift_psi:
        found.append(f"Predictions moved: PSI {drift.prediction_psi:.2f} against the holdout.")
    return found


def _numbers(metric: str, live: RolePerformance, drift: DriftReport, age: int) -> dict[str, float]:
    figures = {
        metric: live.value,
        "low": live.low,
        "high": live.high,
        "holdout": live.holdout,
        "drop": live.drop,
        "rows": float(live.rows),
        "age": float(age),
        "drift_share": drift.share,
        "prediction_psi": drift.prediction_psi,
    }
    return {name: value for name, value in figures.items() if value is not None}
