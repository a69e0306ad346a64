"""A use case of three classes from clean rows to a decision, by the steps that the DAGs call and a live service."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tritonclient.http as triton
import yaml
from tests.unit import tolls
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.serving import sample

from millrace.artifact import DatasetRef, ModelRef
from millrace.errors import EvaluationError, FeatureError, SpecError
from millrace.evaluation.block import DayBlocks
from millrace.evaluation.evidence import load_evidence
from millrace.evaluation.holdout import Holdout
from millrace.governance.ledger import Ledger
from millrace.governance.monitor_result import MonitorResults
from millrace.governance.release import Release
from millrace.lake import Table
from millrace.monitoring.reference import load_reference
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain, load_policy, load_use_case
from millrace.step.approval import approve_by_policy
from millrace.step.candidate import train_candidate
from millrace.step.comparison import open_champion
from millrace.step.deployment import deploy_release, verify_deployment
from millrace.step.evaluation import check_gates, evaluate_candidates
from millrace.step.features import build_features
from millrace.step.materialization import materialize_features
from millrace.step.monitoring import (
    decide_retraining,
    join_labels,
    measure_drift,
    measure_live_gain,
    measure_performance,
)
from millrace.step.registry import register_model
from millrace.step.release import release_model
from millrace.step.retrieval import entity_rows
from millrace.step.scoring import score_partition
from millrace.step.training import build_training_set

pytestmark = pytest.mark.integration
CLASSES = ["car", "van", "truck"]
HOLDOUT, LIVE = tolls.MONTHS[2], tolls.MONTHS[3]
PASSES = 800
EMPTY = Holdout(
    table=pa.table({}),
    label=np.empty(0),
    blocks=DayBlocks(of_row=np.empty(0, np.int64), days=[], draws=np.empty((0, 0))),
)
CANDIDATES = {
    "xgboost": {"trainer": "xgboost", "params": {"rounds": 30, "max_depth": 3, "learning_rate": 0.2, "threads": 1}},
    "torch": {"trainer": "torch", "params": {"epochs": 2, "hidden": [16], "threads": 1}},
    "baseline": {"trainer": "baseline"},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Life:
    """One installation, and how far its use case has come."""

    settings: Settings
    domain: DomainSpec
    use_case: UseCaseSpec
    release: Release | None = None
    evaluation: Any = None

    def train(self, name: str, training_set: DatasetRef) -> ModelRef:
        return train_candidate(self.use_case, self.domain, name, training_set, settings=self.settings)

    def evaluate(self, training_set: DatasetRef, models: list[ModelRef]) -> Any:
        policy = load_policy(self.settings.dags, "low")
        return evaluate_candidates(self.use_case, self.domain, policy, training_set, models, settings=self.settings)

    def monitor(self, partition: str) -> tuple[Any, ...]:
        of = (self.use_case, self.domain, partition)
        labels = join_labels(*of, settings=self.settings)
        drift, performance = (
            measure_drift(*of, settings=self.settings),
            measure_performance(*of, settings=self.settings),
        )
        decision = decide_retraining(self.use_case, partition, drift, performance, settings=self.settings)
        return labels, drift, performance, decision


def specs(settings: Settings) -> tuple[DomainSpec, UseCaseSpec]:
    """What passes the gate? Written as a team would, and read as Millrace does."""
    plain = tolls.make_domain(settings).model_dump(mode="json", exclude_defaults=True)
    columns = plain["sources"]["passes"]["columns"]
    columns |= {"vehicle": "string", "told_at": "timestamp"}
    use_case = tolls.make_use_case().model_dump(mode="json", exclude_defaults=True)
    use_case |= {
        "name": "toll_vehicle",
        "description": "What kind of vehicle passes?",
        "problem": "multiclass",
        "classes": CLASSES,
        "label": {"expression": "vehicle", "known_at": "told_at"},
        "leaks": ["vehicle", "told_at"],
        "candidates": CANDIDATES,
        "evaluation": {"metric": "log_loss", "slices": ["lanes"]},
    }
    use_case["features"]["name"] = "toll_vehicle_v1"
    for folder, name, value in (("domains", "tolls", plain), ("use_cases", "toll_vehicle", use_case)):
        (settings.dags / folder / f"{name}.yaml").write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return load_domain(settings.dags, "tolls"), load_use_case(settings.dags, "toll_vehicle")


def write_clean(domain: DomainSpec, lake: str) -> None:
    """Passes of four months: heavier ones are more often trucks, in the last month vans stay away."""
    random = np.random.default_rng(5)
    for month in tolls.MONTHS:
        start = domain.partition(month).start
        weight = random.integers(500, 40_000, PASSES).astype(float)
        heavy = weight / 20_000 + random.normal(scale=0.45, size=PASSES)
        place = np.digitize(heavy, [0.6, 1.3] if month != LIVE else [0.95, 1.0])
        at = [start + timedelta(minutes=int(minute)) for minute in np.sort(random.integers(0, 28 * 24 * 60, PASSES))]
        rows = pa.table(
            {
                "pass_id": pa.array([int(month[-2:]) * 10_000 + number for number in range(PASSES)], pa.int64()),
                "gate": pa.array([f"G{index}" for index in random.integers(0, 3, PASSES)]),
                "passed_at": pa.array(at, pa.timestamp("us", tz="UTC")),
                "weight": pa.array(weight),
                "fined": pa.array(np.zeros(PASSES)),
                "month": pa.array([month] * PASSES),
                "vehicle": pa.array(np.array(CLASSES)[place], mask=np.arange(PASSES) % 50 == 7),
                "told_at": pa.array([moment + timedelta(hours=2) for moment in at], pa.timestamp("us", tz="UTC")),
            }
        )
        Table(lake, domain.clean_table("passes")).replace(rows, partition=month)
    gates = pa.table({"gate": ["G0", "G1", "G2"], "lanes": [2, 4, 6]})
    Table(lake, domain.clean_table("gates")).replace(gates)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """An installation whose use case has its first release."""
    root = tmp_path_factory.mktemp("life")
    shutil.copytree(sample.ROOT / "dags" / "policies", root / "dags" / "policies")
    for folder in ("dags/domains", "dags/use_cases", "var/mlflow"):
        (root / folder).mkdir(parents=True)
    given = {"MILLRACE_ROOT": root, "MILLRACE_VAR": root / "var", "MILLRACE_DAGS": root / "dags"}
    settings = Settings.load({name: str(value) for name, value in given.items()})
    lay_mlflow(settings)
    domain, use_case = specs(settings)
    write_clean(domain, settings.lake)
    for month in tolls.MONTHS:
        build_features(domain, month, settings=settings)
    materialize_features(domain, LIVE, settings=settings)
    return released(Life(settings=settings, domain=domain, use_case=use_case))


def released(life: Life) -> Life:
    """Train, evaluate, judge and release; one candidate of the three never came."""
    policy = load_policy(life.settings.dags, "low")
    training_set = build_training_set(life.use_case, life.domain, HOLDOUT, settings=life.settings)
    models = [life.train(name, training_set) for name in ("xgboost", "baseline")]
    with pytest.raises(EvaluationError, match="1 candidates were trained \\(xgboost\\), policy 'low' asks for 2"):
        life.evaluate(training_set, models[:1])
    evaluation = life.evaluate(training_set, models)
    assert evaluation == life.evaluate(training_set, models[::-1])
    assert evaluation.absent == ["torch"]
    verdict = check_gates(life.use_case, policy, evaluation, settings=life.settings)
    assert verdict.passed, verdict.reasons
    registered = register_model(life.use_case, life.domain, evaluation, verdict, settings=life.settings)
    approval = approve_by_policy(life.use_case, policy, evaluation, verdict, settings=life.settings)
    release = release_model(life.use_case, policy, evaluation, verdict, registered, approval, settings=life.settings)
    return dataclasses.replace(life, release=release, evaluation=evaluation)


def check_evidence(life: Life) -> None:
    evaluation = life.evaluation
    evidence = load_evidence(evaluation.evidence, life.settings)
    assert set(evidence.challenger_score.metrics) == {"auc", "log_loss", "accuracy", "macro_f1", "brier", "ece"}
    assert [item.name for item in evidence.classes] == CLASSES
    assert (
        sum(item.rows for item in evidence.classes) == sum(item.named for item in evidence.classes) == evaluation.rows
    )
    gain = evidence.versus_baseline.gain
    assert gain.low is not None and gain.low > 0
    assert evidence.explanation.features[0].feature == "weight"
    strongest = max(evidence.sufficiency, key=lambda item: item.score)
    assert (strongest.feature, strongest.score < 0.95) == ("weight", True)
    card = Path(evaluation.card).read_text(encoding="utf-8")
    assert "a probability of each class: car, van, truck" in card
    assert "Not trained, and so not judged: torch." in card
    assert "| van |" in Path(evaluation.card).with_suffix(".md").read_text(encoding="utf-8")
    reference = load_reference(evaluation.reference, settings=life.settings)
    assert reference.prediction.values == sorted(CLASSES)
    assert [sum(item.counts) for item in reference.probabilities] == [evaluation.rows] * 3


def check_scores(life: Life, release: Release) -> None:
    """Score a month twice; the log holds the model's own probabilities, once."""
    report = score_partition(life.use_case, life.domain, LIVE, settings=life.settings)
    assert (report.rows, report.release) == (PASSES, release.version)
    assert sum(report.named.values()) == pytest.approx(1)
    assert not score_partition(life.use_case, life.domain, LIVE, settings=life.settings).changed
    rows = Table(life.settings.lake, "toll_vehicle/predictions").read(partitions=[LIVE])
    probabilities = np.array(rows.column("probabilities").to_pylist())
    package = Package.open(life.settings.packages / release.package)
    scored = Table(life.settings.lake, life.use_case.service_table("scored_features")).read(partitions=[LIVE])
    by_key = {key: place for place, key in enumerate(scored.column("key").to_pylist())}
    scored = scored.take([by_key[key] for key in rows.column("key").to_pylist()])
    expected = package.predictor().predict({name: scored.column(name) for name in package.features.columns})
    np.testing.assert_array_equal(probabilities, expected)
    assert rows.column("prediction").to_pylist() == expected.argmax(axis=1).astype(float).tolist()


