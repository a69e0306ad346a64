"""Census income of 1994: a good model that treats women and some races worse is refused, by group and ratio.

Sex and race are no features: they come from the clean rows, and no model sees them.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.artifact import ModelRef, Verdict
from millrace.document import load_document
from millrace.evaluation.evidence import Evidence, load_evidence
from millrace.settings import Settings
from millrace.spec import DomainSpec, GateSpec, PolicySpec, UseCaseSpec, load_domain, load_policy, load_use_case
from millrace.step.candidate import open_job
from millrace.step.evaluation import check_gates, evaluate_candidates
from millrace.step.ingestion import ingest_partition
from millrace.step.training import build_training_set
from millrace.step.validation import validate_partition
from millrace.training import train_package

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]
SHARED = Path(os.environ.get("MILLRACE_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
ADULT = SHARED / "adult"
MONTHS = {"1994-01": "train", "1994-02": "test"}
COLUMNS = {
    "age": "float64", "workclass": "string", "fnlwgt": "float64", "education": "string", "education_num": "float64",
    "marital_status": "string", "occupation": "string", "relationship": "string", "race": "string", "sex": "string",
    "capital_gain": "float64", "capital_loss": "float64", "hours_per_week": "float64", "native_country": "string",
    "income": "string",
}  # fmt: skip
UNSEEN = {"race", "sex", "income"}
LIGHTGBM = {"rounds": 80, "num_leaves": 31, "learning_rate": 0.1, "threads": 2}


def domain_values(folder: Path) -> dict[str, Any]:
    columns = {"person": "string", "at": "timestamp", **COLUMNS}
    source = {
        "uri": f"{folder}/{{partition}}.csv",
        "columns": columns,
        "null_values": ["", "?"],
        "key": ["person"],
    }
    return {
        "name": "census", "description": "People asked in 1994.", "owners": ["admin"], "first": "1994-01",
        "sources": {"people": source}, "feature_tables": {},
    }  # fmt: skip


def use_case_values() -> dict[str, Any]:
    row = {name: "number" if kind == "float64" else "category" for name, kind in COLUMNS.items() if name not in UNSEEN}
    return {
        "name": "income", "domain": "census", "description": "Does a person earn over 50,000?", "owners": ["admin"],
        "tier": "high", "problem": "binary", "entity": {"source": "people", "key": "person", "timestamp": "at"},
        "label": {"expression": "CASE WHEN income = '>50K' THEN 1.0 ELSE 0.0 END", "known_at": "at"},
        "features": {"name": "income_v1", "row": row, "views": {}}, "leaks": ["income"], "min_training_partitions": 1,
        "candidates": {"lightgbm": {"trainer": "lightgbm", "params": LIGHTGBM}, "baseline": {"trainer": "baseline"}},
        "evaluation": {"slices": [["sex", "race"]], "sensitive": ["sex", "race"], "bootstrap": 200},
    }  # fmt: skip


def write_people(folder: Path) -> None:
    """The official split as two months, a person every two minutes; the dots after labels of the second taken away."""
    folder.mkdir()
    for month, part in MONTHS.items():
        with gzip.open(ADULT / f"adult-{part}.csv.gz", "rt", encoding="utf-8", newline="") as file:
            lines = [line for line in csv.reader(file, skipinitialspace=True) if len(line) == len(COLUMNS)]
        with (folder / f"{month}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["person", "at", *COLUMNS])
            step = timedelta(days=27) / len(lines)
            for number, line in enumerate(lines):
                elapsed = int((number * step).total_seconds())
                at = f"{month}-{1 + elapsed // 86400:02d}T{elapsed // 3600 % 24:02d}:{elapsed // 60 % 60:02d}:00Z"
                writer.writerow([f"{part}-{number:05d}", at, *line[:-1], line[-1].removesuffix(".")])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Census:
    settings: Settings
    domain: DomainSpec
    use_case: UseCaseSpec
    evaluate: Any

    def judge(self, **fairness: Any) -> tuple[Verdict, Evidence]:
        """The verdict of a policy with the fairness gate of tier high, some of its arguments changed."""
        (gate,) = [item for item in load_policy(self.settings.dags, "high").gates["all"] if item.kind == "fairness"]
        good = GateSpec(kind="minimum_metric", args={"metric": "auc", "at_least": 0.92})
        fair = GateSpec(kind="fairness", args={**gate.args, **fairness})
        policy = PolicySpec(tier="high", description="", gates={"all": [good, fair]})
        evaluation = self.evaluate(policy)
        verdict = check_gates(self.use_case, policy, evaluation, settings=self.settings)
        return verdict, load_evidence(evaluation.evidence, self.settings)


@pytest.fixture
def census(settings: Settings, tmp_path: Path) -> Census:
    if not ADULT.is_dir():
        pytest.skip(f"no {ADULT}; MILLRACE_SHARED_DATA names the folder that holds it")
    write_people(tmp_path / "people")
    for folder, values in (("domains", domain_values(tmp_path / "people")), ("use_cases", use_case_values())):
        (settings.dags / folder / f"{values['name']}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    domain, use_case = load_domain(settings.dags, "census"), load_use_case(settings.dags, "income")
    for month in MONTHS:
        ingest_partition(domain, "people", month, settings=settings)
        assert validate_partition(domain, "people", month, settings=settings).verdict.passed
    training_set = build_training_set(use_case, domain, list(MONTHS)[-1], settings=settings)
    models = []
    for name in use_case.candidates:
        job, rows = open_job(use_case, domain, name, training_set, settings=settings)
        package = train_package(job, rows, store=settings.packages).package
        record = package.manifest.training
        models.append(
            ModelRef(
                use_case="income", candidate=name, trainer=name, digest=package.digest,
                trained_through=record.trained_through, holdout=record.holdout,
            )
        )  # fmt: skip

    def evaluate(policy: PolicySpec) -> Any:
        return evaluate_candidates(use_case, domain, policy, training_set, models, settings=settings)

    return Census(settings=settings, domain=domain, use_case=use_case, evaluate=evaluate)


def test_a_model_that_selects_women_and_some_races_too_seldom_is_refused_by_group_and_ratio(census: Census) -> None:
    verdict, evidence = census.judge()
    print("\n".join(verdict.reasons))
    assert verdict.outcome == "fail"
    assert "sex Female is selected in" in verdict.reasons[0]
    (answer,) = [
        item
        for path in (census.settings.var / "evidence").glob("*.json")
        for item in load_document(path.parent, path.stem).get("answers", [])
        if item["gate"] == "fairness"
    ]
    for word in ("sex Female", "Male", "race", "demographic parity 0.", "0.8 is asked for"):
        assert word in answer["sentence"]
    assert 0.2 < answer["numbers"]["demographic_parity"] < 0.5
    sex, race = evidence.fairness
    assert (sex.least, sex.greatest) == ("Female", "Male")
    assert sex.demographic_parity.low is not None
    assert sex.demographic_parity.low < (sex.demographic_parity.value or 0) < (sex.demographic_parity.high or 0) < 0.45
    assert race.compared == 5
    assert not {"sex", "race"} & set(evidence.challenger_score.features)
    crossed = {item.value: item.rows for item in evidence.slices}
    assert sum(crossed.values()) == evidence.data.holdout_rows == 16_281
    assert "Female × Black" in crossed
    lenient, _ = census.judge(min_demographic_parity=0.2, min_equalized_odds=0.0)
    assert lenient.passed, lenient.reasons
