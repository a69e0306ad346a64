"""A model from elsewhere, from its file to an answer of the online service, through the gates of any other."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest
import yaml
from tests.conftest import ROOT
from tests.unit import tolls
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.package.onnx_models import linear
from tests.unit.serving import sample

from millrace.artifact import DatasetRef, ModelRef, Verdict
from millrace.errors import RebuildError, ReleaseRefusedError, SpecError
from millrace.evaluation.base import Evaluation
from millrace.evaluation.evidence import load_evidence
from millrace.governance.ledger import Ledger
from millrace.lake import Table
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain, load_policy, load_use_case
from millrace.step.approval import approve_by_policy
from millrace.step.candidate import train_candidate
from millrace.step.deployment import deploy_release, verify_deployment
from millrace.step.evaluation import check_gates, evaluate_candidates
from millrace.step.features import build_features
from millrace.step.import_source import check_signature
from millrace.step.importing import import_model
from millrace.step.materialization import materialize_features
from millrace.step.rebuild import rebuild_release
from millrace.step.registry import register_model
from millrace.step.release import release_model
from millrace.step.scoring import score_partition
from millrace.step.training import build_training_set

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]
HOLDOUT, LIVE = tolls.MONTHS[2], tolls.MONTHS[3]
PASSES = 700
NAMES = ["weight", "passes_1d", "weight_1d", "heaviest", "lanes"]
SLOPE, LEVEL = 1 / 4_000, -6.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """One installation with a training set, its trained baseline and a model from elsewhere."""

    settings: Settings
    domain: DomainSpec
    use_case: UseCaseSpec
    training_set: DatasetRef
    baseline: ModelRef
    file: Path

    def take(self, **changes: object) -> ModelRef:
        inputs = [{"type": "number", "name": name, "missing": 0.0} for name in NAMES]
        values = {"source": "road authority, build 12", "problem": "binary", "inputs": inputs, **changes}
        declared = check_signature(values, where="signature.yaml")
        of = (self.use_case, self.domain, str(self.file), declared, self.training_set)
        return import_model(*of, settings=self.settings).model

    def judge(self, *models: ModelRef) -> tuple[Evaluation, Verdict]:
        policy = load_policy(self.settings.dags, "low")
        of = (self.use_case, self.domain, policy, self.training_set, list(models))
        evaluation = evaluate_candidates(*of, settings=self.settings)
        return evaluation, check_gates(self.use_case, policy, evaluation, settings=self.settings)

    def register(self, evaluation: Evaluation, verdict: Verdict) -> object:
        return register_model(self.use_case, self.domain, evaluation, verdict, settings=self.settings)


def write_clean(domain: DomainSpec, lake: str) -> None:
    """Heavy passes are fined; nothing else matters."""
    random = np.random.default_rng(5)
    for month in tolls.MONTHS:
        start = domain.partition(month).start
        weight = random.integers(500, 40_000, PASSES).astype(float)
        fined = random.random(PASSES) < 1 / (1 + np.exp(-(SLOPE * weight + LEVEL)))
        at = [start + timedelta(minutes=int(minute)) for minute in np.sort(random.integers(0, 28 * 24 * 60, PASSES))]
        rows = {
            "pass_id": pa.array([int(month[-2:]) * 10_000 + number for number in range(PASSES)], pa.int64()),
            "gate": pa.array([f"G{index}" for index in random.integers(0, 3, PASSES)]),
            "passed_at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "weight": pa.array(weight),
            "fined": pa.array(fined.astype(float)),
            "month": pa.array([month] * PASSES),
        }
        Table(lake, domain.clean_table("passes")).replace(pa.table(rows), partition=month)
    Table(lake, domain.clean_table("gates")).replace(pa.table({"gate": ["G0", "G1", "G2"], "lanes": [2, 4, 6]}))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("import")
    for folder in ("dags/domains", "dags/use_cases", "dags/policies", "var/mlflow"):
        (root / folder).mkdir(parents=True)
    for path in (ROOT / "dags" / "policies").glob("*.yaml"):
        (root / "dags" / "policies" / path.name).write_bytes(path.read_bytes())
    given = {"MILLRACE_ROOT": root, "MILLRACE_VAR": root / "var", "MILLRACE_DAGS": root / "dags"}
    settings = Settings.load({name: str(value) for name, value in given.items()})
    lay_mlflow(settings)
    asked = tolls.make_use_case()
    asked = asked.model_copy(update={"evaluation": asked.evaluation.model_copy(update={"slices": ["lanes"]})})
    for folder, spec in (("domains", tolls.make_domain(settings)), ("use_cases", asked)):
        text = yaml.safe_dump(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        (settings.dags / folder / f"{spec.name}.yaml").write_text(text, encoding="utf-8")
    domain, use_case = load_domain(settings.dags, "tolls"), load_use_case(settings.dags, "toll_fine")
    write_clean(domain, settings.lake)
    for month in tolls.MONTHS:
        build_features(domain, month, settings=settings)
    materialize_features(domain, LIVE, settings=settings)
    training_set = build_training_set(use_case, domain, HOLDOUT, settings=settings)
    file = root / "fines.onnx"
    file.write_bytes(linear([[0.0] * 5, [SLOPE, 0, 0, 0, 0]], [0.0, LEVEL], columns=NAMES, mapped=True))
    return Place(
        settings=settings,
        domain=domain,
        use_case=use_case,
        training_set=training_set,
        baseline=train_candidate(use_case, domain, "baseline", training_set, settings=settings),
        file=file,
    )


def test_a_model_of_which_nobody_says_when_it_was_trained_is_not_released(place: Place) -> None:
    evaluation, verdict = place.judge(place.take(), place.baseline)
    evidence = load_evidence(evaluation.evidence, place.settings)
    assert (evidence.time.training_partitions, evidence.time.declared) == ([], True)
    assert verdict.outcome != "pass"
    assert any("nobody declares through when" in reason for reason in verdict.reasons)
    with pytest.raises(ReleaseRefusedError, match="insufficient_data"):
        place.register(evaluation, verdict)


def test_a_model_that_declares_the_holdout_itself_is_refused(place: Place) -> None:
    with pytest.raises(SpecError, match=f"learned from rows through {HOLDOUT}") as caught:
        place.take(trained_through=HOLDOUT)
    assert caught.value.remedy


def test_an_import_alone_is_judged_but_beats_no_baseline(place: Place) -> None:
    policy = load_policy(place.settings.dags, "low").model_copy(update={"min_candidates": 1})
    model = place.take(trained_through=tolls.MONTHS[1])
    of = (place.use_case, place.domain, policy, place.training_set, [model])
    evaluation = evaluate_candidates(*of, settings=place.settings)
    verdict = check_gates(place.use_case, policy, evaluation, settings=place.settings)
    assert verdict.outcome == "insufficient_data"
    assert any("baseline" in reason for reason in verdict.reasons)


def test_a_model_from_elsewhere_is_imported_judged_released_scored_and_served(place: Place, tmp_path: Path) -> None:
    model = place.take(trained_through=tolls.MONTHS[1])
    evaluation, verdict = place.judge(model, place.baseline)
    assert verdict.passed, verdict.reasons
    evidence = load_evidence(evaluation.evidence, place.settings)
    assert evidence.origin is not None
    assert evidence.origin.source.startswith("road authority, build 12 (onnx file, sha256 ")
    assert evidence.explanation.method == "permutation"
    assert evidence.explanation.features[0].feature == "weight"
    assert "road authority, build 12" in Path(evaluation.card).read_text(encoding="utf-8")
    policy = load_policy(place.settings.dags, "low")
    registered = register_model(place.use_case, place.domain, evaluation, verdict, settings=place.settings)
    approval = approve_by_policy(place.use_case, policy, evaluation, verdict, settings=place.settings)
    release = release_model(place.use_case, policy, evaluation, verdict, registered, approval, settings=place.settings)
    assert (release.package, release.trained_through) == (model.digest, tolls.MONTHS[1])
    assert score_partition(place.use_case, place.domain, LIVE, settings=place.settings).rows == PASSES
    store = Path(str(place.settings.online_store))
    with sample.live_service(place.settings.serving_dir, online_store=store, log=tmp_path / "log") as live:
        settings = dataclasses.replace(place.settings, serving_url=live.url)
        deploy_release(place.use_case, release, settings=settings)
        assert verify_deployment(place.use_case, settings=settings)["max_abs_diff"] <= 1e-6
        rows = [{"weight": weight, "passes_1d": 1, "weight_1d": 1, "heaviest": 1, "lanes": 2} for weight in (1e3, 3e4)]
        answer = httpx.post(f"{live.url}/invocations/toll_fine", json={"dataframe_records": rows}, trust_env=False)
    wanted = 1 / (1 + np.exp(-(SLOPE * np.array([1e3, 3e4]) + LEVEL)))
    np.testing.assert_allclose(answer.json()["predictions"], wanted, atol=1e-6)
    assert Package.open(place.settings.packages / release.package).manifest.trainer == "imported"
    assert Ledger(place.settings).verify().verified
    with pytest.raises(RebuildError, match="was trained elsewhere: road authority"):
        rebuild_release("toll_fine", release.version, settings=place.settings)
    kinds = [entry.kind for entry in Ledger(place.settings).entries("toll_fine", subject=model.digest)]
    assert {"gates_evaluated", "registered", "approved", "released"} <= set(kinds)


def test_the_command_line_says_whether_a_model_fits_and_starts_nothing_without_a_name(
    place: Place, tmp_path: Path
) -> None:
    inputs = [{"type": "number", "name": name, "missing": 0.0} for name in NAMES]
    examples = {"rows": [dict.fromkeys(NAMES, 24_000.0)], "predictions": [0.5]}
    declared = {"source": "road authority", "problem": "binary", "inputs": inputs, "examples": examples}
    (tmp_path / "signature.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
    environ = {
        **os.environ,
        "MILLRACE_ROOT": str(place.settings.root),
        "MILLRACE_VAR": str(place.settings.var),
        "MILLRACE_DAGS": str(place.settings.dags),
        "XDG_CONFIG_HOME": str(tmp_path),
        "MILLRACE_AIRFLOW_TOKEN": "",
    }

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "millrace.cli.main", "import", "toll_fine", str(place.file)]
        command += ["--signature", str(tmp_path / "signature.yaml"), *more]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=280, check=False)

    checked = run("--check", "--json", "--holdout", HOLDOUT)
    assert checked.returncode == 0, checked.stderr
    found = orjson.loads(checked.stdout.splitlines()[-1])
    assert (found["model"]["holdout"], found["run"], found["gap"] < 1e-6) == (HOLDOUT, "", True)
    assert found["notes"] == ["Nobody says which rows it learned from."]
    nobody = run("--holdout", HOLDOUT)
    assert nobody.returncode == 1
    assert "millrace login" in nobody.stderr