def check_monitoring(life: Life) -> None:
    labels, drift, performance, decision = life.monitor(LIVE)
    assert (labels.rows, labels.labelled) == (PASSES, PASSES - PASSES // 50)
    assert performance.live.sufficient and performance.live.drop > 0.01
    assert decision.retrain and decision.cause == "drop"
    found = next(item for item in MonitorResults(life.settings).list("toll_vehicle") if item.kind == "drift")
    named = [item["name"] for item in found.payload["columns"]]
    assert {"prediction", "probability of car", "probability of van", "probability of truck"} <= set(named)
    assert drift.prediction_psi >= 0
    report = life.settings.reports / "toll_vehicle" / "drift" / f"{LIVE}.html"
    assert report.stat().st_size > 100_000
    again = life.monitor(LIVE)
    assert again[1:] == (drift, performance, decision)
    assert measure_live_gain(life.use_case, life.domain, [LIVE], settings=life.settings).gain == 0.0


def check_service(life: Life, release: Release, url: str) -> None:
    settings = dataclasses.replace(life.settings, serving_url=url)
    deploy_release(life.use_case, release, settings=settings)
    proof = verify_deployment(life.use_case, settings=settings)
    assert proof["max_abs_diff"] <= 1e-6
    assert (proof["paths"]["rows"], proof["paths"]["reason"]) == (50, "")
    package = Package.open(settings.packages / release.package)
    rows = Table(settings.lake, life.use_case.service_table("scored_features")).read(partitions=[LIVE]).slice(0, 5)
    expected = package.predictor().predict({name: rows.column(name) for name in package.features.columns})
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    metadata = client.get_model_metadata("toll_vehicle")
    assert [item["shape"] for item in metadata["outputs"]] == [[-1, 3], [-1]]
    assert metadata["parameters"]["classes"] == CLASSES
    columns = {name: rows.column(name).to_numpy(zero_copy_only=False) for name in package.features.columns}
    for binary in (True, False):
        inputs = []
        for name, values in columns.items():
            tensor = triton.InferInput(name, [5], "FP64")
            inputs.append(tensor.set_data_from_numpy(np.nan_to_num(values), binary_data=binary))
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("prediction", "decision")]
        result = client.infer("toll_vehicle", inputs, outputs=outputs)
        assert result.as_numpy("prediction").shape == (5, 3)
        decided = [item.decode() if isinstance(item, bytes) else item for item in result.as_numpy("decision")]
        assert decided == [CLASSES[place] for place in result.as_numpy("prediction").argmax(axis=1)]
    client.close()
    body = {"dataframe_records": pa.table(rows.select(package.features.columns)).to_pylist()}
    answer = httpx.post(f"{url}/invocations/toll_vehicle", json=body, trust_env=False).json()
    np.testing.assert_array_equal(np.array(answer["predictions"]), expected)


