"""From packages to a verdict, and from scored rows to a decision, on a small set of made-up flights."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from millrace.artifact import DatasetRef, ModelRef, digest_of, iso
from millrace.document import load_document
from millrace.errors import DocumentError, EvaluationError
from millrace.evaluation.base import Evaluation
from millrace.evaluation.evidence import load_evidence
from millrace.governance.ledger import Ledger
from millrace.governance.monitor_result import MonitorResults
from millrace.governance.release import Release, Releases
from millrace.governance.state import writing
from millrace.lake import Table
from millrace.package import FeatureSpec, OnDemandFunctions, Package, read_sources
from millrace.settings import Settings
from millrace.spec import DomainSpec, PolicySpec, UseCaseSpec, load_domain, load_policy, load_use_case
from millrace.step.evaluation import check_gates, evaluate_candidates
from millrace.step.monitoring import (
    decide_retraining,
    join_labels,
    measure_drift,
    measure_live_gain,
    measure_performance,
)
from millrace.training import TrainingJob, assemble_partition, train_package
from millrace.training.data.training_set import load_training_set

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
MONTHS = ["2013-01", "2013-02", "2013-03", "2013-04"]
INSTANT = pa.timestamp("us", "UTC")
QUICK = {
    "lightgbm": {"trainer": "lightgbm", "params": {"rounds": 20, "num_leaves": 7, "learning_rate": 0.2}},
    "baseline": {"trainer": "baseline"},
}


@pytest.fixture
def use_case(settings: Settings) -> UseCaseSpec:
    plain = load_use_case(settings.dags, "flight_delay").model_dump()
    plain["evaluation"]["slices"] = ["origin"]
    return UseCaseSpec.model_validate({**plain, "candidates": QUICK})


@pytest.fixture
def domain(settings: Settings) -> DomainSpec:
    return load_domain(settings.dags, "flights")


@pytest.fixture
def policy(settings: Settings) -> PolicySpec:
    return load_policy(settings.dags, "low")


def flights(
    use_case: UseCaseSpec, domain: DomainSpec, month: str, *, strength: float = 2.0, size: int = 1200
) -> pa.Table:
    """A month of rows with key, times, label and features; the last day's labels come after its end."""
    generator = np.random.default_rng(int(month[-2:]))
    start, end = domain.partition(month).start, domain.partition(month).end
    at = [start + (end - start) * i / size for i in range(size)]
    signal = generator.normal(size=size)
    label = (strength * signal + generator.normal(size=size) > 1.2).astype(np.float64)
    columns: dict[str, Any] = {
        "key": [f"{month}-{i:04d}" for i in range(size)],
        "event_timestamp": pa.array(at, INSTANT),
        "label": pa.array(label, mask=np.arange(size) % 40 == 3),
        "label_known_at": pa.array([moment + timedelta(hours=5) for moment in at], INSTANT),
    }
    for column in FeatureSpec.of(use_case, domain).inputs:
        if column.kind == "category":
            columns[column.name] = generator.choice(["EWR", "JFK", "LGA"], size).tolist()
        else:
            columns[column.name] = signal if column.name == "temp" else generator.normal(size=size)
    return functions(use_case, domain).add_table(pa.table(columns))


def functions(use_case: UseCaseSpec, domain: DomainSpec) -> OnDemandFunctions:
    """The functions of a use case as they are shipped."""
    features = FeatureSpec.of(use_case, domain)
    return OnDemandFunctions(features, read_sources(features.on_demand, ROOT / "dags" / "domains"))


def build(use_case: UseCaseSpec, domain: DomainSpec, months: list[str], settings: Settings) -> DatasetRef:
    table = Table(settings.lake, use_case.service_table("training_set"))
    hidden = FeatureSpec.of(use_case, domain).hidden
    refs = [
        table.replace(assemble_partition(use_case, flights(use_case, domain, month), hidden=hidden), partition=month)
        for month in months
    ]
    return DatasetRef(
        table=table.name,
        version=max(ref.version for ref in refs),
        rows=sum(ref.rows for ref in refs),
        digest=digest_of([ref.digest for ref in refs]),
        known_until=iso(domain.partition(months[-1]).end),
    )


def train(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    ref: DatasetRef,
    months: list[str],
    settings: Settings,
    *,
    through: str | None = None,
) -> list[ModelRef]:
    """Train quickly and without a registry; with `through` a model that sees more than it should."""
    holdout, through = months[-1], through or months[-2]
    cut = iso(domain.partition(through).end)
    hidden = FeatureSpec.of(use_case, domain).hidden
    rows = load_training_set(use_case, ref, lake=settings.lake, through=through, known_until=cut, hidden=hidden)
    found = []
    for name in use_case.candidates:
        job = TrainingJob(
            use_case=use_case,
            domain=domain,
            candidate=name,
            table=ref.table,
            holdout=holdout,
            known_until=cut,
            functions=functions(use_case, domain).sources,
        )
        trained = train_package(job, rows, store=settings.packages)
        found.append(
            ModelRef(
                use_case=use_case.name,
                candidate=name,
                trainer=name,
                digest=trained.package.digest,
                trained_through=through,
                holdout=holdout,
                run_id=f"run of {name}",
            )
        )
    return found


