"""A package is timed in a process of its own, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.errors import EvaluationError
from millrace.evaluation.latency import latency_of
from millrace.evaluation.stopwatch import BATCH_ROWS
from millrace.package import Package
from millrace.settings import Settings
from millrace.training import train_package


@pytest.fixture
def package(settings: Settings) -> Package:
    use_case = make_use_case(baseline={"trainer": "baseline"})
    rows = training_rows(use_case, ["2020-01", "2020-02"], 200)
    return train_package(make_job(use_case, "baseline", holdout="2020-03"), rows, store=settings.packages).package


def kept(settings: Settings, package: Package) -> Path:
    return settings.var / "latency" / f"{package.digest}.json"


def test_figures_are_measured_once_and_read_ever_after(settings: Settings, package: Package) -> None:
    found = latency_of(package.digest, settings)
    assert found.rows == BATCH_ROWS
    assert 0 < found.one_median <= found.one_p99
    assert found.load > 0
    assert found.batch > 0
    content = kept(settings, package).read_bytes()
    assert latency_of(package.digest, settings) == found
    assert kept(settings, package).read_bytes() == content


def test_a_damaged_document_is_measured_anew(settings: Settings, package: Package) -> None:
    kept(settings, package).parent.mkdir(parents=True)
    kept(settings, package).write_text('{"rows": 1000')
    assert latency_of(package.digest, settings) == latency_of(package.digest, settings)


def test_a_package_that_does_not_open_is_named_and_nothing_is_kept(settings: Settings, package: Package) -> None:
    (package.folder / "golden.json").write_bytes(b"{}")
    with pytest.raises(EvaluationError, match=r"golden\.json is not the file that was sealed") as refused:
        latency_of(package.digest, settings)
    assert package.digest in str(refused.value)
    assert not kept(settings, package).exists()
