"""Money of decisions: against sums over rows, against every single answer, and what a use case may say of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.errors import SpecError
from millrace.evaluation.block import DayBlocks, day_blocks
from millrace.evaluation.bootstrap import resample_mean
from millrace.evaluation.finding import BusinessValue
from millrace.evaluation.gates.business_value import BusinessValueFloor
from millrace.evaluation.score import paired
from millrace.evaluation.value import measure_value
from millrace.spec import UseCaseSpec
from millrace.spec.load import check_values

CLASSES = ["early", "punctual", "late"]
COSTS = {"1": {"1": 25.0, "0": -60.0}, "0": {"1": -15.0}}


def valued(use_case: UseCaseSpec, problem: str = "binary", threshold: float = 0.5, **value: Any) -> UseCaseSpec:
    """The use case with money, as another problem where asked."""
    metric = {"binary": "auc", "multiclass": "log_loss", "regression": "rmse"}[problem]
    plain = use_case.model_dump() | {"problem": problem, "threshold": threshold, "gates": []}
    plain["classes"] = CLASSES if problem == "multiclass" else []
    plain["evaluation"] = {"metric": metric, "slices": ["origin"], "value": {"currency": "EUR", **value}}
    return check_values(UseCaseSpec, plain, where="use_cases/flight_delay.yaml")


def blocks_of(count: int, days: int = 20) -> DayBlocks:
    at = np.datetime64("2013-03-01T12:00", "us") + (np.arange(count) % days) * np.timedelta64(24, "h")
    return day_blocks(at, "America/New_York", rounds=200, seed=7)


def measured(use_case: UseCaseSpec, label: Any, prediction: Any, **more: Any) -> BusinessValue:
    label = np.array(label, np.float64)
    found = measure_value(use_case, label, np.array(prediction, np.float64), blocks_of(len(label)), **more)
    assert found is not None
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_worth_is_the_sum_over_rows_and_no_single_answer_is_better_than_the_best(
    use_case: UseCaseSpec, data: st.DataObject
) -> None:
    size = data.draw(st.integers(2, 40))
    cents = st.integers(-500, 500).map(lambda item: item / 100)
    kind = data.draw(st.sampled_from(["binary", "multiclass", "regression"]))
    if kind == "regression":
        over, under = -data.draw(st.integers(0, 5)), -data.draw(st.integers(1, 5))
        spec = valued(use_case, kind, over=over, under=under)
        label = np.array(data.draw(st.lists(st.integers(-9, 9), min_size=size, max_size=size)), np.float64)
        prediction = np.array(data.draw(st.lists(st.integers(-9, 9), min_size=size, max_size=size)), np.float64)

        def worth(answers: Any) -> float:
            errors = [float(said - came) for came, said in zip(label, answers, strict=True)]
            return sum(over * item if item > 0 else under * -item for item in errors)

        answers: list[Any] = list(range(-9, 10))
        said: Any = prediction
    else:
        names = CLASSES if kind == "multiclass" else ["0", "1"]
        matrix = {came: {decided: data.draw(cents) for decided in names} for came in names}
        spec = valued(use_case, kind, threshold=0.4, matrix=matrix)
        places = st.integers(0, len(names) - 1)
        label = np.array(data.draw(st.lists(places, min_size=size, max_size=size)), np.float64)
        said = np.array(data.draw(st.lists(places, min_size=size, max_size=size)))
        prediction = np.eye(3)[said] * 0.4 + 0.2 if kind == "multiclass" else np.where(said == 1, 0.4, 0.39)

        def worth(answers: Any) -> float:
            return sum(matrix[names[int(came)]][names[int(item)]] for came, item in zip(label, answers, strict=True))

        answers = list(range(len(names)))
    found = measured(spec, label, prediction)
    assert found.total == pytest.approx(worth(said), rel=1e-8, abs=1e-9)
    assert found.per_row.value == pytest.approx(worth(said) / size, rel=1e-8, abs=1e-9)
    assert found.baseline.value == pytest.approx(
        max(worth([item] * size) for item in answers) / size, rel=1e-8, abs=1e-9
    )
    assert sum(item.total for item in found.cells) == pytest.approx(found.total, rel=1e-8, abs=1e-6)


def test_the_gain_is_paired_over_the_champion_at_its_own_threshold_and_over_one_answer_without_one(
    use_case: UseCaseSpec,
) -> None:
    generator = np.random.default_rng(0)
    chance = generator.random(4000)
    label = (generator.random(4000) < chance).astype(np.float64)
    spec = valued(use_case, threshold=0.2, matrix=COSTS)
    alone = measured(spec, label, chance)
    assert alone.champion is None
    assert alone.gain.value == pytest.approx((alone.per_row.value or 0) - (alone.baseline.value or 0))
    same = measured(spec, label, chance, champion=chance, champion_threshold=0.2)
    assert same.gain.model_dump() == {"value": 0.0, "low": 0.0, "high": 0.0}
    late = measured(spec, label, chance, champion=chance, champion_threshold=0.25)
    assert late.gain.low is not None and late.gain.low > 0
    assert late.champion is not None and late.per_row.low is not None and late.per_row.high is not None
    assert late.gain.high is not None
    assert late.gain.high - late.gain.low < late.per_row.high - late.per_row.low


def test_few_days_make_the_worth_less_sure_than_percentiles_say_and_one_day_says_nothing(
    use_case: UseCaseSpec,
) -> None:
    generator = np.random.default_rng(0)
    chance = generator.random(400)
    label = (generator.random(400) < chance).astype(np.float64)
    spec = valued(use_case, threshold=0.2, matrix=COSTS)
    one = measure_value(spec, label, chance, blocks_of(400, days=1))
    assert one is not None
    assert (one.per_row.low, one.baseline.low, one.gain.low) == (None, None, None)
    answer = BusinessValueFloor(at_least=-100, min_gain=-100).answer(SimpleNamespace(value=one))  # type: ignore[arg-type]
    assert answer.outcome == "insufficient_data"
    three, blocks = measure_value(spec, label, chance, blocks_of(400, days=3)), blocks_of(400, days=3)
    assert three is not None
    assert three.per_row.value is not None
    money = np.where(chance >= 0.2, np.where(label == 1, 25.0, -15.0), np.where(label == 1, -60.0, 0.0))
    rounds = resample_mean(money, blocks)
    assert three.per_row == paired(float(money.mean()), rounds, days=3)
    assert three.per_row.low is not None
    assert three.per_row.low < np.percentile(rounds, 2.5)


def test_nothing_is_measured_where_the_use_case_names_no_money(use_case: UseCaseSpec) -> None:
    without = use_case.model_copy(update={"evaluation": use_case.evaluation.model_copy(update={"value": None})})
    assert measure_value(without, np.ones(3), np.ones(3), blocks_of(3)) is None


def test_classes_may_be_written_as_numbers(use_case: UseCaseSpec) -> None:
    assert valued(use_case, matrix={"1": {"1": 25}}) == valued(use_case, matrix={"1": {"1": 25.0}})
    numbers = {int(came): {int(said): money for said, money in row.items()} for came, row in COSTS.items()}
    assert valued(use_case, matrix=numbers) == valued(use_case, matrix=COSTS)
    with pytest.raises(SpecError, match=r"evaluation\.value\.matrix"):
        valued(use_case, matrix=[1, 2])
    with pytest.raises(SpecError, match=r"evaluation\.value\.matrix\.1"):
        valued(use_case, matrix={1: 3.0})


@pytest.mark.parametrize(
    ("problem", "value", "says"),
    [
        ("binary", {"matrix": {"late": {"1": 1.0}}}, ["evaluation.value.matrix.late", "'late' is no class", "0, 1"]),
        ("binary", {"matrix": {"1": {"yes": 1.0}}}, ["evaluation.value.matrix.1.yes", "'yes' is no class"]),
        ("multiclass", {"matrix": {"late": {"1": 1.0}}}, ["matrix.late.1", "known are: early, punctual, late"]),
        ("binary", {}, ["evaluation.value.matrix is empty"]),
        ("binary", {"matrix": COSTS, "over": -1.0}, ["value.over", "for a regression"]),
        ("regression", {}, ["value.over and value.under are both 0"]),
        ("regression", {"matrix": COSTS}, ["value.matrix is for classes"]),
        ("regression", {"over": 2.0}, ["evaluation.value.over", "less than or equal to 0"]),
        ("binary", {"matrix": {"1": {"1": float("nan")}}}, ["evaluation.value.matrix.1.1", "finite"]),
        ("binary", {"matrix": {"1": {"1": True}}}, ["evaluation.value.matrix.1.1", "(is True)"]),
        ("binary", {"matrix": {"1": {"1": "3"}}}, ["evaluation.value.matrix.1.1", "(is '3')"]),
        ("regression", {"over": False, "under": -1.0}, ["evaluation.value.over", "(is False)"]),
        ("binary", {"matrix": {"1": {"1": "much"}}}, ["evaluation.value.matrix.1.1", "'much'"]),
    ],
)
def test_money_that_does_not_fit_the_problem_is_refused_with_file_key_and_remedy(
    use_case: UseCaseSpec, problem: str, value: dict[str, Any], says: list[str]
) -> None:
    with pytest.raises(SpecError) as error:
        valued(use_case, problem, **value)
    assert all(word in str(error.value) for word in [*says, "use_cases/flight_delay.yaml", "remedy"])
