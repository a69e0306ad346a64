"""The answer under another name, planted as a feature, is stopped by the gates of every tier."""

from __future__ import annotations

import pytest
from tests.unit.step.test_evaluation import lenient
from tests.unit.training.synthetic import make_domain, make_rows, make_use_case

from millrace.artifact import DatasetRef, ModelRef, iso
from millrace.evaluation.evidence import load_evidence
from millrace.evaluation.gates.explanation_present import ExplanationPresent
from millrace.evaluation.gates.no_leak import NoLeak
from millrace.evaluation.gates.stability import Stability
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import UseCaseSpec
from millrace.step.candidate import open_job
from millrace.step.evaluation import evaluate_candidates
from millrace.training import train_package

PARTITIONS = ["2020-01", "2020-02", "2020-03"]


def write(use_case: UseCaseSpec, lake: str, *, leaking: bool) -> DatasetRef:
    """A training set; where `leaking`, the feature `age` is the label, a little blurred."""
    table = Table(lake, use_case.service_table("training_set"))
    for key in PARTITIONS:
        rows = make_rows(use_case, key, 300)
        if leaking:
            place = rows.column_names.index("age")
            answer = [label + 0.001 * number for number, label in enumerate(rows.column("label").to_pylist())]
            rows = rows.set_column(place, "age", [answer])
        version = table.replace(rows, partition=key).version
    until = iso(make_domain().partition(PARTITIONS[-1]).end)
    return DatasetRef(table=table.name, version=version, rows=900, digest="0" * 64, known_until=until)


@pytest.mark.parametrize(("leaking", "outcome"), [(True, "fail"), (False, "pass")])
def test_a_planted_leak_fails_and_names_the_feature(settings: Settings, leaking: bool, outcome: str) -> None:
    use_case = make_use_case(small={"trainer": "lightgbm", "params": {"rounds": 8, "num_leaves": 7}})
    ref = write(use_case, settings.lake, leaking=leaking)
    job, rows = open_job(use_case, make_domain(), "small", ref, settings=settings)
    package = train_package(job, rows, store=settings.packages).package
    model = ModelRef(
        use_case=use_case.name,
        candidate="small",
        trainer="lightgbm",
        digest=package.digest,
        trained_through=package.manifest.training.trained_through,
        holdout=job.holdout,
    )
    found = evaluate_candidates(use_case, make_domain(), lenient(settings), ref, [model], settings=settings)
    evidence = load_evidence(found.evidence, settings)
    answer = NoLeak().answer(evidence)
    assert answer.outcome == outcome
    assert ("age alone reaches AUC" in answer.sentence) is leaking
    assert {item.feature for item in evidence.stability} == {"", *evidence.challenger_score.features}
    assert Stability(max_moved=0.2).answer(evidence).outcome == "pass"
    assert ExplanationPresent().answer(evidence).outcome == "pass"
    assert evidence.latency is not None
    assert evidence.origin is not None
    if leaking:
        return
    again = evaluate_candidates(use_case, make_domain(), lenient(settings), ref, [model], settings=settings)
    assert again.evidence == found.evidence
