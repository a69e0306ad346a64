"""Places of trials and bars in the model card's drawing of a search."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.evaluation.tuning_plot import HEIGHT, WIDTH, parameter_rows, plot_history
from millrace.governance.tuning_record import TrialPoint, TuningRecord


def record(values: list[float | None], metric: str = "auc", **more: Any) -> TuningRecord:
    history = [
        TrialPoint(number=number, value=value, state="pruned" if value is None else "complete")
        for number, value in enumerate(values)
    ]
    return TuningRecord(metric=metric, folds=["2013-02"], trials={}, value=None, history=history, **more)


VALUES = st.lists(st.none() | st.floats(-1e6, 1e6) | st.just(float("inf")), min_size=1, max_size=40)


@given(values=VALUES, metric=st.sampled_from(["auc", "log_loss", "rmse"]))
def test_every_trial_stands_inside_the_drawing_and_the_line_only_gets_better(
    values: list[float | None], metric: str
) -> None:
    found = plot_history(record(values, metric))
    if found is None:
        assert all(value is None or value == float("inf") for value in values)
        return
    assert len(found.dots) == len(values)
    assert all(0 <= dot.x <= WIDTH and 0 <= dot.y <= HEIGHT for dot in found.dots)
    heights = [y for _, y in found.best]
    assert heights == sorted(heights, reverse=metric == "auc")
    assert found.best[-1][0] == found.dots[-1].x
    places = [x for x, _ in found.best]
    assert places == sorted(places)


def test_better_is_up_where_more_is_better_and_down_where_less_is() -> None:
    for metric, upward in (("auc", True), ("log_loss", False)):
        found = plot_history(record([0.6, 0.7, None, 0.65], metric, untuned=0.6))
        assert found is not None
        low, high = (dot.y for dot in found.dots[:2])
        assert high < low < HEIGHT
        assert found.untuned == low
        assert found.dots[2].y == HEIGHT
        assert (found.best[-1][1] == high) is upward


def test_one_hopeless_trial_stands_on_the_edge_and_presses_no_other() -> None:
    found = plot_history(record([0.40, 0.41, 0.42, 0.43, 900.0], "log_loss"))
    assert found is not None
    assert [dot.beyond for dot in found.dots] == [False, False, False, False, True]
    assert found.beyond
    assert found.dots[0].y - found.dots[3].y > HEIGHT / 4


def test_a_single_trial_and_a_search_of_equal_values_can_be_drawn() -> None:
    assert plot_history(record([0.5])) is not None
    equal = plot_history(record([0.5, 0.5, 0.5]))
    assert equal is not None
    assert {dot.y for dot in equal.dots} == {equal.best[0][1]}
    assert plot_history(record([None, None])) is None
    assert plot_history(record([])) is None


def test_parameters_come_by_importance_in_words() -> None:
    rows = parameter_rows(
        record(
            [0.5],
            params={"rate": 0.123456789, "layers": [64, 32], "kind": "a", "deep": None},
            importance={"layers": 0.6, "rate": 0.3, "kind": 0.1},
        )
    )
    assert [(row.name, row.found, row.bar) for row in rows] == [
        ("layers", "[64, 32]", 100.0),
        ("rate", "0.123457", 50.0),
        ("kind", "a", pytest.approx(16.67)),
        ("deep", "null", 0.0),
    ]
    assert rows[-1].importance is None
    kept = parameter_rows(record([0.5], importance={"rate": 1.0}))
    assert [(row.name, row.found) for row in kept] == [("rate", "")]
