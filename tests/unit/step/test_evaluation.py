"""What a search found goes from the recipe to evidence and card."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tests.unit.training.synthetic import make_domain, make_use_case, write_training_set

from millrace.artifact import DatasetRef, ModelRef
from millrace.evaluation.base import Evaluation
from millrace.evaluation.evidence import load_evidence
from millrace.governance.recipe import find_tuning, recipe_folder
from millrace.settings import Settings
from millrace.spec import PolicySpec, UseCaseSpec, load_policy
from millrace.step.candidate import open_job
from millrace.step.evaluation import evaluate_candidates
from millrace.step.recipe import origin_of, record_recipe
from millrace.training import train_package
from millrace.training.tuning.tune import tune

TUNED: dict[str, Any] = {
    "trainer": "lightgbm",
    "params": {"rounds": 8, "num_leaves": 7},
    "tuning": {
        "space": {"learning_rate": {"type": "float", "low": 0.05, "high": 0.5, "log": True}},
        "trials": 3,
        "minutes": 5,
        "folds": 1,
        "pruner": "none",
    },
}


def train(use_case: UseCaseSpec, ref: DatasetRef, settings: Settings, folder: Path) -> ModelRef:
    job, rows = open_job(use_case, make_domain(), "tuned", ref, settings=settings)
    tuned = tune(job, rows, storage=f"sqlite:///{folder / 'studies.db'}", folder=folder, seed=7)
    job = dataclasses.replace(job, params={**job.params, **tuned.params})
    package = train_package(job, rows, store=settings.packages).package
    record_recipe(job, package, ref, origin=origin_of(settings), settings=settings, tuned=tuned)
    return ModelRef(
        use_case=use_case.name,
        candidate="tuned",
        trainer="lightgbm",
        digest=package.digest,
        trained_through=package.manifest.training.trained_through,
        holdout=job.holdout,
    )


def lenient(settings: Settings) -> PolicySpec:
    policy = load_policy(settings.dags, "low")
    return policy.model_copy(update={"gates": {}, "min_candidates": 1})


def test_evidence_and_card_tell_of_the_search_that_the_recipe_holds(settings: Settings, tmp_path: Path) -> None:
    use_case = make_use_case(tuned=TUNED)
    ref = write_training_set(use_case, settings.lake, ["2020-01", "2020-02", "2020-03"], 200)
    model = train(use_case, ref, settings, tmp_path)

    def evaluate(asked: UseCaseSpec) -> Evaluation:
        return evaluate_candidates(asked, make_domain(), lenient(settings), ref, [model], settings=settings)

    evaluation = evaluate(use_case)
    evidence = load_evidence(evaluation.evidence, settings)
    record = find_tuning(use_case.name, "tuned", model.digest, settings)
    assert record is not None
    assert evidence.tuning == {"tuned": record}
    assert (record.trials, record.folds, len(record.history)) == ({"complete": 3}, ["2020-02"], 3)
    assert record.value == max(point.value or 0.0 for point in record.history)
    card = Path(evaluation.card)
    assert card.read_text(encoding="utf-8").count("How its parameters were found") == 1
    assert "| learning_rate |" in card.with_suffix(".md").read_text(encoding="utf-8")
    assert evaluate(use_case) == evaluation

    untuned = make_use_case(tuned={**TUNED, "tuning": None})
    assert "tuning" not in load_evidence(evaluate(untuned).evidence, settings).document()
    for path in (recipe_folder(settings) / model.digest).glob("*.json"):
        path.unlink()
    assert "tuning" not in load_evidence(evaluate(use_case).evidence, settings).document()
