"""The fast bootstrap against scikit-learn on the very rows, and what a paired comparison promises."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import EvaluationError
from millrace.evaluation.block import DayBlocks, day_blocks
from millrace.evaluation.bootstrap import measure_metric, resample, resample_lift
from millrace.evaluation.metric import METRICS, DecisionRule, direction_of
from millrace.evaluation.score import estimate, gain, score
from millrace.evaluation.sklearn_metric import measure, normalised
from millrace.evaluation.slice import score_slices, slice_names
from millrace.spec.use_case import Problem


def blocks_of(days: np.ndarray, draws: list[list[int]]) -> DayBlocks:
    count = int(days.max()) + 1
    return DayBlocks(
        of_row=days, days=[date.fromordinal(1 + i) for i in range(count)], draws=np.array(draws, np.float64)
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_round_of_every_metric_is_what_scikit_learn_says_of_the_copied_rows(data: st.DataObject) -> None:
    problem = data.draw(st.sampled_from(["binary", "multiclass", "regression"]))
    days = np.array(data.draw(st.lists(st.integers(0, 4), min_size=6, max_size=60)))
    days = np.unique(days, return_inverse=True)[1]
    size = len(days)
    # Few distinct scores, so that ties are common.
    prediction = np.array(data.draw(st.lists(st.integers(0, 8), min_size=size, max_size=size))) / 8
    label = np.array(data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)), np.float64)
    if problem == "regression":
        label = label * 3 + np.arange(size) / 7
    if problem == "multiclass":
        label = np.array(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)), np.float64)
        other = np.roll(prediction, 1) / 2
        prediction = normalised(np.stack([prediction, other, np.full(size, 0.3)], axis=1))
        prediction = prediction.astype(np.float32).astype(np.float64)
    weights = data.draw(st.lists(st.integers(0, 3), min_size=int(days.max()) + 1, max_size=int(days.max()) + 1))
    copied = np.repeat(np.arange(size), np.array(weights)[days])
    if len(copied) < 2 or len(np.unique(label[copied])) < 2:
        return
    rule = DecisionRule(threshold=data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])), beta=data.draw(st.floats(0.1, 5)))
    ours = resample(problem, label, prediction, blocks_of(days, [weights]), rule=rule)  # type: ignore[arg-type]
    theirs = measure(problem, label[copied], prediction[copied], rule=rule)  # type: ignore[arg-type]
    assert set(ours) == set(theirs) == {item.name for item in METRICS.values() if problem in item.problems}
    for name, value in theirs.items():
        assert ours[name][0] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_rounds_are_the_same_as_of_rows_copied_as_often_as_their_day_was_drawn() -> None:
    generator = np.random.default_rng(1)
    at = np.datetime64("2013-03-01T12:00", "us") + np.arange(400) * np.timedelta64(2, "h")
    prediction = generator.random(400).round(2)
    label = (generator.random(400) < prediction).astype(np.float64)
    blocks = day_blocks(at, "America/New_York", rounds=5, seed=3)
    ours = resample("binary", label, prediction, blocks)
    for number, draw in enumerate(blocks.draws):
        rows = np.concatenate([np.repeat(np.flatnonzero(blocks.of_row == d), int(n)) for d, n in enumerate(draw)])
        expected = measure("binary", label[rows], prediction[rows])
        assert {name: ours[name][number] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("digits", [1, 2, 16])
def test_the_lift_of_many_rows_is_what_scikit_learns_roc_says_however_many_are_tied(digits: int) -> None:
    generator = np.random.default_rng(digits)
    at = np.datetime64("2013-03-01T12:00", "us") + np.arange(9000) * np.timedelta64(5, "m")
    prediction = generator.random(9000).round(digits)
    label = (generator.random(9000) < prediction).astype(np.float64)
    blocks = day_blocks(at, "America/New_York", rounds=8, seed=3)
    copies = [np.repeat(np.arange(9000), draw[blocks.of_row].astype(int)) for draw in blocks.draws]
    expected = [measure("binary", label[rows], prediction[rows])["lift"] for rows in copies]
    assert resample_lift(label, prediction, blocks) == pytest.approx(expected)


def test_lift_is_the_share_of_ones_in_the_top_tenth_over_their_share_in_all_rows() -> None:
    label = np.array([1.0] * 8 + [0.0] * 2 + [1.0] * 12 + [0.0] * 78)
    assert measure("binary", label, np.linspace(1, 0, 100))["lift"] == pytest.approx(0.8 / 0.2)
    assert measure("binary", label, np.full(100, 0.4))["lift"] == pytest.approx(1.0)


def test_f_beta_is_at_the_threshold_and_of_the_beta_it_is_given() -> None:
    label, prediction = np.array([1.0, 1, 1, 0, 0]), np.array([0.9, 0.3, 0.2, 0.3, 0.1])
    strict = measure("binary", label, prediction, rule=DecisionRule(threshold=0.5, beta=1))["f_beta"]
    loose = measure("binary", label, prediction, rule=DecisionRule(threshold=0.3, beta=2))["f_beta"]
    assert strict == pytest.approx(2 * 1 * (1 / 3) / (1 + 1 / 3))
    assert loose == pytest.approx(5 * (2 / 3) * (2 / 3) / (4 * 2 / 3 + 2 / 3))
    assert measure("binary", label, prediction, rule=DecisionRule(threshold=1.0))["f_beta"] == 0.0


def test_the_percentage_error_leaves_out_labels_of_nought_and_is_undefined_where_there_are_no_others() -> None:
    label, prediction = np.array([0.0, 10.0, -4.0]), np.array([5.0, 11.0, -3.0])
    assert measure("regression", label, prediction)["mape"] == pytest.approx((0.1 + 0.25) / 2)
    assert np.isnan(measure("regression", np.zeros(3), prediction)["mape"])
    blocks = blocks_of(np.array([0, 1, 1]), [[1, 1], [2, 0]])
    rounds = resample("regression", label, prediction, blocks)["mape"]
    assert rounds[0] == pytest.approx(0.175)
    assert np.isnan(rounds[1])
    nowhere = score("regression", np.zeros(3), prediction, blocks).estimates()["mape"]
    assert nowhere.model_dump() == {"value": None, "low": None, "high": None}


def test_a_round_without_a_class_has_no_auc_and_an_interval_is_left_out_when_that_is_common() -> None:
    days = np.array([0, 0, 1, 1])
    label, prediction = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.2, 0.3])
    found = resample("binary", label, prediction, blocks_of(days, [[1, 1], [0, 2]]))
    assert found["auc"][0] == 1.0
    assert np.isnan(found["auc"][1])
    assert np.isnan(found["average_precision"][1])
    assert np.isfinite(found["brier"]).all()
    assert estimate(1.0, found["auc"], days=2).low is None
    assert estimate(float("nan"), found["auc"], days=2).value is None


def test_blocks_are_calendar_days_of_the_zone_and_draws_depend_on_days_and_seed_alone() -> None:
    at = np.array(
        ["2013-03-10T04:59:59", "2013-03-10T05:00:00", "2013-03-11T03:59:59", "2013-03-11T04:00:00"], "M8[us]"
    )
    blocks = day_blocks(at, "America/New_York", rounds=50, seed=7)
    # 2013-03-10 has 23 hours in New York: it begins at 05:00 and ends at 04:00 UTC.
    assert blocks.of_row.tolist() == [0, 1, 1, 2]
    assert blocks.days == [date(2013, 3, 9), date(2013, 3, 10), date(2013, 3, 11)]
    assert (blocks.draws.sum(axis=1) == 3).all()
    again = day_blocks(np.repeat(at, 2), "America/New_York", rounds=50, seed=7)
    assert (again.draws == blocks.draws).all()
    assert (day_blocks(at, "America/New_York", rounds=50, seed=8).draws != blocks.draws).any()


def test_the_paired_gain_is_narrower_than_the_difference_of_two_intervals_and_zero_against_oneself() -> None:
    generator = np.random.default_rng(0)
    at = np.datetime64("2013-03-01T12:00", "us") + generator.integers(0, 30 * 24, 6000) * np.timedelta64(1, "h")
    day = np.unique((at - at.min()).astype("m8[D]"), return_inverse=True)[1]
    base = generator.normal(size=31)[day] + generator.normal(size=6000)
    label = (base + generator.normal(size=6000) > 0.5).astype(np.float64)
    good, other = 1 / (1 + np.exp(-base)), 1 / (1 + np.exp(-(base + 0.5 * generator.normal(size=6000))))
    blocks = day_blocks(at, "UTC", rounds=300, seed=7)
    ours, theirs = score("binary", label, good, blocks), score("binary", label, other, blocks)
    paired, single = gain("auc", ours, theirs), ours.estimates()["auc"]
    assert paired.low is not None and paired.high is not None and single.low is not None and single.high is not None
    assert paired.low > 0
    assert paired.high - paired.low < 0.5 * (single.high - single.low)
    assert gain("auc", ours, ours).model_dump() == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert gain("log_loss", ours, theirs).value == pytest.approx(theirs.value["log_loss"] - ours.value["log_loss"])


def test_no_metric_without_direction_may_rank() -> None:
    assert direction_of("rmse") == -1
    for name in ("bias", "auk"):
        with pytest.raises(EvaluationError, match=name):
            direction_of(name)


@pytest.mark.parametrize(
    ("label", "prediction", "match"),
    [
        ([], [], "0 labels"),
        ([0, 1], [0.5], "2 labels and 1"),
        ([0, 1], [0.5, np.nan], "1 of 2 predictions"),
        ([1, 1], [0.5, 0.4], "both classes"),
        ([0, 1], [0.5, 1.4], "1.4"),
    ],
)
def test_rows_that_no_metric_is_defined_on_are_refused(label: list[float], prediction: list[float], match: str) -> None:
    with pytest.raises(EvaluationError, match=match):
        measure("binary", np.array(label, np.float64), np.array(prediction, np.float64))


@pytest.mark.parametrize(
    ("label", "prediction", "match"),
    [
        ([0, 1], [0.5, 0.4], "one prediction a row"),
        ([1, 1], [[0.2, 0.3, 0.5]] * 2, r"3 classes are \[1.0\]"),
        ([0, 3], [[0.2, 0.3, 0.5]] * 2, r"3 classes are \[0.0, 3.0\]"),
        ([0, 0.5], [[0.2, 0.3, 0.5]] * 2, r"3 classes are \[0.0, 0.5\]"),
        ([0, 1], [[0.2, 0.3, 0.4]] * 2, "sum to 1 but for 0.1"),
        ([0, 1], [[-0.2, 0.7, 0.5]] * 2, "from -0.2"),
        ([0, 1], [[0.2, np.nan, 0.5]] * 2, "predictions are NaN"),
    ],
)
def test_rows_of_several_classes_that_no_metric_is_defined_on_are_refused(
    label: list[float], prediction: list[Any], match: str
) -> None:
    with pytest.raises(EvaluationError, match=match):
        measure("multiclass", np.array(label, np.float64), np.array(prediction, np.float64))


def test_the_auc_of_several_classes_is_undefined_where_one_of_them_is_missing_and_the_log_loss_is_not() -> None:
    prediction = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    whole, part = np.array([0.0, 1, 2, 0]), np.array([0.0, 1, 1, 0])
    assert measure("multiclass", whole, prediction)["auc"] == 1.0
    found = measure("multiclass", part, prediction)
    assert np.isnan(found["auc"])
    assert found["log_loss"] == pytest.approx(-np.log([0.5, 0.6, 0.2, 0.6]).mean())
    assert np.isnan(measure_metric("multiclass", "auc", part, prediction))
    for name in ("log_loss", "accuracy", "macro_f1", "brier", "ece"):
        assert measure_metric("multiclass", name, part, prediction) == pytest.approx(found[name])


def test_slices_cover_all_rows_and_say_none_where_one_class_is_missing() -> None:
    generator = np.random.default_rng(0)
    label = (generator.random(300) < 0.3).astype(np.float64)
    values = np.array(["a", "b", None], object)[np.arange(300) % 3]
    label[values == "b"] = 0
    prediction = generator.random(300)
    blocks = blocks_of(np.arange(300) % 7, [[1] * 7, [2, 1, 1, 1, 1, 1, 0]])
    found = score_slices(
        "binary", "auc", "column", values=values, label=label, predictions=[prediction] * 2, blocks=blocks
    )
    assert sum(item.rows for item in found) == 300
    assert {item.value: item.score.value is None for item in found} == {"(missing)": False, "a": False, "b": True}
    rows = values == "a"
    expected = measure("binary", label[rows], prediction[rows])["auc"]
    of_a = next(item for item in found if item.value == "a")
    assert of_a.score.value == pytest.approx(expected)
    assert of_a.champion == of_a.score


def test_numbers_are_sliced_at_their_quartiles_unless_they_are_few() -> None:
    assert set(slice_names(np.array([1.0, 2.0, 1.0, np.nan]))) == {"1", "2", "(missing)"}
    names = slice_names(np.arange(100.0))
    assert sorted(np.unique(names, return_counts=True)[1].tolist()) == [25, 25, 25, 25]


@pytest.mark.parametrize("problem", ["binary", "multiclass", "regression"])
def test_rows_are_sorted_and_counted_for_all_rounds_and_not_in_each(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    at = np.datetime64("2013-03-01", "us") + generator.integers(0, 31 * 86_400, 3000) * np.timedelta64(1, "s")
    label = generator.integers(0, 2 if problem == "binary" else 10, 3000).astype(np.float64)
    prediction = generator.dirichlet(np.ones(10), 3000) if problem == "multiclass" else generator.random(3000)
    walks: list[str] = []

    def note(name: str) -> None:
        genuine = getattr(np, name)
        monkeypatch.setattr(np, name, lambda *given, **options: walks.append(name) or genuine(*given, **options))

    for name in ("argsort", "sort", "bincount", "searchsorted"):
        note(name)
    found = []
    for rounds in (16, 216):
        blocks = day_blocks(at, "America/New_York", rounds=rounds, seed=7)
        walks.clear()
        resample(problem, label, prediction, blocks)
        found.append(len(walks))
    few, many = found
    assert few > 0
    assert many - few < 200 / 4
