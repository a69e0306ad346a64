"""Parts of the holdout: every row is in one, and the gain over the champion is paired."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.evaluation.block import DayBlocks, day_blocks
from millrace.evaluation.slice import MAX_SLICES, OTHERS, crossed_names, score_slices

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
