from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import SpecError
from millrace.spec import CandidateSpec
from millrace.spec.candidate import Choice, FloatRange, IntRange
from millrace.training.params import TorchParams, XGBoostParams
from millrace.training.tuning.optuna_study import distributions
from millrace.training.tuning.search_space import changes, check_space, holds, label_of, labels, start_values, value_of


def candidate(trainer: str = "xgboost", params: dict[str, Any] | None = None, **space: Any) -> CandidateSpec:
    return CandidateSpec.model_validate({"trainer": trainer, "params": params or {}, "tuning": {"space": space}})


def test_a_space_that_its_trainer_takes_passes() -> None:
    check_space(CandidateSpec(trainer="baseline"), where="here")
    check_space(
        candidate(max_depth={"type": "int", "low": 2, "high": 8}, subsample={"type": "float", "low": 0.5, "high": 1}),
        where="here",
    )
    check_space(candidate("torch", hidden={"type": "categorical", "choices": [[64], [128, 64]]}), where="here")


@pytest.mark.parametrize(
    ("space", "said", "place"),
    [
        ({"max_dept": {"type": "int", "low": 2, "high": 8}}, "unknown key 'max_dept'", "tuning.space.max_dept"),
        ({"subsample": {"type": "float", "low": 0.5, "high": 1.5}}, "1.5 cannot be tried", "tuning.space.subsample"),
        ({"grow_policy": {"type": "categorical", "choices": ["deep"]}}, "'deep' cannot be tried", "grow_policy"),
        ({"rounds.more": {"type": "int", "low": 2, "high": 8}}, "no mapping", "rounds.more"),
    ],
)
def test_a_name_or_bound_that_the_trainer_does_not_take_is_refused(
    space: dict[str, Any], said: str, place: str
) -> None:
    with pytest.raises(SpecError, match=said) as raised:
        check_space(candidate(params={"rounds": 5}, **space), where="candidates.mine")
    assert raised.value.where.endswith(place)


def test_a_dotted_name_reaches_into_the_settings_of_an_estimator() -> None:
    params = {"estimator": "linear_model.LogisticRegression", "settings": {"max_iter": 50}}
    check_space(candidate("sklearn", params, **{"settings.C": {"type": "float", "low": 0.1, "high": 9}}), where="here")
    found = changes(params, {"settings.C": 0.5})
    assert found == {"settings": {"max_iter": 50, "C": 0.5}}
    assert params["settings"] == {"max_iter": 50}


def test_the_first_trial_has_the_trainers_own_values_as_far_as_the_space_holds_them() -> None:
    space = candidate(
        max_depth={"type": "int", "low": 2, "high": 8},
        learning_rate={"type": "float", "low": 0.2, "high": 0.5},
        max_bin={"type": "int", "low": 16, "high": 512, "step": 48},
    ).tuning
    assert space is not None
    assert start_values(space.space, XGBoostParams()) == {"max_depth": 6, "max_bin": 256}
    wide = candidate("torch", hidden={"type": "categorical", "choices": [[64], [128, 64]]}).tuning
    assert wide is not None
    assert start_values(wide.space, TorchParams()) == {"hidden": [128, 64]}


PLAIN = st.one_of(st.text(), st.integers(), st.lists(st.integers(0, 9)), st.none())


@given(st.lists(PLAIN, min_size=1, unique_by=repr))
def test_choices_come_back_as_they_were(choices: list[Any]) -> None:
    item = Choice(type="categorical", choices=choices)
    for choice in choices:
        found = value_of(item, label_of(choice))
        assert label_of(found) == label_of(choice)


@given(st.integers(-50, 50), st.integers(0, 60), st.integers(1, 7), st.integers(-60, 120))
def test_a_range_holds_what_optuna_would_propose(low: int, width: int, step: int, value: int) -> None:
    whole = IntRange(type="int", low=low, high=low + width, step=step)
    known = distributions({"x": whole})["x"]
    assert holds(whole, value) == known._contains(value)
    broken = FloatRange(type="float", low=low / 10, high=(low + width) / 10, step=step / 10)
    if holds(broken, value / 10):
        assert distributions({"x": broken})["x"]._contains(value / 10)


def test_labels_of_a_study_are_plain() -> None:
    item = Choice(type="categorical", choices=[[64, 32], {"b": 1, "a": 2}, "x", 3, None])
    assert labels(item) == ["[64,32]", '{"a":2,"b":1}', "x", 3, None]


def test_an_estimator_without_the_setting_searched_is_refused() -> None:
    tuning = {"space": {"settings.Q": {"type": "float", "low": 0.1, "high": 1.0}}}
    params = {"estimator": "linear_model.LogisticRegression"}
    candidate = CandidateSpec.model_validate({"trainer": "sklearn", "params": params, "tuning": tuning})
    with pytest.raises(SpecError, match="no parameter 'Q'"):
        check_space(candidate, where="here")
