"""Models trained together, trials spread and rows scored on a real Ray, started here."""

from __future__ import annotations

import dataclasses
import functools
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from optuna.trial import TrialState
from sklearn.metrics import roc_auc_score
from tests.unit.training.synthetic import make_job, make_rows, make_use_case, training_rows

from millrace.engine import Engine, RowWork, open_engine
from millrace.errors import EngineError, FeatureError
from millrace.package import Package
from millrace.spec import ComputeSpec
from millrace.training import train_package
from millrace.training.base import Fit, TrainingData
from millrace.training.boosting.lightgbm_trainer import LightGBMTrainer
from millrace.training.boosting.xgboost_trainer import XGBoostTrainer
from millrace.training.candidate import Trained, prepare_training
from millrace.training.cluster.ray_trainer import RayTrainer
from millrace.training.cluster.ray_training import train_on_ray
from millrace.training.job import TrainingJob
from millrace.training.network.torch_trainer import TorchTrainer
from millrace.training.run import Checkpoint, FitRun, FolderRun, LooseRun, StopFitError
from millrace.training.tuning.tune import tune

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(600)]
MONTHS = ["2020-01", "2020-02", "2020-03"]
BOOSTED = {"rounds": 30, "checkpoint_every": 10, "learning_rate": 0.2, "threads": 1}
CANDIDATES: dict[str, dict[str, Any]] = {
    "xgboost": {**BOOSTED, "subsample": 0.8, "max_depth": 4, "early_stopping": 20},
    "lightgbm": {**BOOSTED, "checkpoint_every": 5, "feature_fraction": 0.8, "num_leaves": 15},
    "torch": {"epochs": 4, "hidden": [32], "batch_size": 256, "learning_rate": 0.02, "threads": 1},
}
TRIALS = {
    "trainer": "xgboost",
    "params": {"rounds": 20, "threads": 1},
    "tuning": {
        "space": {
            "max_depth": {"type": "int", "low": 2, "high": 6},
            "subsample": {"type": "float", "low": 0.5, "high": 1.0},
        },
        "trials": 6,
        "folds": 1,
        "parallel": 2,
    },
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Ray on this machine, started once."""
    if " " in sys.executable:
        pytest.skip("Ray does not start these workers from a path with a space; unit tests show that it is refused")
    with open_engine(ComputeSpec(engine="ray", threads=1, memory_limit="300MB")) as started:
        if started.width < 2:
            pytest.skip("two workers need two cores")
        yield started


@functools.cache
def rows() -> pa.Table:
    return training_rows(use_case(), MONTHS)


@functools.cache
def use_case() -> Any:
    chosen: dict[str, dict[str, Any]] = {
        name: {"trainer": name, "params": params, "workers": 2} for name, params in CANDIDATES.items()
    }
    return make_use_case(**chosen, tuned=TRIALS)


def job_of(candidate: str) -> TrainingJob:
    return make_job(use_case(), candidate, holdout="2020-04")


@pytest.fixture(scope="module")
def together(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Trained, FolderRun]]:
    """The undisturbed training of a candidate by two workers, done once."""

    @functools.cache
    def train(candidate: str) -> tuple[Trained, FolderRun]:
        folder = tmp_path_factory.mktemp(candidate)
        run = FolderRun(folder=folder / "run")
        trained = train_on_ray(job_of(candidate), rows(), engine=engine, store=folder / "packages", run=run)
        return trained, run

    return train


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_two_workers_make_a_package_as_good_as_one_process_does(
    candidate: str, together: Callable[[str], tuple[Trained, FolderRun]], tmp_path: Path
) -> None:
    trained, run = together(candidate)
    alone = train_package(job_of(candidate), rows(), store=tmp_path)
    assert Package.open(trained.package.folder, trained.package.digest).probe() == 0
    found, expected = (dataclasses.asdict(item.package.manifest) for item in (trained, alone))
    assert found.pop("facts")["workers"] == 2
    assert "workers" not in expected.pop("facts")
    for other in (found, expected):
        del other["files"]
    assert found == expected
    assert trained.package.content["encoder.json"] == alone.package.content["encoder.json"]
    assert auc(trained.package) == pytest.approx(auc(alone.package), abs=0.02)
    steps = [step for step, _ in run.curves["train_loss"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == (3 if candidate == "torch" else 29)


class DyingRun:
    """Kills its worker at the second checkpoint, once."""

    def __init__(self, run: FitRun, marker: Path) -> None:
        self.run, self.marker, self.folder = run, marker, run.folder
        self.saved = 0
        assert run.restore() is None or marker.exists(), "workers began anew before one was killed"

    def restore(self) -> Checkpoint | None:
        return self.run.restore()

    def save(self, checkpoint: Checkpoint) -> None:
        self.run.save(checkpoint)
        self.saved += 1
        if self.saved == 2 and not self.run.first and not self.marker.exists():  # type: ignore[attr-defined]
            wait_for(lambda: (kept := self.run.restore()) is not None and kept.done >= checkpoint.done)
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.report(step, metrics)


class DyingXGBoost(XGBoostTrainer):
    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        return super().fit(data, seed=seed, run=DyingRun(run, marker_of_death()))


class DyingLightGBM(LightGBMTrainer):
    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        return super().fit(data, seed=seed, run=DyingRun(run, marker_of_death()))


class DyingTorch(TorchTrainer):
    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        return super().fit(data, seed=seed, run=DyingRun(run, marker_of_death()))


def marker_of_death() -> Path:
    """A file next to this one's cluster: all its workers see it."""
    import ray

    return Path(ray._private.worker._global_node.get_session_dir_path(), "died")


DYING = {"xgboost": DyingXGBoost, "lightgbm": DyingLightGBM, "torch": DyingTorch}


@pytest.mark.parametrize("candidate", DYING)
def test_a_killed_worker_is_replaced_and_the_model_is_that_of_the_undisturbed_run(
    candidate: str, together: Callable[[str], tuple[Trained, FolderRun]], engine: Engine, tmp_path: Path
) -> None:
    marker = marker_of_death()
    marker.unlink(missing_ok=True)
    prepared = prepare_training(job_of(candidate), rows(), folder=tmp_path)
    trainer = RayTrainer(
        inner=DYING[candidate](prepared.trainer.params),  # type: ignore[arg-type]
        engine=engine,  # type: ignore[arg-type]
        workers=2,
        resources={"CPU": 1.0},
    )
    run = FolderRun(folder=tmp_path / "run")
    fit = trainer.fit(prepared.data, seed=use_case().seed, run=run)
    assert marker.exists()
    undisturbed, before = together(candidate)
    assert fit.content == undisturbed.package.content[undisturbed.package.manifest.model.name]
    assert run.curves == before.curves


def test_a_task_that_is_ended_goes_on_from_its_own_checkpoint(
    together: Callable[[str], tuple[Trained, FolderRun]], engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    job = job_of("xgboost")
    with pytest.raises(StopFitError):
        train_on_ray(job, rows(), engine=engine, store=tmp_path, run=HeldRun(folder=folder))
    assert list(folder.glob("*.checkpoint"))
    wait_for_idle()
    with pytest.raises(StopFitError):
        train_on_ray(job, rows(), engine=engine, store=tmp_path, run=FolderRun(folder=folder), stop=lambda: True)
    again = train_on_ray(job, rows(), engine=engine, store=tmp_path, run=FolderRun(folder=folder))
    assert again.package.digest == together("xgboost")[0].package.digest


def wait_for_idle() -> None:
    """No worker of a fit that was ended holds a core."""
    import ray

    wait_for(lambda: ray.available_resources().get("CPU", 0) >= ray.cluster_resources()["CPU"])


def wait_for(look: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not look():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.1)


class HeldRun(FolderRun):
    """A run that is over once a checkpoint is kept."""

    def save(self, checkpoint: Checkpoint) -> None:
        super().save(checkpoint)
        raise StopFitError("the task is ended here")


def test_more_workers_than_this_machine_has_cores_are_refused_with_the_remedy(engine: Engine, tmp_path: Path) -> None:
    prepared = prepare_training(job_of("xgboost"), rows(), folder=tmp_path)
    trainer = RayTrainer(inner=prepared.trainer, engine=engine, workers=2, resources={"CPU": 1000.0})  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"2000 CPU[\s\S]*threads"):
        trainer.fit(prepared.data, seed=1, run=LooseRun(folder=tmp_path))


def test_trials_spread_over_the_cluster_fill_the_study(engine: Engine, tmp_path: Path) -> None:
    from millrace.training.cluster.ray_tuning import RaySpread
    from millrace.training.tuning.optuna_study import open_storage

    storage, job = f"sqlite:///{tmp_path}/studies.db", job_of("tuned")
    spread = RaySpread(engine=engine)

    def done() -> int:
        kept = open_storage(storage)
        trials = [trial for study in kept.get_all_studies() for trial in kept.get_all_trials(study._study_id)]
        return [trial.state for trial in trials].count(TrialState.COMPLETE)

    with pytest.raises(StopFitError):
        tune(job, rows(), storage=storage, folder=tmp_path, seed=3, spread=spread, stop=lambda: done() > 0)
    assert 0 < done() < 6
    tuned = tune(job, rows(), storage=storage, folder=tmp_path, seed=3, spread=spread)
    assert len(tuned.trials) == 6
    assert {item.state for item in tuned.trials} <= {"complete", "pruned"}
    assert [item.untuned for item in tuned.trials].count(True) == 1  # wherever it came to stand, if it was broken off
    assert tuned.untuned is not None
    assert tuned.value >= tuned.untuned
    assert all(0.5 < item.value < 1 for item in tuned.trials if item.value is not None)
    again = tune(job, rows(), storage=storage, folder=tmp_path, seed=3, spread=spread)
    assert [item.params for item in again.trials] == [item.params for item in tuned.trials]


def open_package(package: Package) -> RowWork:
    predictor = package.predictor()
    return lambda rows: predictor.predict({name: rows.column(name) for name in rows.column_names})


def open_faulty() -> RowWork:
    def fail(rows: pa.Table) -> np.ndarray:
        raise FeatureError("a value is wrong", where="here", remedy="mend it")

    return fail


def open_several() -> RowWork:
    return lambda rows: np.stack([rows.column("size").to_numpy(), rows.column("age").to_numpy()], axis=1)


def test_rows_scored_on_ray_come_in_order_and_as_they_are_here(engine: Engine, tmp_path: Path) -> None:
    package = train_package(job_of("xgboost"), rows(), store=tmp_path).package
    assert pickle.loads(pickle.dumps(package)).digest == package.digest
    many = make_rows(use_case(), "2020-04", 230_001)
    work = functools.partial(open_package, package)
    features = many.select(package.features.columns)
    assert np.array_equal(engine.map_rows(work, features), work()(features))
    several = many.select(["size", "age"]).combine_chunks()
    assert np.array_equal(engine.map_rows(open_several, several), open_several()(several), equal_nan=True)
    with pytest.raises(FeatureError) as caught:
        engine.map_rows(open_faulty, several)
    assert (caught.value.where, caught.value.remedy) == ("here", "mend it")


def auc(package: Package) -> float:
    later = make_rows(use_case(), "2020-04", 3000)
    predicted = package.predictor().predict({name: later.column(name) for name in package.features.columns})
    return float(roc_auc_score(later.column("label").to_numpy(), predicted))
