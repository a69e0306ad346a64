"""MLflow: a run a candidate with native files and pinned requirements, a version and aliases for what passes."""

from __future__ import annotations

import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from tests.benchmarks.bare.evaluation import Outcome
from tests.benchmarks.bare.models import Model
from tests.benchmarks.bare.spec import Plan

_LIBRARIES = {"xgboost": "xgboost-cpu", "lightgbm": "lightgbm", "torch": "torch", "baseline": "numpy"}


class Tracking:
    """Experiment and registered model of one use case on a SQLite store."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.name = plan, plan.use_case["name"]
        uri = f"sqlite:///{plan.out / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        artifacts = (plan.out / "mlartifacts").as_uri()
        self.experiment = self.client.create_experiment(self.name, artifact_location=artifacts)
        self.client.create_registered_model(self.name)
        self.runs: dict[int, Any] = {}

    def log(self, model: Model, params: dict[str, Any], values: dict[str, float], holdout: str) -> None:
        """One run with one batch of values."""
        run = self.client.create_run(self.experiment, run_name=f"{model.candidate} {holdout}")
        now = int(time.time() * 1000)
        self.client.log_batch(
            run.info.run_id,
            metrics=[Metric(key, value, now, 0) for key, value in values.items()],
            params=[Param(key, str(value)) for key, value in params.items()],
            tags=[RunTag("holdout", holdout), RunTag("trainer", model.trainer)],
        )
        self.client.log_artifacts(run.info.run_id, str(self.save(model, run.info.run_id)), "model")
        self.client.set_terminated(run.info.run_id)
        self.runs[id(model)] = run.info

    def save(self, model: Model, folder: str) -> Path:
        """Native model file, vocabulary and requirements."""
        target = self.plan.out / "packages" / folder
        target.mkdir(parents=True)
        (target / model.file).write_bytes(model.content)
        (target / "encoder.json").write_text(json.dumps(model.encoder.vocabularies))
        library = _LIBRARIES[model.trainer]
        (target / "requirements.txt").write_text(f"{library}=={importlib.metadata.version(library)}\n")
        return target

    def register(self, outcome: Outcome) -> str:
        """A version for the challenger, evidence beside it, alias `champion` on it."""
        run = self.runs[id(outcome.challenger.model)]
        self.client.log_dict(run.run_id, outcome.evidence, "evidence.json")
        version = self.client.create_model_version(
            self.name, f"{run.artifact_uri}/model", run.run_id, tags={"candidate": outcome.challenger.model.candidate}
        )
        self.client.set_registered_model_alias(self.name, "champion", version.version)
        return str(version.version)
