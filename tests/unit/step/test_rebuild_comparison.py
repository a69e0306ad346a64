from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.package import Package
from millrace.spec import UseCaseSpec
from millrace.step.rebuild_comparison import METRIC_TOLERANCE, PREDICTION_TOLERANCE, Comparison, compare_packages
from millrace.training import train_package


def train(store: Path, problem: str, seed: int = 7, **params: object) -> tuple[UseCaseSpec, Package]:
    spec = {"trainer": "xgboost", "params": {"rounds": 20, "max_depth": 3, "subsample": 0.9, **params}}
    use_case = make_use_case(problem, boosted=spec).model_copy(update={"seed": seed})
    job = make_job(use_case, "boosted", holdout="2020-03")
    return use_case, train_package(job, training_rows(use_case, ["2020-01", "2020-02"]), store=store).package


def compare(use_case: UseCaseSpec, old: Package | None, new: Package, wanted: str = "") -> Comparison:
    rows = training_rows(use_case, ["2020-03"])
    return compare_packages(old, new, wanted=wanted or (old.digest if old else ""), use_case=use_case, rows=rows)


@pytest.mark.parametrize("problem", ["binary", "multiclass", "regression"])
def test_the_strongest_level_that_holds_is_the_one_that_is_said(tmp_path: Path, problem: str) -> None:
    use_case, package = train(tmp_path, problem)
    assert compare(use_case, package, package) == Comparison(level="bytes")

    resealed = replace(package, digest="f" * 64)
    found = compare(use_case, package, resealed)
    assert (found.level, found.prediction_gap, found.differing) == ("predictions", 0.0, [])
    assert found.metrics["recorded"] == found.metrics["rebuilt"]

    _, near = train(tmp_path, problem, seed=7, learning_rate=0.1001)
    found = compare(use_case, package, near)
    assert found.level == "metrics"
    assert found.prediction_gap > PREDICTION_TOLERANCE
    assert abs(found.metrics["recorded"] - found.metrics["rebuilt"]) <= METRIC_TOLERANCE * 100
    assert "model.ubj" in found.differing

    _, far = train(tmp_path, problem, rounds=1)
    found = compare(use_case, package, far)
    assert found.level == "none"
    assert found.why == ""


def test_of_a_package_that_is_gone_only_the_digest_can_be_compared(tmp_path: Path) -> None:
    use_case, package = train(tmp_path, "binary")
    assert compare(use_case, None, package, wanted=package.digest).level == "bytes"
    lost = compare(use_case, None, package, wanted="0" * 64)
    assert (lost.level, lost.rows) == ("none", 0)
    assert "gone" in lost.why


def test_models_of_other_features_are_not_the_same_and_it_is_said_why(tmp_path: Path) -> None:
    use_case, package = train(tmp_path, "binary")
    rows = training_rows(use_case, ["2020-03"]).drop_columns(["size"])
    found = compare_packages(
        package, replace(package, digest="f" * 64), wanted=package.digest, use_case=use_case, rows=rows
    )
    assert found.level == "none"
    assert "size" in found.why
