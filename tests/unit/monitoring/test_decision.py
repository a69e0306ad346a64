"""When a model is trained again, and when not."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.monitoring.decision import NO_RELEASE, Decision, decide
from millrace.monitoring.drift import DriftReport
from millrace.monitoring.performance import LabelReport, PerformanceReport, RolePerformance, Window, judge_role
from millrace.spec import MonitoringSpec

SPEC = MonitoringSpec(performance_drop=0.01, max_age_partitions=3, drift_share=0.5)
DRIFT = DriftReport(use_case="u", partition="2013-05", release=1, features=10, rows=1000)


def role(value: float | None = 0.72, holdout: float = 0.72, rows: int = 5000, direction: int = 1) -> RolePerformance:
    low, high = (None, None) if value is None else (value - 0.02, value + 0.02)
    return judge_role(
        "live", 1, rows=rows, days=30, value=value, low=low, high=high, holdout=holdout, direction=direction
    )


def decision(
    live: RolePerformance | None,
    *,
    drift: DriftReport = DRIFT,
    spec: MonitoringSpec = SPEC,
    age: int = 1,
    since: int | None = None,
) -> Decision:
    report = PerformanceReport(use_case="u", partition="2013-05", metric="auc", live=live)
    return decide(spec, drift, report, age=age, since_retrain=since, title="AUC")


def test_a_drop_beyond_the_limit_asks_for_training_and_says_the_figures() -> None:
    found = decision(role(0.70))
    assert found.retrain
    assert found.cause == "drop"
    assert (
        found.reasons[0] == "AUC 0.7 (95 % interval 0.68 to 0.72), 0.72 on its holdout: worse by 0.02, more than 0.01."
    )
    assert found.numbers["drop"] == pytest.approx(0.02)


def test_a_drop_within_the_limit_and_a_gain_do_not() -> None:
    assert not decision(role(0.715)).retrain
    found = decision(role(0.75))
    assert not found.retrain
    assert "better by 0.03" in found.reasons[0]


def test_an_error_that_grew_is_a_drop() -> None:
    assert decision(role(30.0, holdout=20.0, direction=-1)).retrain
    assert not decision(role(10.0, holdout=20.0, direction=-1)).retrain


def test_age_asks_unless_it_is_switched_off_or_cooling_down() -> None:
    assert not decision(role(), age=2).retrain
    found = decision(role(), age=3)
    assert found.retrain
    assert found.cause == "age"
    assert not decision(role(), age=30, spec=SPEC.model_copy(update={"max_age_partitions": 0})).retrain
    cooling = SPEC.model_copy(update={"cooldown_partitions": 2})
    assert not decision(role(), age=3, since=2, spec=cooling).retrain
    assert "cool-down" in decision(role(), age=3, since=2, spec=cooling).reasons[0]
    assert decision(role(), age=3, since=3, spec=cooling).retrain
    assert decision(role(0.6), age=3, since=1, spec=cooling).cause == "drop"


def test_drift_alone_never_retrains_but_is_named() -> None:
    moved = dataclasses.replace(
        DRIFT, drifted=["temp", "dewp"], drifted_features=9, share=0.9, prediction_psi=0.4, psi={"temp": 8.0}
    )
    found = decision(role(), drift=moved)
    assert not found.retrain
    assert any("9 of 10 features drifted" in item and "drift alone does not retrain" in item for item in found.reasons)
    assert any("Predictions moved" in item for item in found.reasons)
    dropped = decision(role(0.6), drift=moved)
    assert dropped.retrain
    assert "drift alone" not in " ".join(dropped.reasons)


def test_too_few_labels_are_no_ground_to_retrain_however_old_the_release_is() -> None:
    for live in (role(0.5, rows=199), role(None), role(None, rows=0)):
        found = decision(live, age=99)
        assert not found.retrain
        assert found.cause == "insufficient_labels"


WINDOW = Window(partitions=14, measured=9, first="2013-05-03", last="2013-05-11", elsewhere=5, least_days=5)


def windowed(live: RolePerformance, window: Window) -> Decision:
    report = PerformanceReport(use_case="u", partition="2013-05-11", metric="auc", live=live, window=window)
    assert PerformanceReport.from_dict(report.to_dict()) == report
    return decide(SPEC, DRIFT, report, age=1, since_retrain=None, title="AUC")


def test_a_window_is_said_in_sentence_and_numbers_and_so_is_what_is_left_out() -> None:
    found = windowed(role(0.70), WINDOW)
    assert (found.retrain, found.cause) == (True, "drop")
    assert found.reasons == [
        "AUC 0.7 (95 % interval 0.68 to 0.72) on 9 of 14 partitions, 2013-05-03 to 2013-05-11, 0.72 on its holdout: "
        "worse by 0.02, more than 0.01.",
        "Rows of 5 partitions that another release scored are left out.",
    ]
    assert (found.numbers["window"], found.numbers["partitions"]) == (14.0, 9.0)
    whole = windowed(role(0.72), dataclasses.replace(WINDOW, measured=14, elsewhere=0))
    assert " on 14 partitions, 2013-05-03 to 2013-05-11, " in whole.reasons[0]
    assert len(whole.reasons) == 1


def test_a_window_of_too_few_days_concludes_nothing_and_says_what_it_takes() -> None:
    def live(days: int, rows: int = 900) -> RolePerformance:
        return judge_role(
            "live", 1, rows=rows, days=days, value=0.5, low=0.4, high=0.6, holdout=0.72, direction=1, least_days=5
        )

    found = windowed(live(4), dataclasses.replace(WINDOW, measured=4))
    assert (found.retrain, found.cause) == (False, "insufficient_labels")
    assert found.reasons[0] == (
        "Too few labels to conclude anything: 900 rows on 4 days, 4 of 14 partitions, 2013-05-03 to 2013-05-11; "
        "it takes 200 rows on 5 days."
    )
    assert windowed(live(5), WINDOW).retrain
    assert windowed(live(0, 0), Window(partitions=3)).reasons == [
        "Too few labels to conclude anything: 0 rows on 0 days, 0 of 3 partitions; it takes 200 rows."
    ]


def test_a_report_without_a_window_has_the_form_it_always_had() -> None:
    report = PerformanceReport(use_case="u", partition="p", metric="auc", live=role())
    assert set(report.to_dict()) == {"use_case", "partition", "metric", "live", "shadow", "reason"}
    assert set(decision(role()).numbers).isdisjoint({"window", "partitions"})


def test_where_nothing_scored_the_answer_is_no() -> None:
    report = PerformanceReport(use_case="u", partition="2013-05", metric="auc", reason="no_release")
    found = decide(SPEC, DRIFT, report, age=0, since_retrain=None, title="AUC")
    assert (found.retrain, found.cause, found.reasons) == (False, NO_RELEASE, ["no_release"])


@given(
    value=st.floats(0.5, 1),
    holdout=st.floats(0.5, 1),
    age=st.integers(0, 9),
    share=st.floats(0, 1),
    rows=st.integers(0, 999),
)
def test_what_is_decided_depends_on_drop_and_age_alone(
    value: float, holdout: float, age: int, share: float, rows: int
) -> None:
    live = role(value, holdout=holdout, rows=rows)
    drift = dataclasses.replace(DRIFT, share=share, drifted_features=5, drifted=["a"])
    found = decision(live, drift=drift, age=age)
    assert found.retrain == (rows >= 200 and ((live.drop is not None and live.drop > 0.01) or age >= 3))
    assert found == decision(live, drift=drift, age=age)
    assert Decision.from_dict(found.to_dict()) == found


def test_reports_survive_the_way_through_xcom() -> None:
    report = PerformanceReport(use_case="u", partition="p", metric="auc", live=role(), shadow=role(0.6))
    assert PerformanceReport.from_dict(report.to_dict()) == report
    labels = LabelReport(use_case="u", partition="p", reason="no_release")
    assert LabelReport.from_dict(labels.to_dict()) == labels
