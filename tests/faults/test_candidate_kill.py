"""A training task killed in its fit, after sealing, or half-way through logging: the next try ends in one whole run."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

import pytest
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.training.synthetic import QUICK, make_domain, make_use_case, write_training_set

from millrace.artifact import DatasetRef, ModelRef
from millrace.registry.mlflow_client import connect
from millrace.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]
MOMENTS = {
    "in the fit": ("millrace.training.run", "FolderRun.report"),
    "before the recipe": ("millrace.step.candidate", "record_recipe"),
    "before logging": ("millrace.step.candidate", "log_candidate"),
    "half logged": ("mlflow", "MlflowClient.log_artifacts"),
    "before cleaning up": ("shutil", "rmtree"),
}


def train(settings: Settings, ref: DatasetRef) -> ModelRef:
    from millrace.step.candidate import train_candidate

    params = {**QUICK["lightgbm"], "rounds": 40, "checkpoint_every": 10}
    use_case = make_use_case(boosted={"trainer": "lightgbm", "params": params})
    return train_candidate(use_case, make_domain(), "boosted", ref, settings=settings)


def train_and_die(moment: str, settings: Settings, ref: DatasetRef) -> None:
    """Die at the moment; in the fit with a checkpoint behind it."""
    module, dotted = MOMENTS[moment]
    holder: Any = __import__(module, fromlist=["x"])
    *path, name = dotted.split(".")
    for part in path:
        holder = getattr(holder, part)
    genuine = getattr(holder, name)

    def die(*args: Any, **kwargs: Any) -> Any:
        if name == "report" and not list((settings.var / "training").glob("*/fit-*/*20.checkpoint")):
            return genuine(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(holder, name, die)
    train(settings, ref)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_training_ends_in_one_run_of_the_undisturbed_package(
    moment: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lay_mlflow(settings)
    use_case = make_use_case()
    ref = write_training_set(use_case, settings.lake, ["2020-01", "2020-02", "2020-03"], 200)
    child = multiprocessing.get_context("spawn").Process(target=train_and_die, args=(moment, settings, ref))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    model = train(settings, ref)
    client = connect(settings)
    experiment = client.get_experiment_by_name(use_case.name)
    for kind in ("training", "candidate"):
        runs = client.search_runs([experiment.experiment_id], f"tags.`millrace.kind` = '{kind}'")
        assert [run.info.status for run in runs] == ["FINISHED"]
    assert runs[0].info.run_id == model.run_id
    assert len(runs[0].inputs.dataset_inputs) == 1
    assert {path.name for path in settings.packages.iterdir()} == {model.digest}
    steps = [point.step for point in client.get_metric_history(model.run_id, "train_loss")]
    assert steps == sorted(set(steps))
    assert not list((settings.var / "training").iterdir())
    undisturbed = Settings.load(
        {
            "MILLRACE_ROOT": str(settings.root),
            "MILLRACE_VAR": str(tmp_path_factory.mktemp("undisturbed")),
            "MILLRACE_DAGS": str(settings.dags),
            "MILLRACE_LAKE": settings.lake,
        }
    )
    (undisturbed.var / "mlflow").mkdir()
    lay_mlflow(undisturbed)
    assert train(undisturbed, ref).digest == model.digest