def release(use_case: UseCaseSpec, domain: DomainSpec, evaluation: Evaluation, settings: Settings) -> Release:
    """What `release_model` writes, without a registry."""
    model = evaluation.challenger
    made = Release(
        use_case=use_case.name,
        version=len(Releases(settings).list(use_case)) + 1,
        package=model.digest,
        candidate=model.candidate,
        trainer=model.trainer,
        trained_through=model.trained_through,
        holdout=model.holdout,
        effective_at=iso(domain.partition(model.holdout).end),
        evidence=evaluation.evidence,
        policy=evaluation.policy,
        feature_service=use_case.features.name,
        threshold=0.5,
        reference=evaluation.reference,
        replaces=evaluation.champion,
    )
    with writing(settings) as connection:
        Releases(settings).add(made, actor="system", note={}, connection=connection)
    return made


def score(
    use_case: UseCaseSpec, domain: DomainSpec, month: str, made: Release, settings: Settings, *, strength: float = 2.0
) -> None:
    """Clean rows, scored features and predictions of a month, as the stages before would leave them."""
    rows = flights(use_case, domain, month, strength=strength)
    package = Package.open(settings.packages / made.package)
    prediction = package.predictor().predict({name: rows.column(name) for name in package.features.columns})
    size = rows.num_rows
    clean = {
        "flight_id": rows.column("key"),
        "sched_dep_at": rows.column("event_timestamp"),
        "known_at": rows.column("label_known_at"),
        "arr_delay": pa.array([None if item is None else item * 60 for item in rows.column("label").to_pylist()]),
        "route": ["A-B"] * size,
        "tailnum": ["N1"] * size,
        **{item.name: rows.column(item.name) for item in FeatureSpec.of(use_case, domain).request},
    }
    Table(settings.lake, domain.clean_table("flights")).replace(pa.table(clean), partition=month)
    features = rows.select(["key", "event_timestamp", *use_case.features.columns])
    Table(settings.lake, use_case.service_table("scored_features")).replace(features, partition=month)
    scores = {
        "key": rows.column("key"),
        "event_timestamp": rows.column("event_timestamp"),
        "release": pa.array([made.version] * size, pa.int64()),
        "package": [made.package] * size,
        "role": ["live"] * size,
        "prediction": prediction,
        "feature_snapshot": ["s"] * size,
        "recorded_at": pa.array([datetime(2013, 4, 1, tzinfo=UTC)] * size, INSTANT),
    }
    Table(settings.lake, use_case.table("predictions")).append(pa.table(scores), partition=month, marker=made.package)


def test_candidates_are_judged_and_a_second_look_changes_nothing(
    use_case: UseCaseSpec, domain: DomainSpec, policy: PolicySpec, settings: Settings
) -> None:
    ref = build(use_case, domain, MONTHS[:3], settings)
    models = train(use_case, domain, ref, MONTHS[:3], settings)
    found = evaluate_candidates(use_case, domain, policy, ref, models, settings=settings)
    assert found.challenger.candidate == "lightgbm"
    assert found.champion == 0
    assert Evaluation.from_dict(found.to_dict()) == found
    verdict = check_gates(use_case, policy, found, settings=settings)
    assert verdict.passed, verdict.reasons
    head = Ledger(settings).head()
    evidence = load_evidence(found.evidence, settings)
    assert evidence.explanation.method == "contributions"
    assert evidence.explanation.features[0].feature == "temp"
    assert evidence.time.training_partitions == MONTHS[:2]
    assert "run of" not in str(evidence.document())
    entry = Ledger(settings).entries(use_case.name, kinds=("gates_evaluated",))[0]
    assert entry.effective_at == domain.partition("2013-03").end
    answers = load_document(settings.var / "evidence", entry.payload["verdict"])["answers"]
    assert [item["outcome"] for item in answers] == ["pass"] * 11

    again = evaluate_candidates(use_case, domain, policy, ref, models[::-1], settings=settings)
    assert again == found
    assert check_gates(use_case, policy, again, settings=settings) == verdict
    assert Ledger(settings).head() == head

    made = release(use_case, domain, found, settings)
    assert evaluate_candidates(use_case, domain, policy, ref, models, settings=settings) == found
    ref = build(use_case, domain, MONTHS, settings)
    later = train(use_case, domain, ref, MONTHS, settings)
    second = evaluate_candidates(use_case, domain, policy, ref, later, settings=settings)
    assert (second.champion, second.champion_package) == (made.version, made.package)
    assert set(second.metrics) == {"lightgbm", "baseline", "champion"}
    assert second.gain["low"] <= second.gain["value"] <= second.gain["high"]
    judged = check_gates(use_case, policy, second, settings=settings)
    assert judged.passed == (second.gain["low"] > 0)

    path = settings.var / "evidence" / f"{found.evidence}.json"
    path.write_bytes(path.read_bytes().replace(b"admin", b"nobody"))
    with pytest.raises(DocumentError):
        check_gates(use_case, policy, found, settings=settings)


