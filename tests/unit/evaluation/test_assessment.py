"""Choosing a challenger, comparing it with the champion, and what goes into the bundle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from millrace.artifact import DatasetRef, ModelRef
from millrace.errors import EvaluationError
from millrace.evaluation.assessment import Examined, gather_evidence
from millrace.evaluation.base import Evaluation
from millrace.evaluation.contest import Contender, run_field
from millrace.evaluation.finding import Explanation
from millrace.evaluation.holdout import Holdout, make_holdout, time_order
from millrace.settings import Settings
from millrace.spec import DomainSpec, PolicySpec, UseCaseSpec, load_domain

START = datetime(2013, 3, 1, 5, tzinfo=UTC)


@pytest.fixture
def domain(settings: Settings) -> DomainSpec:
    return load_domain(settings.dags, "flights")


def rows(use_case: UseCaseSpec, count: int, first: datetime, seed: int) -> pa.Table:
    generator = np.random.default_rng(seed)
    at = [first + timedelta(minutes=60 * i * 24 * 28 / count) for i in range(count)]
    signal = generator.normal(size=count)
    columns: dict[str, Any] = {
        "key": [f"{seed}-{i:05d}" for i in generator.permutation(count)],
        "event_timestamp": pa.array(at, pa.timestamp("us", "UTC")),
        "label": (signal + generator.normal(size=count) > 0.7).astype(np.float64),
        "label_known_at": pa.array([item + timedelta(hours=2) for item in at], pa.timestamp("us", "UTC")),
    }
    for name in use_case.features.columns:
        if name in use_case.features.categories:
            columns[name] = generator.choice(["A", "B", "C"], count).tolist()
        else:
            columns[name] = signal if name == "temp" else generator.normal(size=count)
    return pa.table(columns)


def contender(name: str, prediction: np.ndarray, **more: Any) -> Contender:
    values = {
        "trainer": name,
        "package": name[0] * 64,
        "trained_through": "2013-02",
        "bytes": 1000,
        "features": ["temp"],
        **more,
    }
    return Contender(name=name, prediction=prediction, **values)


@pytest.fixture
def holdout(use_case: UseCaseSpec, domain: DomainSpec) -> Holdout:
    return make_holdout(use_case, domain, rows(use_case, 1500, START, 1), "2013-03")


def squash(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_the_best_that_learned_is_the_challenger_even_if_the_baseline_is_lucky(
    use_case: UseCaseSpec, holdout: Holdout
) -> None:
    signal = holdout.table.column("temp").to_numpy()
    lucky = contender("baseline", squash(2 * signal))
    field = run_field(
        use_case, holdout, [lucky, contender("b", squash(-signal)), contender("a", squash(-signal))], None
    )
    assert field.challenger.name == "a"
    alone = run_field(use_case, holdout, [lucky], None)
    assert alone.challenger.name == "baseline"


def test_candidates_whose_predictions_are_unusable_are_named(use_case: UseCaseSpec, holdout: Holdout) -> None:
    with pytest.raises(EvaluationError, match="xgboost") as error:
        run_field(use_case, holdout, [contender("xgboost", np.full(1500, np.nan))], None)
    assert "NaN" in str(error.value)
    with pytest.raises(EvaluationError, match="each name once"):
        run_field(use_case, holdout, [contender("x", squash(np.zeros(1500)))] * 2, None)
    with pytest.raises(EvaluationError, match="candidates"):
        run_field(use_case, holdout, [], None)


def test_the_bundle_is_the_same_for_the_same_data_and_knows_what_it_measured(
    use_case: UseCaseSpec, policy: PolicySpec, domain: DomainSpec, holdout: Holdout
) -> None:
    training = rows(use_case, 3000, START - timedelta(days=28), 2)
    signal = holdout.table.column("temp").to_numpy()
    ref = DatasetRef(table="t", version=4, digest="d", known_until="2013-04-01T04:00:00Z")

    def bundle(order: int) -> Any:
        models = [contender("xgboost", squash(signal)), contender("baseline", np.full(1500, 0.3))][::order]
        champion = contender("champion", squash(0.2 * np.roll(signal, 1) + 0.1 * signal), release=2)
        field = run_field(use_case, holdout, models, champion, champion_release=2)
        time = time_order(
            domain,
            "2013-03",
            training_partitions=["2013-02"],
            training=training,
            rows=holdout.table,
            known_until=ref.known_until,
        )
        return gather_evidence(
            use_case,
            policy,
            field,
            holdout,
            training,
            training_set=ref,
            examined=Examined(time=time, explanation=Explanation(method="none", rows=0, features=[]), reference="r"),
        )

    found = bundle(1)
    assert found.digest == bundle(-1).digest
    assert found.champion is not None
    assert found.champion.release == found.versus_champion.release == 2
    assert found.versus_champion.gain.low is not None
    assert found.versus_champion.gain.low > 0
    assert found.time.rows_in_both == 0
    assert {item.column for item in found.slices} == {"origin", "carrier"}
    assert sum(item.rows for item in found.calibration) == 1500
    assert max(found.sufficiency, key=lambda item: item.score).feature == "temp"
    assert "2013-04-01T04:00:00Z" in str(found.document())
    assert "version" not in found.document()["data"]


def test_rows_that_are_in_training_too_are_counted(use_case: UseCaseSpec, domain: DomainSpec, holdout: Holdout) -> None:
    time = time_order(
        domain,
        "2013-03",
        training_partitions=["2013-02"],
        training=holdout.table.slice(0, 7),
        rows=holdout.table,
        known_until="",
    )
    assert time.rows_in_both == 7
    assert time.cut == "2013-04-01T04:00:00Z"


def test_an_empty_holdout_is_refused(use_case: UseCaseSpec, domain: DomainSpec, holdout: Holdout) -> None:
    with pytest.raises(EvaluationError, match="2013-03"):
        make_holdout(use_case, domain, holdout.table.slice(0, 0), "2013-03")


def test_an_evaluation_survives_the_way_through_xcom() -> None:
    model = ModelRef(use_case="u", candidate="c", trainer="t", digest="d", trained_through="1", holdout="2")
    given = Evaluation(
        use_case="u",
        challenger=model,
        champion=0,
        holdout="2",
        rows=3,
        metric="auc",
        metrics={"c": {"value": 0.7}},
        evidence="e",
        reference="r",
        policy="p",
        card="card.html",
    )
    assert Evaluation.from_dict(given.to_dict()) == given
