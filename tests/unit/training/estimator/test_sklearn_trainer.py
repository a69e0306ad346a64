from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.errors import PackageError, TrainingError
from millrace.package import Encoder, Package
from millrace.package.estimator import find_estimator, list_estimators
from millrace.package.predictor import load_model
from millrace.training import LooseRun, train_package
from millrace.training.candidate import prepare_training
from millrace.training.estimator.sklearn_file import write_model

PARTITIONS = ["2020-01", "2020-02"]
_SMALL: dict[str, dict[str, Any]] = {
    "ensemble.": {"n_estimators": 5},
    "ensemble.Hist": {"max_iter": 5},
    "neural_network.": {"max_iter": 10},
}


def settings_of(path: str) -> dict[str, Any]:
    fitting = [stem for stem in _SMALL if path.startswith(stem)]
    return _SMALL[max(fitting, key=len)] if fitting else {}


def train(path: str, store: Path, rows: pa.Table, problem: str, **params: Any) -> Package:
    own = {"estimator": path, "settings": settings_of(path), **params}
    use_case = make_use_case(problem, mine={"trainer": "sklearn", "params": own})
    return train_package(make_job(use_case, "mine", holdout="2020-04"), rows, store=store).package


def rows_of(problem: str, *, positive: bool = False) -> pa.Table:
    rows = training_rows(make_use_case(problem, mine={"trainer": "baseline"}), PARTITIONS, 150)
    if not positive:
        return rows
    label = np.exp(rows.column("label").to_numpy() / 100)
    return rows.set_column(rows.column_names.index("label"), "label", pa.array(label))


@pytest.mark.parametrize("path", list_estimators())
def test_every_estimator_of_the_list_trains_seals_the_same_bytes_twice_and_is_read(path: str, tmp_path: Path) -> None:
    for problem in ("binary", "multiclass") if find_estimator(path).classifies else ("regression",):
        rows = rows_of(problem, positive=path.endswith(("GammaRegressor", "PoissonRegressor")))
        package = train(path, tmp_path, rows, problem)
        assert package.probe() <= 1e-9
        assert package.digest == train(path, tmp_path / "again", rows, problem).digest


def test_categories_beyond_the_greatest_number_are_one_and_unseen_ones_are_none(tmp_path: Path) -> None:
    rows = rows_of("binary")
    many = pa.array([f"kind {i % 290}" for i in range(rows.num_rows)], pa.string())
    rows = rows.set_column(rows.column_names.index("kind"), "kind", many)
    for path in ("ensemble.HistGradientBoostingClassifier", "linear_model.LogisticRegression"):
        package = train(path, tmp_path, rows, "binary", max_categories=20)
        columns = {name: values[:4] for name, values in package.golden.columns.items()}
        found = [package.predictor().predict({**columns, "kind": [kind] * 4}) for kind in ("sofa", "bed")]
        assert found[0].tobytes() == found[1].tobytes()
        assert np.isfinite(found[0]).all()


def test_threads_beyond_two_give_the_same_bytes_twice(tmp_path: Path) -> None:
    rows = rows_of("multiclass")
    for path in ("ensemble.HistGradientBoostingClassifier", "ensemble.RandomForestClassifier"):
        digests = {train(path, tmp_path / str(i), rows, "multiclass", threads=4).digest for i in range(3)}
        assert len(digests) == 1


def test_a_file_holds_no_address_and_no_time(tmp_path: Path) -> None:
    package = train("tree.DecisionTreeRegressor", tmp_path, rows_of("regression"), "regression")
    with zipfile.ZipFile(io.BytesIO(package.content["model.skops"])) as file:
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        schema = json.loads(file.read("schema.json"))
    assert max(found_ids(schema)) < 1000


def found_ids(node: Any) -> list[int]:
    if isinstance(node, list):
        return [number for item in node for number in found_ids(item)]
    if not isinstance(node, dict):
        return []
    own = [node["__id__"]] if "__id__" in node else []
    return own + [number for item in node.values() for number in found_ids(item)]


class Evil:
    """A type that no listed estimator has."""

    def __init__(self) -> None:
        self.command = "x"


@pytest.mark.parametrize("packed", [write_model, skops.io.dumps])
def test_a_type_that_is_not_listed_is_never_made(packed: Any) -> None:
    encoder = Encoder.learn({"a": [1.0]}, {"a": "number"}, scaled=False)
    with pytest.raises(PackageError, match="types that are not trusted"):
        load_model("sklearn-skops", packed(Evil()), encoder=encoder, problem="binary", threads=1)


def fitted(last: Any, *, columns: Any = None, **more: Any) -> bytes:
    """A pipeline of the form that is sealed, around another estimator."""
    columns = columns or ColumnTransformer([("numbers", "passthrough", [0])])
    pipeline = Pipeline([("columns", columns), ("estimator", last), *more.items()])
    rows, target = np.arange(20.0).reshape(-1, 1), np.arange(20) % 2
    return skops.io.dumps(pipeline.fit(rows, target))


def read(content: bytes) -> None:
    encoder = Encoder.learn({"a": [1.0]}, {"a": "number"}, scaled=False)
    load_model("sklearn-skops", content, encoder=encoder, problem="binary", threads=1)


def test_a_pipeline_of_listed_classes_is_read() -> None:
    read(fitted(LogisticRegression()))
    read(fitted(GradientBoostingClassifier(n_estimators=2)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: fitted(SVC()), r"'estimator' is sklearn\.svm\._classes\.SVC, which is not on the list"),
        (lambda: fitted(LogisticRegression(), columns=StandardScaler()), "'columns' is .*StandardScaler"),
        (lambda: fitted(TransformedTargetRegressor(SVC(), transformer=StandardScaler())), "its estimator is .*SVC"),
        (
            lambda: fitted(LogisticRegression(), columns=ColumnTransformer([("n", PolynomialFeatures(), [0])])),
            "it holds .*PolynomialFeatures",
        ),
        (lambda: fitted(StandardScaler(), more=LogisticRegression()), "this is something else"),
        (lambda: skops.io.dumps(SVC()), "this is something else"),
        (lambda: fitted(GradientBoostingClassifier(n_estimators=2, init=SVC(probability=True))), "it holds .*SVC"),
    ],
)
def test_an_estimator_that_is_not_on_the_list_is_not_read_though_skops_trusts_it(
    content: Callable[[], bytes], says: str
) -> None:
    with pytest.raises(PackageError, match=says):
        read(content())


def test_labels_an_estimator_cannot_learn_are_told_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"GammaRegressor refuses: .*out of the valid range"):
        train("linear_model.GammaRegressor", tmp_path, rows_of("regression"), "regression")
    with pytest.raises(TrainingError, match=r"refuses: .*'C'"):
        settings = {"C": -1}
        train("linear_model.LogisticRegression", tmp_path, rows_of("binary"), "binary", settings=settings)
    assert not list(tmp_path.iterdir())


def test_rows_larger_than_memory_are_refused(tmp_path: Path) -> None:
    own = {"trainer": "sklearn", "params": {"estimator": "linear_model.Ridge"}}
    job = make_job(make_use_case("regression", mine=own), "mine", holdout="2020-04")
    prepared = prepare_training(job, rows_of("regression"), folder=tmp_path)
    with pytest.raises(TrainingError, match="are more than"):
        data = dataclasses.replace(prepared.data, block_rows=100)
        prepared.trainer.fit(data, seed=7, run=LooseRun(folder=tmp_path))
