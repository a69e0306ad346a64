"""Curves of a card: few points, both ends, and the same area as all points have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from millrace.evaluation.finding import Curve
from millrace.evaluation.sklearn_curve import MAX_POINTS, draw_curves


def area(curve: Curve) -> float:
    return float(np.trapezoid(curve.y, curve.x))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(2, 3000), steps=st.sampled_from([2, 10, 10**6]))
def test_a_thinned_roc_has_the_area_of_the_whole_one_and_ends_in_the_corners(seed: int, size: int, steps: int) -> None:
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 2, size).astype(np.float64)
    label[:2] = [0.0, 1.0]
    prediction = np.floor((generator.random(size) * 0.7 + label * 0.3) * steps) / steps
    roc, precision = draw_curves("binary", label, prediction, "challenger")
    assert [roc.kind, precision.kind] == ["roc", "precision_recall"]
    for curve in (roc, precision):
        assert 2 <= len(curve.x) == len(curve.y) <= MAX_POINTS
        assert curve.x == sorted(curve.x)
    assert [roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]] == [0, 0, 1, 1]
    assert [precision.x[0], precision.x[-1]] == [0, 1]
    assert area(roc) == pytest.approx(metrics.roc_auc_score(label, prediction), abs=0.02)


def test_of_several_classes_it_is_each_against_the_rest_taken_together() -> None:
    generator = np.random.default_rng(1)
    label = generator.integers(0, 4, 2000).astype(np.float64)
    prediction = generator.dirichlet(np.ones(4), 2000) * 0.5 + 0.5 * np.eye(4)[label.astype(int)]
    roc = draw_curves("multiclass", label, prediction, "champion")[0]
    whole = metrics.roc_auc_score(np.eye(4)[label.astype(int)], prediction, average="micro")
    assert roc.of == "champion"
    assert area(roc) == pytest.approx(whole, abs=0.01)


def test_residuals_show_where_the_errors_lie_along_the_prediction() -> None:
    generator = np.random.default_rng(2)
    prediction = np.sort(generator.random(4000)) * 100
    label = prediction - np.where(prediction > 50, 10.0, 0.0) + generator.normal(size=4000)
    (found,) = draw_curves("regression", label, prediction, "challenger")
    assert found.kind == "residuals"
    assert len(found.x) == len(found.low) == len(found.high) == 20
    assert found.x == sorted(found.x)
    assert all(low < middle < high for low, middle, high in zip(found.low, found.y, found.high, strict=True))
    assert found.y[0] == pytest.approx(0, abs=0.3)
    assert found.y[-1] == pytest.approx(10, abs=0.3)
    assert found.high[0] == pytest.approx(1.645, abs=0.4)


def test_few_rows_give_few_bins_and_rows_of_one_class_no_curve() -> None:
    (found,) = draw_curves("regression", np.arange(7.0), np.arange(7.0), "challenger")
    assert (found.x, found.y) == ([3.0], [0.0])
    assert draw_curves("binary", np.ones(5), np.linspace(0, 1, 5), "challenger") == []