def test_bad_input_is_refused_before_anything_is_stored(
    use_case: UseCaseSpec, domain: DomainSpec, policy: PolicySpec, settings: Settings
) -> None:
    ref = build(use_case, domain, MONTHS[:3], settings)
    models = train(use_case, domain, ref, MONTHS[:3], settings)
    with pytest.raises(EvaluationError, match="policy 'low' asks for 2"):
        evaluate_candidates(use_case, domain, policy, ref, models[:1], settings=settings)
    other = dataclasses.replace(models[0], holdout="2013-02")
    with pytest.raises(EvaluationError, match="different holdouts"):
        evaluate_candidates(use_case, domain, policy, ref, [other, models[1]], settings=settings)
    assert not (settings.var / "evidence").exists()
    liar = dataclasses.replace(models[0], trained_through="2013-01")
    with pytest.raises(EvaluationError, match="the package 2013-02 for 2013-03"):
        evaluate_candidates(use_case, domain, policy, ref, [liar, models[1]], settings=settings)
    assert not (settings.var / "evidence").exists()


def test_a_model_that_was_trained_on_its_holdout_is_refused(
    use_case: UseCaseSpec, domain: DomainSpec, policy: PolicySpec, settings: Settings
) -> None:
    ref = build(use_case, domain, MONTHS[:3], settings)
    models = train(use_case, domain, ref, MONTHS[:3], settings, through="2013-03")
    found = evaluate_candidates(use_case, domain, policy, ref, models, settings=settings)
    verdict = check_gates(use_case, policy, found, settings=settings)
    assert verdict.outcome == "fail"
    assert verdict.reasons[0].startswith("time_ordered: Order in time is broken")
    assert "rows are in training and holdout" in verdict.reasons[0]


def test_labels_drift_and_performance_lead_to_one_decision(
    use_case: UseCaseSpec, domain: DomainSpec, policy: PolicySpec, settings: Settings
) -> None:
    ref = build(use_case, domain, MONTHS[:3], settings)
    models = train(use_case, domain, ref, MONTHS[:3], settings)
    found = evaluate_candidates(use_case, domain, policy, ref, models, settings=settings)
    check_gates(use_case, policy, found, settings=settings)

    def monitor() -> tuple[Any, ...]:
        labels = join_labels(use_case, domain, "2013-04", settings=settings)
        drift = measure_drift(use_case, domain, "2013-04", settings=settings)
        performance = measure_performance(use_case, domain, "2013-04", settings=settings)
        decision = decide_retraining(use_case, "2013-04", drift, performance, settings=settings)
        return labels, drift, performance, decision

    before = Ledger(settings).head()
    nothing = monitor()
    assert [item.reason for item in nothing[:3]] == ["no_release"] * 3
    assert nothing[3].reasons == ["no_release"]
    assert Ledger(settings).head() == before

    score(use_case, domain, "2013-04", release(use_case, domain, found, settings), settings, strength=0.5)
    labels, drift, performance, decision = monitor()
    assert labels.rows == 1200
    # 1 in 40 has no outcome, and the last five hours' flights land after the month's end.
    known = int(np.sum((np.arange(1200) % 40 != 3) & (np.arange(1200) * 30 * 24 / 1200 + 5 <= 30 * 24)))
    assert (labels.labelled, labels.unlabelled) == (known, 1200 - known)
    assert drift.features == len(use_case.features.columns)
    assert drift.drifted == []
    assert drift.prediction_psi < 0.25
    assert (settings.reports / use_case.name / "drift" / "2013-04.html").stat().st_size > 100_000
    assert performance.live is not None and performance.live.drop is not None
    assert performance.live.rows == known
    assert performance.shadow is not None and performance.shadow.value == performance.live.value
    assert decision.retrain
    assert decision.cause == "drop"
    entry = Ledger(settings).entries(use_case.name, kinds=("retrain_decided",))[0]
    assert (entry.subject, entry.effective_at) == ("2013-04", domain.partition("2013-04").end)
    kinds = {item.kind for item in MonitorResults(settings).list(use_case.name)}
    assert kinds == {"labels", "drift", "performance", "decision"}
    gained = measure_live_gain(use_case, domain, ["2013-04", "2013-05"], settings=settings)
    assert (gained.gain, gained.partitions) == (0.0, ["2013-04"])

    head = Ledger(settings).head()
    again = monitor()
    assert again[1:] == (drift, performance, decision)
    assert not again[0].ref.changed
    beside = ["Not fresh: planes was never brought to the online store."]
    told = decide_retraining(use_case, "2013-04", drift, performance, settings=settings, beside=beside)
    assert told.reasons == [*decision.reasons, *beside]
    assert Ledger(settings).head() == head, "what decides nothing makes no other decision"
    assert all(len(str(item.to_dict())) < 4096 for item in again)
