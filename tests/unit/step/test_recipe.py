"""A search in a recipe: what is kept of it, and that a long one stays short."""

from __future__ import annotations

import random

import pytest

from millrace.step.recipe import LONGEST_HISTORY, sum_up
from millrace.training.tuning.fold import Fold
from millrace.training.tuning.tune import TrialRecord, Tuned

FOLDS = [
    Fold(trained=("2013-01",), validated="2013-02"),
    Fold(trained=("2013-01", "2013-02"), validated="2013-03"),
]


def trial(number: int, value: float | None, state: str = "complete", *, untuned: bool = False) -> TrialRecord:
    return TrialRecord(
        number=number,
        params={"learning_rate": 0.1 + number, "settings.C": number},
        value=value,
        state=state,  # type: ignore[arg-type]
        seconds=random.random(),
        curves={"2013-02/loss": [(0, 0.5)]},
        untuned=untuned,
    )


def tuned(trials: list[TrialRecord], metric: str = "auc") -> Tuned:
    way = 1 if metric == "auc" else -1
    best = max((item for item in trials if item.value is not None), key=lambda item: way * (item.value or 0.0))
    return Tuned(
        params={"nested": "as the trainer takes it"},
        value=best.value or 0.0,
        metric=metric,
        untuned=next((item.value for item in trials if item.untuned), None),
        trials=trials,
        importance={"learning_rate": 0.75, "settings.C": 0.25},
        study="s",
        folds=FOLDS,
    )


def test_a_search_in_brief_has_no_times_and_counts_how_trials_ended() -> None:
    trials = [
        trial(0, 0.6, untuned=True),
        trial(1, None, "pruned"),
        trial(2, 0.7),
        trial(3, None, "failed"),
        trial(4, 0.7),
    ]
    found = sum_up(tuned(trials))
    assert (found.metric, found.value, found.untuned, found.folds) == ("auc", 0.7, 0.6, ["2013-02", "2013-03"])
    assert found.trials == {"complete": 3, "failed": 1, "pruned": 1}
    assert found.params == {"learning_rate": 2.1, "settings.C": 2}
    assert found.importance == {"learning_rate": 0.75, "settings.C": 0.25}
    assert [(item.number, item.value, item.state) for item in found.history] == [
        (item.number, item.value, item.state) for item in trials
    ]
    again = [trial(item.number, item.value, item.state, untuned=item.untuned) for item in trials]
    assert sum_up(tuned(again)) == found


def test_nothing_is_found_where_the_specs_own_parameters_were_not_beaten() -> None:
    found = sum_up(tuned([trial(0, 0.7, untuned=True), trial(1, 0.6)]))
    assert (found.params, found.value, found.untuned) == ({}, 0.7, 0.7)


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
@pytest.mark.parametrize("count", [LONGEST_HISTORY, LONGEST_HISTORY + 1, 7919])
def test_a_long_history_keeps_its_best_trial_and_is_never_long(metric: str, count: int) -> None:
    generator = random.Random(count)
    trials = [trial(number, generator.random()) for number in range(count)]
    trials[1::5] = [trial(item.number, None, "pruned") for item in trials[1::5]]
    search = tuned(trials, metric)
    found = sum_up(search)
    numbers = [item.number for item in found.history]
    assert len(numbers) == LONGEST_HISTORY
    assert numbers == sorted(numbers)
    assert search.best.number in numbers
    assert sum(found.trials.values()) == count
