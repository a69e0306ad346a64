"""A domain by day from clean rows to releases, two weeks held out: only what was known before them is learned from."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from tests.conftest import ROOT
from tests.unit import tolls
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.package.onnx_models import linear

from millrace.artifact import ModelRef, Verdict, iso
from millrace.errors import SpecError, TrainingError
from millrace.evaluation.base import Evaluation
from millrace.evaluation.evidence import Evidence, load_evidence
from millrace.governance.release import Release
from millrace.lake import Table
from millrace.package import Package
from millrace.partition import Partition
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain, load_policy, load_use_case
from millrace.step.approval import approve_by_policy
from millrace.step.candidate import train_candidate
from millrace.step.check import check_use_case
from millrace.step.evaluation import check_gates, evaluate_candidates
from millrace.step.features import build_features
from millrace.step.import_source import check_signature
from millrace.step.importing import import_model
from millrace.step.rebuild import rebuild_release
from millrace.step.registry import register_model
from millrace.step.release import release_model
from millrace.step.training import build_training_set
from millrace.training.data.training_set import load_training_set

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]
HELD, PASSES = 14, 70
DAYS = [item.key for item in Partition("2021-01-01", "day").until(Partition("2021-01-21", "day"))]
HOLDOUT, LATER = DAYS[-3], DAYS[-1]
FIRST = Partition(HOLDOUT, "day").shift(1 - HELD)
BEFORE = FIRST.shift(-1).key
CANDIDATES = {
    "lightgbm": {"trainer": "lightgbm", "params": {"rounds": 15, "num_leaves": 7, "threads": 1}},
    "baseline": {"trainer": "baseline"},
}
NAMES = ["weight", "passes_1d", "weight_1d"]
SLOPE, LEVEL = 1 / 4_000, -6.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Daily:
    """One installation by day."""

    settings: Settings
    domain: DomainSpec

    def ask(self, **changes: Any) -> UseCaseSpec:
        """Write the use case with other values and read it as Millrace does."""
        plain = tolls.make_use_case().model_dump(mode="json", exclude_defaults=True)
        plain["label"]["known_at"] = "told_at"
        plain |= {"leaks": ["fined", "told_at"], "candidates": CANDIDATES}
        plain["features"] = {"name": "toll_fine_v1", "row": {"weight": "number"}, "views": {"gate_load": NAMES[1:]}}
        plain["evaluation"] = {"slices": ["gate"], "holdout_partitions": HELD}
        path = self.settings.dags / "use_cases" / "toll_fine.yaml"
        path.write_text(yaml.safe_dump({**plain, **changes}, sort_keys=False), encoding="utf-8")
        return load_use_case(self.settings.dags, "toll_fine")

    def train(self, use_case: UseCaseSpec, holdout: str) -> tuple[Any, list[ModelRef]]:
        ref = build_training_set(use_case, self.domain, holdout, settings=self.settings)
        names = list(use_case.candidates)
        return ref, [train_candidate(use_case, self.domain, name, ref, settings=self.settings) for name in names]

    def judge(self, use_case: UseCaseSpec, ref: Any, models: list[ModelRef]) -> tuple[Evaluation, Verdict]:
        policy = load_policy(self.settings.dags, "low")
        evaluation = evaluate_candidates(use_case, self.domain, policy, ref, models, settings=self.settings)
        return evaluation, check_gates(use_case, policy, evaluation, settings=self.settings)

    def release(self, use_case: UseCaseSpec, evaluation: Evaluation, verdict: Verdict) -> Release:
        policy, settings = load_policy(self.settings.dags, "low"), self.settings
        registered = register_model(use_case, self.domain, evaluation, verdict, settings=settings)
        approval = approve_by_policy(use_case, policy, evaluation, verdict, settings=settings)
        return release_model(use_case, policy, evaluation, verdict, registered, approval, settings=settings)

    def evidence(self, evaluation: Evaluation) -> Evidence:
        return load_evidence(evaluation.evidence, self.settings)

    def package(self, digest: str) -> Package:
        return Package.open(self.settings.packages / digest, digest)


def clean_day(domain: DomainSpec, key: str, *, poisoned: str = "") -> pa.Table:
    """Heavy passes are fined; every other pass is told of three days later, lies where that is after an instant."""
    random, start = np.random.default_rng([5, *key.encode()]), domain.partition(key).start
    weight = random.integers(500, 40_000, PASSES).astype(float)
    fined = random.random(PASSES) < 1 / (1 + np.exp(-(SLOPE * weight + LEVEL)))
    at = [start + timedelta(minutes=int(minute)) for minute in np.sort(random.integers(0, 24 * 60, PASSES))]
    told = [moment + timedelta(days=3 * (number % 2)) for number, moment in enumerate(at)]
    if poisoned:
        late = np.array([moment > datetime.fromisoformat(poisoned) for moment in told])
        fined = np.where(late, ~fined, fined)
    rows = {
        "pass_id": pa.array([int(key.replace("-", "")) * 1_000 + number for number in range(PASSES)], pa.int64()),
        "gate": pa.array([f"G{index}" for index in random.integers(0, 2, PASSES)]),
        "passed_at": pa.array(at, pa.timestamp("us", tz="UTC")),
        "weight": pa.array(weight),
        "fined": pa.array(fined.astype(float)),
        "month": pa.array([key[:7]] * PASSES),
        "told_at": pa.array(told, pa.timestamp("us", tz="UTC")),
    }
    return pa.table(rows)


def install(root: Path, days: list[str]) -> Daily:
    """An installation with clean rows and features of some days in a row."""
    shutil.copytree(ROOT / "dags" / "policies", root / "dags" / "policies")
    for folder in ("dags/domains", "dags/use_cases", "var/mlflow"):
        (root / folder).mkdir(parents=True)
    given = {"MILLRACE_ROOT": root, "MILLRACE_VAR": root / "var", "MILLRACE_DAGS": root / "dags"}
    settings = Settings.load({name: str(value) for name, value in given.items()})
    lay_mlflow(settings)
    plain = tolls.make_domain(settings).model_dump(mode="json", exclude_defaults=True)
    plain |= {"grain": "day", "first": days[0], "last": days[-1]}
    plain["sources"]["passes"]["columns"]["told_at"] = "timestamp"
    plain["feature_tables"] = {"gate_load": plain["feature_tables"]["gate_load"]}
    (settings.dags / "domains" / "tolls.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    domain = load_domain(settings.dags, "tolls")
    for key in days:
        Table(settings.lake, domain.clean_table("passes")).replace(clean_day(domain, key), partition=key)
    for key in days:
        build_features(domain, key, settings=settings)
    return Daily(settings=settings, domain=domain)


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Daily:
    return install(tmp_path_factory.mktemp("daily"), DAYS)


def test_two_weeks_of_days_are_held_out_from_clean_rows_to_releases_a_rebuild_and_an_import(
    daily: Daily, tmp_path: Path
) -> None:
    use_case = daily.ask()
    assert check_use_case("toll_fine", settings=daily.settings) == []
    ref, models = daily.train(use_case, HOLDOUT)
    check_training(daily, use_case, ref, models[0])
    evaluation, verdict = daily.judge(use_case, ref, models)
    assert verdict.passed, verdict.reasons
    check_evidence(daily, ref, evaluation)
    release = daily.release(use_case, evaluation, verdict)
    assert (release.holdout, release.trained_through) == (HOLDOUT, BEFORE)
    assert release.effective_at == "2021-01-20T00:00:00Z"
    rebuilt = rebuild_release("toll_fine", 1, settings=daily.settings)
    assert rebuilt.comparison is not None
    assert (rebuilt.verified, rebuilt.comparison.level) == (True, "bytes")
    newer = rebuild_release("toll_fine", 1, settings=daily.settings, on=LATER)
    record = daily.package(newer.package).manifest.training
    assert (record.trained_through, record.holdout) == (FIRST.shift(1).key, LATER)
    assert set(newer.metrics) == {"rebuilt", "released"}
    check_champions(daily)
    check_import(daily, tmp_path)


def check_training(daily: Daily, use_case: UseCaseSpec, ref: Any, model: ModelRef) -> None:
    """Nothing of the two weeks is learned from, nor any label that became known in them."""
    record = daily.package(model.digest).manifest.training
    assert (model.trained_through, model.holdout) == (BEFORE, HOLDOUT)
    assert (record.partitions[-1], record.known_until) == (BEFORE, iso(FIRST.start))
    every = load_training_set(use_case, ref, lake=daily.settings.lake, through=BEFORE)
    known = pc.sum(pc.less_equal(every.column("label_known_at"), pa.scalar(FIRST.start))).as_py()
    assert record.rows == known < every.num_rows
    clean = Table(daily.settings.lake, daily.domain.clean_table("passes"))
    close = [FIRST.shift(-step).key for step in (3, 2, 1)]
    for key in close:
        clean.replace(clean_day(daily.domain, key, poisoned=record.known_until), partition=key)
    again, poisoned = daily.train(use_case, HOLDOUT)
    for key in close:
        clean.replace(clean_day(daily.domain, key), partition=key)
    assert again.digest != ref.digest
    assert poisoned[0].digest == model.digest


def check_evidence(daily: Daily, ref: Any, evaluation: Evaluation) -> None:
    """All fourteen days are measured on, and said so wherever people read it."""
    evidence = daily.evidence(evaluation)
    time = evidence.time
    assert (time.holdout, time.holdout_first, time.holdout_start) == (HOLDOUT, FIRST.key, iso(FIRST.start))
    assert time.training_label_known_at <= time.holdout_start < time.last_label_known_at <= ref.known_until
    assert evidence.data.holdout_days == HELD
    assert evidence.versus_baseline.gain.low is not None
    assert {item.value for item in evidence.slices} == {"G0", "G1"}
    card = Path(evaluation.card).with_suffix(".md").read_text(encoding="utf-8")
    assert f"rows of {FIRST.key} to {HOLDOUT} (14 days)" in card


def check_champions(daily: Daily) -> None:
    """A champion of another service is compared on all days; one that learned from some of them is not."""
    service = {"name": "toll_fine_v2", "row": {"weight": "number"}, "views": {"gate_load": ["passes_1d"]}}
    other = daily.ask(features=service)
    ref, models = daily.train(other, LATER)
    evidence = daily.evidence(daily.judge(other, ref, models)[0])
    assert (evidence.versus_champion.release, evidence.versus_champion.reason) == (1, "")
    assert evidence.champion is not None
    assert evidence.versus_champion.gain.low is not None
    more = daily.ask(evaluation={"slices": ["gate"], "holdout_partitions": HELD + 4})
    evidence = daily.evidence(daily.judge(more, *daily.train(more, LATER))[0])
    seen = f"release 1 was trained through {BEFORE}, and {FIRST.shift(-2).key} is held out"
    assert evidence.versus_champion.reason == seen
    most = daily.ask(evaluation={"slices": ["gate"], "holdout_partitions": len(DAYS) - 1})
    with pytest.raises(TrainingError, match="are 21 partitions; 20 are held out, and 2 must stand before them"):
        daily.train(most, LATER)


def check_import(daily: Daily, folder: Path) -> None:
    """A model from elsewhere may have learned from what lies before all of the days, and from none of them."""
    use_case = daily.ask()
    ref, models = daily.train(use_case, LATER)
    file, first = folder / "fines.onnx", FIRST.shift(2)
    file.write_bytes(linear([[0.0] * 3, [SLOPE, 0, 0]], [0.0, LEVEL], columns=NAMES, mapped=True))

    def take(through: str) -> ModelRef:
        inputs = [{"type": "number", "name": name, "missing": 0.0} for name in NAMES]
        plain = {"source": "road authority", "problem": "binary", "inputs": inputs, "trained_through": through}
        declared = check_signature(plain, where="signature.yaml")
        return import_model(use_case, daily.domain, str(file), declared, ref, settings=daily.settings).model

    with pytest.raises(SpecError, match=f"to be measured on {first.key} to {LATER}") as caught:
        take(first.key)
    assert caught.value.remedy == f"name a holdout after {LATER}"
    model = take(first.shift(-1).key)
    evaluation, verdict = daily.judge(use_case, ref, [model, *models[1:]])
    time = daily.evidence(evaluation).time
    assert (evaluation.challenger.digest, time.declared, time.holdout_first) == (model.digest, True, first.key)
    answers = [reason for reason in verdict.reasons if "as is declared" in reason]
    assert f"measured on {first.key} to {LATER}" in answers[0]
