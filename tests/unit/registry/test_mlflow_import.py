"""Models that MLflow saved are read from their native files; a pickle is never opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
import skops.io
import xgboost
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.package.onnx_models import linear

from millrace.errors import ModelImportError
from millrace.package.description import describe
from millrace.registry.mlflow_import import fetch_model, is_mlflow, read_folder
from millrace.settings import Settings

FRAME = pd.DataFrame({"size": np.linspace(-1, 1, 40), "kind": ["a", "b"] * 20})
LABEL = (FRAME["size"] > 0).astype(int)


def record(folder: Path, flavors: dict[str, Any], **more: Any) -> Path:
    """A record as MLflow writes it, with a file of each flavor."""
    import yaml

    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, **more}), encoding="utf-8")
    for flavor in flavors.values():
        name = flavor.get("data") or flavor.get("pickled_model")
        if name:
            (folder / name).write_bytes(b"content")
    return folder


def test_an_onnx_model_and_its_columns_are_found(tmp_path: Path) -> None:
    content = linear([[0.1], [0.2]], [0, 0], columns=["size"])
    model = onnx.load_model_from_string(content)
    folder = tmp_path / "model"
    signature = infer_signature(FRAME, np.zeros((40, 2)))
    mlflow.onnx.save_model(model, str(folder), signature=signature, pip_requirements=[], save_as_external_data=False)
    assert is_mlflow(str(folder))
    found = read_folder(folder)
    assert (found.format, found.file.name) == ("onnx", "model.onnx")
    assert found.inputs == {"size": "number", "kind": "text"}
    assert describe(found.format, found.file.read_bytes()).names == []


def test_a_wrapped_booster_predicts_with_its_best_rounds_only(tmp_path: Path) -> None:
    x = FRAME[["size"]].to_numpy()
    noise = np.random.default_rng(3).integers(0, 2, len(x))
    model = xgboost.XGBClassifier(n_estimators=30, early_stopping_rounds=2, n_jobs=1)
    model.fit(x, LABEL, eval_set=[(x, noise)], verbose=False)
    assert model.best_iteration < 29
    mlflow.xgboost.save_model(model, str(tmp_path / "model"), pip_requirements=[])
    found = read_folder(tmp_path / "model")
    assert (found.format, found.wrapped) == ("xgboost", True)
    described = describe(found.format, found.file.read_bytes(), wrapped=found.wrapped)
    assert described.facts["rounds"] == model.best_iteration + 1
    booster = xgboost.Booster()
    booster.load_model(bytearray(described.content))
    assert np.array_equal(booster.inplace_predict(x), model.predict_proba(x)[:, 1])


def test_scikit_learn_is_read_as_skops_and_refused_as_a_pickle(tmp_path: Path) -> None:
    model = LogisticRegression().fit(FRAME[["size"]], LABEL)
    mlflow.sklearn.save_model(model, str(tmp_path / "safe"), serialization_format="skops", pip_requirements=[])
    found = read_folder(tmp_path / "safe")
    assert found.format == "skops"
    assert skops.io.load(found.file).coef_.shape == (1, 1)
    folder = record(
        tmp_path / "pickled", {"sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}}
    )
    with pytest.raises(ModelImportError, match="a pickle, which can run anything") as raised:
        read_folder(folder)
    assert "skops" in raised.value.remedy


@pytest.mark.parametrize(
    ("flavors", "more", "said"),
    [
        ({"python_function": {"loader_module": "x"}}, {}, "without running the model's own code"),
        ({"lightgbm": {"data": "model.pkl"}}, {}, "pickle"),
        ({"onnx": {"data": "model.onnx"}}, {"signature": {"inputs": "{"}}, "cannot be read"),
        (
            {"onnx": {"data": "model.onnx"}},
            {"signature": {"inputs": '[{"type": "datetime", "name": "at"}]'}},
            "is a datetime",
        ),
        ({"onnx": {}}, {}, "names no file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, flavors: dict[str, Any], more: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelImportError, match=said):
        read_folder(record(tmp_path / "model", flavors, **more))


def test_a_file_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.onnx").write_bytes(b"x")
    folder = record(tmp_path / "model", {})
    (folder / "MLmodel").write_text("flavors: {onnx: {data: ../secret.onnx}}", encoding="utf-8")
    with pytest.raises(ModelImportError, match="names no file of the folder"):
        read_folder(folder)
    (folder / "MLmodel").write_text("flavors: [", encoding="utf-8")
    with pytest.raises(ModelImportError, match="record of the model cannot be read"):
        read_folder(folder)


def test_a_model_is_fetched_from_the_tracking_server_by_its_address(tmp_path: Path, settings: Settings) -> None:
    from millrace.registry.mlflow_client import connect

    lay_mlflow(settings)
    client = connect(settings)
    run = client.create_run(client.create_experiment("elsewhere", artifact_location=(tmp_path / "a").as_uri()))
    record(tmp_path / "model", {"onnx": {"data": "model.onnx"}})
    client.log_artifacts(run.info.run_id, str(tmp_path / "model"), "model")
    (tmp_path / "into").mkdir()
    found = fetch_model(f"runs:/{run.info.run_id}/model", into=tmp_path / "into", settings=settings)
    assert (found.format, found.file.read_bytes()) == ("onnx", b"content")
    for address in ("models:/nobody/1", "runs:/0123/model", "models:/nobody@champion"):
        with pytest.raises(ModelImportError, match="MLflow has no model"):
            fetch_model(address, into=tmp_path / "into", settings=settings)


def test_versions_aliases_and_logged_models_are_asked_of_the_installations_server_alone(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millrace.registry.mlflow_client import connect

    lay_mlflow(settings)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    client = connect(settings)
    experiment = client.create_experiment("elsewhere", artifact_location=(tmp_path / "a").as_uri())
    run_id = client.create_run(experiment).info.run_id
    model = client.create_logged_model(experiment, name="model", source_run_id=run_id)
    client.log_model_artifacts(model.model_id, str(record(tmp_path / "model", {"onnx": {"data": "model.onnx"}})))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("theirs")
    client.create_model_version("theirs", model.artifact_location, run_id=run_id, model_id=model.model_id)
    client.set_registered_model_alias("theirs", "best", 1)
    for place, address in enumerate(
        (f"models:/{model.model_id}", f"runs:/{run_id}/model", "models:/theirs/1", "models:/theirs@best")
    ):
        into = tmp_path / f"into{place}"
        into.mkdir()
        assert fetch_model(address, into=into, settings=settings).file.read_bytes() == b"content"
    assert not list(tmp_path.glob("mlflow.db*"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flavors: {onnx: 3}", "flavor onnx is no mapping"),
        ("flavors: [onnx]", "flavors is no mapping"),
        ("flavors: {1: {data: model.onnx}}", "none of the flavors 1 can be read"),
        ("- flavors", "the whole is no mapping"),
        ("flavors: {onnx: {data: model.onnx}}\nsignature: text", "signature is no mapping"),
        ("flavors: {onnx: {data: model.onnx}}\nutc_time_created: 2013-13-45", "2013-13-45"),
        (
            "flavors: {onnx: {data: model.onnx}}\n"
            'signature: {inputs: \'[{"type": "long", "name": ""}, {"type": "long", "name": "a"}]\'}',
            "has no name",
        ),
        ("flavors: {onnx: {data: model.onnx}}\nsignature: {inputs: '[3]'}", "cannot be read"),
    ],
)
def test_a_record_of_another_shape_is_named(tmp_path: Path, text: str, said: str) -> None:
    folder = record(tmp_path / "model", {"onnx": {"data": "model.onnx"}})
    (folder / "MLmodel").write_text(text, encoding="utf-8")
    with pytest.raises(ModelImportError, match=said):
        read_folder(folder)


def test_columns_without_names_name_no_inputs(tmp_path: Path) -> None:
    signature = {"inputs": '[{"type": "double"}, {"type": "double"}]'}
    assert read_folder(record(tmp_path / "m", {"onnx": {"data": "model.onnx"}}, signature=signature)).inputs == {}
