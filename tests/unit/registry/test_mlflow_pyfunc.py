"""MLflow's own tools load and use what Millrace logged."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.artifact import ModelRef
from millrace.errors import FeatureError, PackageError
from millrace.registry.mlflow_client import connect
from millrace.registry.mlflow_registry import register_version
from millrace.registry.mlflow_tracking import log_candidate
from millrace.settings import Settings
from millrace.training import train_package

pytestmark = pytest.mark.integration


def test_a_registered_version_is_loaded_by_mlflow_and_predicts_what_the_package_does(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_mlflow(settings)
    use_case = make_use_case("multiclass", own={"trainer": "lightgbm", "params": {"rounds": 5}})
    job = make_job(use_case, "own", holdout="2020-03")
    package = train_package(job, training_rows(use_case, ["2020-01", "2020-02"]), store=settings.packages).package
    model = ModelRef(
        use_case=use_case.name,
        candidate="own",
        trainer="lightgbm",
        digest=package.digest,
        trained_through="2020-02",
        holdout="2020-03",
    )
    log_candidate(use_case, model, {}, {}, package.folder, settings=settings)
    version, run_id = register_version(use_case, model, tags={}, description="d", evidence=[], settings=settings)
    client = connect(settings)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, client.tracking_uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{use_case.name}/{version}")
    frame = pd.DataFrame(package.golden.columns)
    np.testing.assert_array_equal(loaded.predict(frame), np.asarray(package.golden.predictions))
    inputs = {item.name: item.type.name for item in loaded.metadata.signature.inputs}
    assert inputs == {
        item.name: {"number": "double", "category": "string"}[item.kind] for item in package.features.inputs
    }
    assert "lightgbm==" in Path(mlflow.pyfunc.get_model_dependencies(f"runs:/{run_id}/package")).read_text()
    with pytest.raises(FeatureError):
        loaded.predict(frame.drop(columns=[package.features.columns[0]]))

    stored = Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://")) / "package"
    (stored / "encoder.json").write_bytes(b"{}")
    with pytest.raises(PackageError, match="not the file that was sealed"):
        mlflow.pyfunc.load_model(f"runs:/{run_id}/package")