def test_three_classes_live_from_clean_rows_to_a_decision_and_an_answer(life: Life, tmp_path: Path) -> None:
    release = life.release
    assert release is not None
    check_evidence(life)
    check_scores(life, release)
    check_monitoring(life)
    store = Path(str(life.settings.online_store))
    with sample.live_service(life.settings.serving_dir, online_store=store, log=tmp_path / "log") as live:
        check_service(life, release, live.url)
    assert Ledger(life.settings).verify().verified
    kinds = [entry.kind for entry in Ledger(life.settings).entries("toll_vehicle")]
    assert kinds == ["gates_evaluated", "registered", "approved", "released", "retrain_decided", "deployed"]


def test_a_label_that_is_no_class_keeps_no_row_from_being_scored_and_is_told_when_labels_are_joined(life: Life) -> None:
    clean = Table(life.settings.lake, life.domain.clean_table("passes"))
    rows = clean.read(partitions=[LIVE]).drop_columns(["partition"])
    bus = pc.replace_with_mask(rows.column("vehicle"), pa.array(np.arange(rows.num_rows) == 3), pa.array(["bus"]))
    clean.replace(rows.set_column(rows.column_names.index("vehicle"), "vehicle", bus), partition=LIVE)
    try:
        assert score_partition(life.use_case, life.domain, LIVE, settings=life.settings).rows == PASSES
        with pytest.raises(FeatureError, match="none of the classes: 'bus'"):
            join_labels(life.use_case, life.domain, LIVE, settings=life.settings)
        asked = life.use_case.model_copy(update={"classes": [*CLASSES, "bus"]})
        assert 3.0 in entity_rows(asked, life.domain, LIVE, settings=life.settings).column("label").to_pylist()
        with pytest.raises(SpecError, match=r"answers with multiclass \(car, van, truck\), the use case asks for"):
            join_labels(asked, life.domain, LIVE, settings=life.settings)
        champion, reason = open_champion(asked, life.domain, life.release, EMPTY, life.settings)
        assert champion is None
        assert reason.startswith("release 1 answers another question: package ")
    finally:
        clean.replace(rows, partition=LIVE)
