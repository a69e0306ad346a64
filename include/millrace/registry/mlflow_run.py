"""Runs of a use case's experiment in MLflow: one a training run, and under it one a candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.governance.state import exclusive
from millrace.registry.mlflow_client import artifact_root, is_fault, one_attempt, quote
from millrace.settings import Settings

KIND_TAG = "millrace.kind"
TRAINING_TAG = "millrace.training_run"
_PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """The experiment of a use case.

    Attributes:
        client: MLflow's client.
        key: MLflow's id of it.
        settings: the installation.
    """

    client: Any
    key: str
    settings: Settings

    def open_training_run(self, key: str, *, name: str) -> str:
        """Id of the run that the candidates of one training run lie under; it is made by whoever comes first.

        Args:
            key: names the training run, such as its DAG run.
            name: for people.
        """
        return str(self.open_run({TRAINING_TAG: key, KIND_TAG: "training"}, {}, name=name).info.run_id)

    def open_run(
        self,
        tags: Mapping[str, str],
        beside: Mapping[str, str],
        *,
        name: str,
        parent: str = "",
        started: int = 0,
    ) -> Any:
        """The run with these tags, or a new one; however many ask at once, it is one.

        Args:
            tags: what it is found by.
            beside: further tags of a new run.
            name: name of a new run.
            parent: run that a new one lies under.
            started: milliseconds since the epoch; 0 for now.
        """
        run = search_run(self.client, self.key, tags)
        if run is not None:
            return run
        with exclusive(self.settings, f"mlflow.run.{sorted(tags.items())}"):
            run = search_run(self.client, self.key, tags)
            if run is None:
                above = {_PARENT_TAG: parent} if parent else {}
                with one_attempt():
                    run = self.client.create_run(
                        self.key, run_name=name, tags={**tags, **beside, **above}, start_time=started or None
                    )
        return run


def open_experiment(client: Any, name: str, settings: Settings) -> Experiment:
    """The experiment of that name; it is made where it is missing."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        with exclusive(settings, f"mlflow.experiment.{name}"):
            try:
                root = artifact_root(settings)
                made = client.create_experiment(name, artifact_location=root and f"{root}/{name}")
                return Experiment(client=client, key=str(made), settings=settings)
            except MlflowException as error:
                if not is_fault(error, "RESOURCE_ALREADY_EXISTS"):
                    raise
                found = client.get_experiment_by_name(name)
    return Experiment(client=client, key=str(found.experiment_id), settings=settings)


def search_run(client: Any, experiment: str, tags: Mapping[str, str]) -> Any:
    """The run with these tags: a finished one before one that was left, the oldest first."""
    wanted = " and ".join(f"tags.`{name}` = {quote(value)}" for name, value in tags.items())
    runs = client.search_runs([experiment], wanted, order_by=["attributes.start_time ASC"], max_results=50)
    return next(iter(sorted(runs, key=lambda run: run.info.status != "FINISHED")), None)
