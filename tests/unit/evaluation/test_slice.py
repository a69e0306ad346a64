"""Parts of the holdout: every row is in one, and the gain over the champion is paired."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.evaluation.block import DayBlocks, day_blocks
from millrace.evaluation.slice import MAX_SLICES, OTHERS, crossed_names, score_slices, slice_names

ROWS = 4000


@pytest.fixture
def blocks() -> DayBlocks:
    at = np.datetime64("2013-03-01", "us") + np.arange(ROWS) * np.timedelta64(600, "s")
    return day_blocks(at, "UTC", rounds=100, seed=3)


def test_the_gain_of_a_slice_is_paired_so_that_equal_models_gain_exactly_nothing(blocks: DayBlocks) -> None:
    generator = np.random.default_rng(0)
    label = (generator.random(ROWS) < 0.3).astype(np.float64)
    good, bad = label + generator.normal(size=ROWS), generator.normal(size=ROWS)
    values = np.array(["a", "b"], object)[np.arange(ROWS) % 2]
    squash = [1 / (1 + np.exp(-item)) for item in (good, bad)]

    def slices(*predictions: np.ndarray) -> dict[str, tuple[float, float, float]]:
        found = score_slices("binary", "auc", "c", values=values, label=label, predictions=predictions, blocks=blocks)
        return {item.value: (item.gain.value, item.gain.low, item.gain.high) for item in found if item.gain}

    assert slices(squash[0], squash[0]) == {"a": (0, 0, 0), "b": (0, 0, 0)}
    assert all(low > 0 for _, low, _ in slices(*squash).values())
    assert all(high < 0 for _, _, high in slices(*squash[::-1]).values())
    assert slices(squash[0]) == {}


def test_fewer_errors_are_a_gain_too(blocks: DayBlocks) -> None:
    label = np.linspace(0, 100, ROWS)
    found = score_slices(
        "regression",
        "rmse",
        "c",
        values=np.full(ROWS, "a", object),
        label=label,
        predictions=[label + 1, label + 3],
        blocks=blocks,
    )
    assert found[0].gain is not None
    assert found[0].gain.value == pytest.approx(2)


def test_no_row_is_in_no_slice_however_many_values_there_are(blocks: DayBlocks) -> None:
    generator = np.random.default_rng(1)
    values = np.array([f"v{number:03d}" for number in generator.geometric(0.02, ROWS)], object)
    label = (generator.random(ROWS) < 0.5).astype(np.float64)
    found = score_slices(
        "binary", "auc", "c", values=values, label=label, predictions=[generator.random(ROWS)], blocks=blocks
    )
    assert sum(item.rows for item in found) == ROWS
    assert len(found) == MAX_SLICES + 1
    assert sum(item.value == OTHERS for item in found) == 1


def test_crossed_columns_make_one_name_and_keep_what_is_missing() -> None:
    values = {"a": np.array(["x", None], object), "n": np.array([1.0, np.nan])}
    assert crossed_names(("a", "n"), values).tolist() == ["x × 1", "(missing) × (missing)"]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([1_000_001.0, 1_000_002.0], ["1000001", "1000002"]),
        ([0.1, 0.2], ["0.1", "0.2"]),
        ([0.12345671, 0.12345672, 2.0], ["0.12345671", "0.12345672", "2"]),
        ([2.0, 2.0000001], ["2", "2.0000001"]),
        ([-0.0, 0.0, np.nan], ["0", "0", "(missing)"]),
        ([1e20, 3e20], ["1e+20", "3e+20"]),
    ],
)
def test_values_that_differ_are_never_one_slice(values: list[float], names: list[str]) -> None:
    assert slice_names(np.array(values)).tolist() == names


def test_quartiles_that_differ_are_four_slices_however_close_they_lie() -> None:
    values = 1.0 + np.arange(4000) * 1e-9
    found, counts = np.unique(slice_names(values), return_counts=True)
    assert (len(found), set(counts.tolist())) == (4, {1000})


def test_whole_numbers_stay_apart_where_they_are_codes() -> None:
    codes = np.arange(40.0)
    assert len(set(slice_names(codes, codes=True).tolist())) == 40
    assert len(set(slice_names(codes).tolist())) == 4
    assert len(set(slice_names(codes / 7, codes=True).tolist())) == 4


def test_a_slice_of_a_single_day_has_no_bounds(blocks: DayBlocks) -> None:
    generator = np.random.default_rng(0)
    label = (generator.random(ROWS) < 0.3).astype(np.float64)
    values = np.where(blocks.of_row == 0, "first", "rest").astype(object)
    found = score_slices(
        "binary", "auc", "c", values=values, label=label, predictions=[generator.random(ROWS)], blocks=blocks
    )
    assert {item.value: item.score.low is None for item in found} == {"first": True, "rest": False}
