from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.training.synthetic import QUICK, make_job, make_use_case, training_rows

from millrace.errors import PackageError
from millrace.package import Encoder
from millrace.package.predictor import load_model
from millrace.training import train_package

PARTITIONS = ["2020-01", "2020-02"]
_BARE = """
import sys
for name in ("pandas", "sklearn", "mlflow", "feast", "torch", "pyarrow", "duckdb", "deltalake", "sqlalchemy"):
    sys.modules[name] = None
from millrace.package import Package
for folder in sys.argv[1:]:
    package = Package.open(folder)
    predictor = package.predictor()
    print(package.manifest.trainer, package.probe(predictor))
    for i in range(len(package.golden)):
        found = predictor.predict({name: [value] for name, value in package.golden.row(i).items()})
        assert abs(found[0] - package.golden.predictions[i]).max() < 1e-9
    predictor.explain(package.golden.columns)
"""

_TRAIN = """
import sys
from pathlib import Path
from tests.unit.package.test_predictor import seal_all
for _, folder in seal_all(Path(sys.argv[1])):
    print(folder.name)
"""
_PROBLEMS = ("binary", "multiclass", "regression")
_SKLEARN = {"binary": "Classifier", "multiclass": "Classifier", "regression": "Regressor"}


def bare(script: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def seal_all(store: Path, *, sklearn: bool = True) -> list[tuple[str, Path]]:
    found = []
    for problem in _PROBLEMS:
        boosted = f"ensemble.HistGradientBoosting{_SKLEARN[problem]}"
        params = {**QUICK, **({"sklearn": {"estimator": boosted, "settings": {"max_iter": 5}}} if sklearn else {})}
        use_case = make_use_case(problem, **{name: {"trainer": name, "params": own} for name, own in params.items()})
        rows = training_rows(use_case, PARTITIONS, 150)
        for name in params:
            trained = train_package(make_job(use_case, name, holdout="2020-04"), rows, store=store)
            found.append((name, trained.package.folder))
    return found


def test_packages_predict_in_a_process_without_pandas_sklearn_mlflow_feast_torch_or_arrow(tmp_path: Path) -> None:
    sealed = seal_all(tmp_path, sklearn=False)
    lines = [line.split() for line in bare(_BARE, *(str(folder) for _, folder in sealed))]
    assert [name for name, _ in lines] == [name for name, _ in sealed]
    assert all(float(gap) <= 1e-9 for _, gap in lines)


def test_another_process_seals_the_same_bytes(tmp_path: Path) -> None:
    here = [folder.name for _, folder in seal_all(tmp_path / "here")]
    assert bare(_TRAIN, str(tmp_path / "there")) == here


@pytest.mark.parametrize(
    "model_format", ["xgboost-ubj", "lightgbm-text", "network-safetensors", "constant-json", "sklearn-skops"]
)
def test_bytes_that_are_no_model_are_refused(model_format: str) -> None:
    encoder = Encoder.learn({"a": [1.0]}, {"a": "number"}, scaled=True)
    with pytest.raises(PackageError, match="does not read"):
        load_model(model_format, b"not a model", encoder=encoder, problem="binary", threads=1)


def test_a_format_without_a_reader_is_refused() -> None:
    with pytest.raises(PackageError, match="no reader") as raised:
        load_model("pickle", b"", encoder=Encoder([]), problem="binary", threads=1)
    assert "xgboost-ubj" in raised.value.remedy
