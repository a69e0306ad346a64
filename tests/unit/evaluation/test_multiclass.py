"""Several classes from predictions to a bundle, a card and the gates' answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from millrace.artifact import DatasetRef
from millrace.errors import EvaluationError
from millrace.evaluation.assessment import Examined, gather_evidence
from millrace.evaluation.audit_finding import StabilityTest
from millrace.evaluation.contest import Contender, run_field
from millrace.evaluation.evidence import Evidence, load_evidence, store_evidence
from millrace.evaluation.explanation import explain_permutation, sample_classes
from millrace.evaluation.finding import Origin
from millrace.evaluation.gate import check_policy
from millrace.evaluation.holdout import Holdout, make_holdout, time_order
from millrace.evaluation.model_card import render_card
from millrace.evaluation.slice import score_slices
from millrace.evaluation.sufficiency import measure_sufficiency
from millrace.evaluation.verdict import answer_gates, conclude
from millrace.settings import Settings
from millrace.spec import DomainSpec, PolicySpec, UseCaseSpec, load_domain, load_policy

START = datetime(2013, 3, 1, 5, tzinfo=UTC)
CLASSES = ["early", "punctual", "late"]


@pytest.fixture
def several(use_case: UseCaseSpec) -> UseCaseSpec:
    """The same flights, asked for one of three answers."""
    plain = use_case.model_dump()
    plain |= {"problem": "multiclass", "classes": CLASSES}
    plain["evaluation"] = {"metric": "log_loss", "slices": ["origin"]}
    return UseCaseSpec.model_validate(plain)


@pytest.fixture
def domain(settings: Settings) -> DomainSpec:
    return load_domain(settings.dags, "flights")


def rows(use_case: UseCaseSpec, count: int, first: datetime, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    at = [first + timedelta(minutes=60 * i * 24 * 28 / count) for i in range(count)]
    signal = random.normal(size=count)
    columns: dict[str, Any] = {
        "key": [f"{seed}-{i:05d}" for i in range(count)],
        "event_timestamp": pa.array(at, pa.timestamp("us", tz="UTC")),
        "label": np.digitize(signal + random.normal(size=count), [-0.7, 0.7]).astype(float),
        "label_known_at": pa.array([moment + timedelta(hours=2) for moment in at], pa.timestamp("us", tz="UTC")),
    }
    for name in use_case.features.columns:
        text = name in use_case.features.categories
        columns[name] = random.choice(["A", "B", "C"], count).tolist() if text else random.normal(size=count)
    columns["temp"] = signal
    return pa.table(columns)


def guess(signal: np.ndarray, share: float = 1.0) -> np.ndarray:
    """The true probabilities of the three classes, diluted by those of knowing nothing."""
    below = np.array([[math.erfc((item - cut) / math.sqrt(2)) / 2 for cut in (-0.7, 0.7)] for item in signal])
    true = np.stack([below[:, 0], below[:, 1] - below[:, 0], 1 - below[:, 1]], axis=1)
    found: np.ndarray = share * true + (1 - share) / 3
    return found


def contender(name: str, prediction: np.ndarray, **more: Any) -> Contender:
    values = {"trainer": name, "package": name[0] * 64, "trained_through": "2013-02", "bytes": 1000}
    return Contender(name=name, prediction=prediction, features=["temp"], **{**values, **more})


@pytest.fixture
def holdout(several: UseCaseSpec, domain: DomainSpec) -> Holdout:
    return make_holdout(several, domain, rows(several, 1500, START, 1), "2013-03")


def bundle(several: UseCaseSpec, policy: PolicySpec, domain: DomainSpec, holdout: Holdout) -> Evidence:
    training = rows(several, 3000, START - timedelta(days=28), 2)
    signal = holdout.table.column("temp").to_numpy()
    prior = np.bincount(training.column("label").to_numpy().astype(int)) / training.num_rows
    models = [contender("xgboost", guess(signal)), contender("baseline", np.tile(prior, (len(signal), 1)))]
    field = run_field(
        several, holdout, models, contender("champion", guess(signal, 0.4), release=2), champion_release=2
    )

    def predict(columns: Mapping[str, Any]) -> np.ndarray:
        return guess(columns["temp"].to_numpy())

    chosen = sample_classes(holdout.label, 200)
    explanation = explain_permutation(
        "multiclass",
        "log_loss",
        columns=holdout.columns(["temp", "dewp"], chosen),
        features=["temp", "dewp"],
        label=holdout.label[chosen],
        predict=predict,
        seed=7,
    )
    return gather_evidence(
        several,
        policy,
        field,
        holdout,
        training,
        training_set=DatasetRef(table="t", version=1, digest="d", known_until="2013-04-01T04:00:00Z"),
        examined=Examined(
            time=time_order(
                domain,
                "2013-03",
                training_partitions=["2013-02"],
                training=training,
                rows=holdout.table,
                known_until="2013-04-01T04:00:00Z",
            ),
            explanation=explanation,
            reference="r",
            stability=[StabilityTest(change="perturbed", feature="", rows=1500, moved=0.01, metric=0.8)],
            origin=Origin(commit="1" * 40, tree="clean", lock="2" * 64, recipe="3" * 64),
        ),
    )


def test_a_bundle_of_several_classes_says_how_good_the_challenger_is_on_each(
    several: UseCaseSpec, policy: PolicySpec, domain: DomainSpec, holdout: Holdout, settings: Settings
) -> None:
    found = bundle(several, policy, domain, holdout)
    assert found.challenger == "xgboost"
    assert found.absent == ["lightgbm", "torch"]
    assert [item.name for item in found.classes] == CLASSES
    assert [item.rows for item in found.classes] == np.bincount(holdout.label.astype(int)).tolist()
    hits = sum((item.recall or 0) * item.rows for item in found.classes)
    assert hits / 1500 == pytest.approx(found.challenger_score.metrics["accuracy"].value)
    area = np.mean([item.auc for item in found.classes])
    assert area == pytest.approx(found.challenger_score.metrics["auc"].value)
    assert found.versus_champion.gain.low is not None and found.versus_champion.gain.low > 0
    assert sum(item.rows for item in found.calibration) == 1500
    assert sum(item.rows for item in found.slices) == 1500
    assert found.explanation.features[0].feature == "temp"
    assert max(found.sufficiency, key=lambda item: item.score).feature == "temp"
    assert load_evidence(store_evidence(found, settings), settings) == found
    assert found.digest == bundle(several, policy, domain, holdout).digest


def test_the_gates_of_the_shipped_policies_answer_for_several_classes(
    several: UseCaseSpec, policy: PolicySpec, domain: DomainSpec, holdout: Holdout, settings: Settings
) -> None:
    sensitive = several.evaluation.model_copy(update={"sensitive": ["carrier"]})
    audited = several.model_copy(update={"evaluation": sensitive})
    for tier in ("low", "medium", "high"):
        assert check_policy(load_policy(settings.dags, tier), audited) == []
    found = bundle(several, policy, domain, holdout)
    answers = {item.gate: item for item in answer_gates(policy, several, found)}
    assert {name: item.outcome for name, item in answers.items()} == dict.fromkeys(answers, "pass")
    assert {"beats_baseline", "better_than_champion", "minimum_metric", "calibration", "slices_hold"} < set(answers)
    assert "Log loss gain +" in answers["beats_baseline"].sentence
    verdict = conclude(found, found.digest, list(answers.values()))
    assert verdict.passed
    assert len(str(verdict.to_dict())) < 4096


def test_the_card_names_the_classes_and_who_was_not_trained(
    several: UseCaseSpec, policy: PolicySpec, domain: DomainSpec, holdout: Holdout
) -> None:
    found = bundle(several, policy, domain, holdout)
    card = render_card(found, found.digest, answer_gates(policy, several, found))
    for text in (card.html, card.markdown):
        assert "a probability of each class: early, punctual, late" in text
        assert "Not trained, and so not judged: lightgbm, torch." in text
        assert "Share of each class in training (in the holdout): " in text
        assert "Probabilities of the most probable class were off by" in text
    assert "| punctual |" in card.markdown
    assert "The label's mean" not in card.html


def test_candidates_cannot_be_ranked_by_the_auc_of_a_class_that_no_row_is_of(
    several: UseCaseSpec, domain: DomainSpec, holdout: Holdout
) -> None:
    table = holdout.table.filter(pa.compute.less(holdout.table.column("label"), 2.0))
    fewer = make_holdout(several, domain, table, "2013-03")
    models = [contender("xgboost", guess(table.column("temp").to_numpy()))]
    assert run_field(several, fewer, models, None).challenger.name == "xgboost"
    evaluation = several.evaluation.model_copy(update={"metric": "auc"})
    with pytest.raises(EvaluationError, match="AUC of xgboost is undefined: no row of the holdout is of class late"):
        run_field(several.model_copy(update={"evaluation": evaluation}), fewer, models, None)


def test_a_feature_that_gives_one_class_away_is_found_whatever_it_says_of_the_others() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 4000).astype(float)
    tells = np.where(label == 2, 1.0, 0.0)
    names = np.where(label == 1, "b", "a").astype(object)
    columns = {"tells": tells, "names": names, "noise": random.normal(size=4000)}
    training = {name: values[:2000] for name, values in columns.items()}
    holdout = {name: values[2000:] for name, values in columns.items()}
    found = measure_sufficiency("multiclass", training, label[:2000], holdout, label[2000:])
    assert {item.feature: round(item.score, 1) for item in found} == {"names": 1.0, "noise": 0.5, "tells": 1.0}
    assert measure_sufficiency("multiclass", training, label[:2000], holdout, np.zeros(2000)) == []


def test_rows_that_explain_hold_rows_of_every_class_however_rare() -> None:
    label = np.zeros(10_000)
    label[[17, 4711]] = [1.0, 2.0]
    chosen = sample_classes(label, 100)
    assert set(label[chosen]) == {0.0, 1.0, 2.0}
    assert (np.diff(chosen) > 0).all()


def test_a_slice_of_one_class_has_no_figure_and_the_others_have(holdout: Holdout) -> None:
    values = np.where(holdout.label == 1, "only", "rest").astype(object)
    signal = holdout.table.column("temp").to_numpy()
    found = score_slices(
        "multiclass",
        "log_loss",
        "column",
        values=values,
        label=holdout.label,
        predictions=[guess(signal)],
        blocks=holdout.blocks,
    )
    assert {item.value: item.score.value is None for item in found} == {"only": True, "rest": False}
