"""Changed and missing inputs: what is measured of a model, and that no answer is ever NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.evaluation.stability import SHARE_OF_SPREAD, Probed, measure_stability

COUNT = 400
VALUES = st.one_of(st.none(), st.floats(-1e30, 1e30), st.sampled_from([np.inf, -np.inf, np.nan]))


def probed(predict: Any, **more: Any) -> Probed:
    rng = np.random.default_rng(1)
    columns = {"size": pa.array(rng.normal(10, 4, COUNT)), "kind": pa.array(rng.choice(["a", "b"], COUNT).tolist())}
    label = (columns["size"].to_numpy() + rng.normal(size=COUNT) > 10).astype(float)
    values: dict[str, Any] = {
        "problem": "binary",
        "metric": "auc",
        "columns": columns,
        "categories": ["kind"],
        "label": label,
        "predict": predict,
        "seed": 7,
    }
    return Probed(**{**values, **more})


def numeric(columns: Mapping[str, Any], name: str = "size") -> Any:
    return columns[name].to_numpy(zero_copy_only=False).astype(float)


def sigmoid(columns: Mapping[str, Any]) -> Any:
    return 1 / (1 + np.exp(-(np.nan_to_num(numeric(columns), nan=10.0) - 10)))


def test_noise_is_a_twentieth_of_the_spread_and_the_same_each_time() -> None:
    tests = measure_stability(probed(numeric, problem="regression", metric="rmse"))
    again = measure_stability(probed(numeric, problem="regression", metric="rmse"))
    whole = probed(None)
    unit = numeric(whole.columns).std() / whole.label.std()
    assert tests == again
    assert tests[0].change == "perturbed"
    assert tests[0].moved == pytest.approx(SHARE_OF_SPREAD * unit * np.sqrt(2 / np.pi), rel=0.1)


def test_a_feature_that_decides_costs_the_metric_when_it_is_missing_and_another_costs_nothing() -> None:
    noise, size, kind = measure_stability(probed(sigmoid))
    assert (noise.feature, size.feature, kind.feature) == ("", "size", "kind")
    assert size.metric == 0.5
    assert size.drop is not None
    assert size.drop > 0.4
    assert (kind.drop, kind.moved, kind.broken) == (0.0, 0.0, 0)


def test_drop_is_in_the_direction_of_the_metric() -> None:
    losing = measure_stability(probed(sigmoid, metric="log_loss"))[1]
    assert losing.drop is not None
    assert losing.drop > 0


def test_predictions_that_are_no_numbers_are_counted_and_a_refusal_counts_as_all() -> None:
    holes = measure_stability(probed(lambda columns: numeric(columns) / 100))[1]
    assert (holes.broken, holes.moved, holes.metric) == (COUNT, 0.0, None)

    def refuse(columns: Mapping[str, Any]) -> Any:
        if columns["kind"].null_count:
            raise ValueError("no missing kinds here")
        return sigmoid(columns)

    assert measure_stability(probed(refuse))[2].broken == COUNT


def test_of_several_classes_moved_is_the_probability_that_changes_sides() -> None:
    def two(columns: Mapping[str, Any]) -> Any:
        gone = np.full(COUNT, bool(columns["kind"].null_count))
        first = np.where(gone, 0.25, 0.75)
        return np.column_stack([first, 1 - first])

    tests = measure_stability(probed(two, problem="multiclass", metric="log_loss"))
    assert tests[2].moved == 0.5


def test_labels_of_one_class_leave_the_metric_undefined() -> None:
    tests = measure_stability(probed(sigmoid, label=np.ones(COUNT)))
    assert {(item.metric, item.drop) for item in tests} == {(None, None)}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(VALUES, min_size=2, max_size=20),
    st.sampled_from(["binary", "regression"]),
)
def test_no_figure_is_ever_nan(values: list[float | None], problem: str) -> None:
    label = np.arange(len(values), dtype=float) % 2
    tests = measure_stability(
        Probed(
            problem=cast("Any", problem),
            metric="auc" if problem == "binary" else "rmse",
            columns={"size": pa.array(values, pa.float64())},
            categories=[],
            label=label,
            predict=numeric,
            seed=0,
        )
    )
    figures = [item for test in tests for item in (test.moved, test.metric, test.drop) if item is not None]
    assert np.isfinite(figures).all()
