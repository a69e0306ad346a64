"""Models from elsewhere become packages that predict as they did where they were trained."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
import skops.io
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from tests.unit.package.onnx_models import linear, softmax
from tests.unit.step.foreign import FEATURES, KINDS, SKIES, Elsewhere, category, number, signature

from millrace.errors import ModelImportError, SpecError
from millrace.settings import Settings

WEIGHTS = [[-0.4, 0.1, 0.3, 0.02, -0.1, 0.0], [0.8, -0.1, -0.2, -0.05, 0.2, 0.0]]
THREE = [*WEIGHTS, [0.1, 0.2, 0.05, 0.01, 0.3, 0.0]]
BARE = [{key: value for key, value in item.items() if key != "missing"} for item in signature()["inputs"]]
"""Missing values reach the model as NaN."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Elsewhere]:
    @functools.cache
    def of(problem: str) -> Elsewhere:
        environ = {
            "MILLRACE_VAR": str(tmp_path_factory.mktemp("var")),
            "MILLRACE_ROOT": str(tmp_path_factory.mktemp("root")),
        }
        return Elsewhere(Settings.load(environ), problem)

    return of


@pytest.fixture
def there(places: Callable[[str], Elsewhere]) -> Elsewhere:
    return places("binary")


def write(folder: Path, content: bytes, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def train_xgboost(there: Elsewhere, objective: str = "binary:logistic") -> xgboost.Booster:
    rows = xgboost.DMatrix(there.coded(), there.label)
    return xgboost.train({"objective": objective, "max_depth": 3, "nthread": 1, "verbosity": 0}, rows, 10)


def test_a_booster_of_xgboost_predicts_as_it_did_and_tells_its_contributions(there: Elsewhere, tmp_path: Path) -> None:
    booster = train_xgboost(there)
    booster.save_model(tmp_path / "model.ubj")
    done = there.take(tmp_path / "model.ubj", signature(inputs=BARE, trained_through="2020-02"))
    assert np.array_equal(there.predict(done), booster.predict(xgboost.DMatrix(there.coded())).astype(float))
    package = there.package(done)
    assert (done.model.trainer, done.model.trained_through, package.probe()) == ("imported", "2020-02", 0.0)
    assert (package.manifest.training.rows, package.manifest.training.partitions) == (0, [])
    contributions = package.predictor().explain(there.columns)
    own = booster.predict(xgboost.DMatrix(there.coded()), pred_contribs=True)[:, :-1]
    assert contributions is not None
    assert np.allclose(contributions, own, atol=1e-6)
    again = there.take(tmp_path / "model.ubj", signature(inputs=BARE, trained_through="2020-02"))
    assert again.model == done.model


def test_a_booster_of_lightgbm_predicts_as_it_did(there: Elsewhere, tmp_path: Path) -> None:
    frame = there.coded()
    data = lightgbm.Dataset(frame, there.label)
    booster = lightgbm.train({"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1}, data, 10)
    booster.save_model(tmp_path / "model.txt")
    done = there.take(tmp_path / "model.txt", signature(inputs=BARE))
    assert np.allclose(there.predict(done), booster.predict(frame), atol=1e-12)


def test_a_pipeline_of_scikit_learn_predicts_as_it_did_on_texts_and_holes(there: Elsewhere, tmp_path: Path) -> None:
    frame = there.frame().fillna({"kind": "?"})
    model = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), ["size", "age", "warmth"]),
            (OneHotEncoder(handle_unknown="ignore"), ["kind", "sky"]),
        ),
        LogisticRegression(),
    ).fit(frame, there.label)
    skops.io.dump(model, tmp_path / "model.skops")
    inputs = [
        number("size"),
        number("age"),
        category("kind", text=True, missing="?"),
        number("warmth"),
        category("sky", text=True),
        number("nothing"),
    ]
    done = there.take(tmp_path / "model.skops", signature(inputs=inputs))
    assert np.allclose(there.predict(done), model.predict_proba(frame)[:, 1], atol=1e-6)
    assert any("kind, sky" in note for note in done.notes)


def test_a_regression_of_scikit_learn_predicts_values(places: Callable[[str], Elsewhere], tmp_path: Path) -> None:
    there = places("regression")
    rows = there.coded().drop(columns="nothing").to_numpy()
    model = HistGradientBoostingRegressor(max_iter=10).fit(rows, there.label)
    skops.io.dump(model, tmp_path / "model.skops")
    done = there.take(tmp_path / "model.skops", signature("regression", inputs=BARE[:-1], ignores=["nothing"]))
    assert np.allclose(there.predict(done), model.predict(rows), atol=1e-4)
    assert any("does not read nothing" in note for note in done.notes)


@pytest.mark.parametrize("mapped", [False, True])
def test_an_onnx_classifier_answers_with_the_probability_of_one(there: Elsewhere, tmp_path: Path, mapped: bool) -> None:
    path = write(tmp_path, linear(WEIGHTS, [0.1, -0.2], mapped=mapped))
    done = there.take(path, signature())
    wanted = softmax(there.coded(filled=True), WEIGHTS, [0.1, -0.2])[:, 1]
    assert np.allclose(there.predict(done), wanted, atol=1e-6)
    one = {name: values[:1] for name, values in there.columns.items()}
    assert np.allclose(there.package(done).predictor().predict(one), wanted[:1], atol=1e-6)


def test_named_onnx_inputs_are_found_by_name_and_texts_stay_texts(there: Elsewhere, tmp_path: Path) -> None:
    codes = {"kind": {text: float(place) for place, text in enumerate(KINDS)}, "sky": {"rain": 2.0, "clear": 5.0}}
    order = ["sky", "nothing", "age", "size", "kind", "warmth"]
    path = write(tmp_path, linear(WEIGHTS, [0, 0], columns=order, texts=codes, whole=["nothing"]))
    inputs = [
        category(item["name"], text=True, missing="?") if item["type"] == "category" else item
        for item in signature()["inputs"]
    ]
    done = there.take(path, signature(inputs=inputs))
    coded = there.coded(filled=True)
    coded["sky"] = [codes["sky"].get(text or "", 0.0) for text in there.columns["sky"]]
    coded["kind"] = [0.0 if text is None else codes["kind"][text] for text in there.columns["kind"]]
    assert np.allclose(there.predict(done), softmax(coded[order], WEIGHTS, [0, 0])[:, 1], atol=1e-6)


def test_classes_are_brought_into_the_order_of_the_use_case(places: Callable[[str], Elsewhere], tmp_path: Path) -> None:
    there = places("multiclass")
    path = write(tmp_path, linear(THREE, [0.1, 0.2, 0.3], classes=["middle", "high", "low"], mapped=True))
    done = there.take(path, signature("multiclass"))
    wanted = softmax(there.coded(filled=True), THREE, [0.1, 0.2, 0.3])
    assert np.allclose(there.predict(done), wanted[:, [2, 0, 1]], atol=1e-6)
    numbered = write(tmp_path, linear(THREE, [0.1, 0.2, 0.3], classes=[0, 1, 2]), "numbered.onnx")
    with pytest.raises(ModelImportError, match="0, 1, 2"):
        there.take(numbered, signature("multiclass"))
    named = there.take(numbered, signature("multiclass", output={"classes": ["middle", "high", "low"]}))
    assert np.allclose(there.predict(named), wanted[:, [2, 0, 1]], atol=1e-6)


def test_an_onnx_regression_and_margins_are_read(places: Callable[[str], Elsewhere], tmp_path: Path) -> None:
    there = places("regression")
    path = write(tmp_path, linear(WEIGHTS[:1], [3.0], classes=None))
    wanted = there.coded(filled=True).to_numpy(np.float64) @ np.array(WEIGHTS[0]) + 3.0
    assert np.allclose(there.predict(there.take(path, signature("regression"))), wanted, atol=1e-4)
    binary = places("binary")
    with pytest.raises(ModelImportError, match="no probabilities between 0 and 1"):
        binary.take(path, signature())
    linked = binary.predict(binary.take(path, signature(output={"link": "logit"})))
    assert np.allclose(linked, 1 / (1 + np.exp(-wanted)), atol=1e-5)


def test_the_online_service_needs_neither_onnx_nor_pandas_to_load_an_onnx_model(
    there: Elsewhere, tmp_path: Path
) -> None:
    done = there.take(write(tmp_path, linear(WEIGHTS, [0, 0])), signature())
    folder = there.settings.packages / done.model.digest
    code = (
        "import sys; from pathlib import Path; from millrace.package import Package;"
        f"package = Package.open(Path({str(folder)!r})); assert package.probe() < 1e-9;"
        "heavy = {'onnx', 'pandas', 'sklearn', 'mlflow', 'feast', 'torch', 'pyarrow', 'duckdb', 'sqlalchemy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done_ = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done_.stdout.strip() == "[]"


def test_examples_prove_codes_and_order(there: Elsewhere, tmp_path: Path) -> None:
    booster = train_xgboost(there)
    booster.feature_names = None
    booster.save_model(tmp_path / "model.json")
    rows = [dict(zip(FEATURES, values, strict=True)) for values in zip(*there.columns.values(), strict=True)][:50]
    coded = xgboost.DMatrix(there.coded().to_numpy()[:50])
    examples = {"rows": rows, "predictions": booster.predict(coded).tolist()}
    right = BARE
    done = there.take(tmp_path / "model.json", signature(inputs=right, examples=examples))
    assert done.gap is not None
    assert done.gap < 1e-6
    swapped = [*right[:2], {**right[2], "categories": sorted(KINDS)}, *right[3:]]
    with pytest.raises(ModelImportError, match="of the examples is predicted"):
        there.take(tmp_path / "model.json", signature(inputs=swapped, examples=examples))
    moved = [right[1], right[0], *right[2:]]
    with pytest.raises(ModelImportError, match="of the examples is predicted"):
        there.take(tmp_path / "model.json", signature(inputs=moved, examples=examples))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputs": signature()["inputs"][:-1]}, "neither inputs nor in ignores: nothing"),
        ({"inputs": signature()["inputs"][:-1], "ignores": ["nothing"]}, "5 inputs are declared, the model takes 6"),
        ({"inputs": [*signature()["inputs"][:-1], number("nothng")]}, "did you mean 'nothing'"),
        ({"inputs": [*signature()["inputs"][:-1], category("nothing", categories=["a"])]}, "is declared a category"),
        ({"inputs": [number("kind"), *signature()["inputs"][:2], *signature()["inputs"][3:]]}, "'kind' is a category"),
        ({"problem": "regression"}, "the model answers a regression problem"),
        ({"output": {"name": "nobody"}}, "no output 'nobody'"),
        ({"output": {"name": "label"}}, "is none that is read"),
        ({"inputs": []}, "the model file names none"),
    ],
)
def test_what_does_not_fit_is_named(there: Elsewhere, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelImportError, match=said) as raised:
        there.take(write(tmp_path, linear(WEIGHTS, [0, 0])), signature(**change))
    assert raised.value.remedy


def test_the_models_own_names_are_believed_before_the_signature(there: Elsewhere, tmp_path: Path) -> None:
    train_xgboost(there).save_model(tmp_path / "model.ubj")
    right = signature()["inputs"]
    with pytest.raises(ModelImportError, match="input 0 is 'age' in the signature and 'size' in the model"):
        there.take(tmp_path / "model.ubj", signature(inputs=[right[1], right[0], *right[2:]]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputz": 1}, "did you mean 'inputs'"),
        ({"name": "xgboost"}, "trains itself"),
        ({"trained_through": "2020-13"}, "not the key of a month"),
        ({"inputs": [category("kind")]}, "categories is missing"),
        ({"inputs": [category("kind", categories=["a", "a"])]}, "stands twice"),
        ({"inputs": [number("size"), number("size")]}, "stands twice"),
        ({"inputs": [category("kind", categories=["a"], missing="b")]}, "missing must be a number"),
        ({"inputs": [category("kind", categories={"a": 2.0**25})]}, "float32"),
        ({"inputs": [{"name": "size"}]}, "type"),
    ],
)
def test_a_wrong_signature_is_an_error_of_the_spec(
    there: Elsewhere, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        there.take(write(tmp_path, linear(WEIGHTS, [0, 0])), signature(**change))


def test_missing_values_that_a_model_does_not_bear_are_named(there: Elsewhere, tmp_path: Path) -> None:
    bare = [number("size"), *signature()["inputs"][1:]]
    with pytest.raises(ModelImportError, match="a missing size is enough") as raised:
        there.take(write(tmp_path, linear(WEIGHTS, [0, 0])), signature(inputs=bare))
    assert "missing" in raised.value.remedy
    columns = linear(WEIGHTS, [0, 0], columns=FEATURES, whole=["size"])
    with pytest.raises(ModelImportError, match="'size' is a whole number"):
        there.take(write(tmp_path, columns), signature(inputs=bare))


def test_damaged_and_foreign_files_are_refused(there: Elsewhere, tmp_path: Path) -> None:
    whole, before = linear(WEIGHTS, [0, 0]), set(there.settings.packages.glob("*"))
    train_xgboost(there).save_model(tmp_path / "whole.ubj")
    ubj = (tmp_path / "whole.ubj").read_bytes()
    cases = {
        "cut.onnx": (whole[:-40], "cut off|not read"),
        "empty.onnx": (b"", "empty"),
        "text.onnx": (b"hello", "no ONNX"),
        "later.onnx": (linear(WEIGHTS, [0, 0], operator_set=99), "operator sets ai.onnx 99"),
        "one.onnx": (linear(WEIGHTS, [0, 0], fixed_rows=True), "1 rows at a time"),
        "cut.ubj": (ubj[: len(ubj) // 2], "does not read the model"),
        "cut.txt": (b"tree\nversion=v4\n", "cut off"),
        "binary.txt": (b"\xff\xfe\x00", "no text"),
        "cut.skops": (b"PK\x03\x04", "no skops file"),
        "model.pkl": (pickle.dumps({"a": 1}), "pickle"),
        "model.joblib": (b"\x80\x04x", "pickle"),
        "model.h5": (b"x", "does not say of which format"),
    }
    for name, (content, said) in cases.items():
        with pytest.raises(ModelImportError, match=said):
            there.take(write(tmp_path, content, name), signature())
    with pytest.raises(ModelImportError, match="cannot be read"):
        there.take(tmp_path / "nowhere.onnx", signature())
    huge = tmp_path / "huge.onnx"
    with huge.open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(ModelImportError, match="1024 MiB"):
        there.take(huge, signature())
    assert set(there.settings.packages.glob("*")) == before


def test_tensors_in_other_files_are_not_followed(there: Elsewhere, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(linear(WEIGHTS, [0, 0]))
    tensor = onnx.numpy_helper.from_array(np.ones((6, 2), np.float32), "outside")
    onnx.external_data_helper.set_external_data(tensor, location="../../etc/passwd")
    tensor.ClearField("raw_data")
    model.graph.initializer.append(tensor)
    with pytest.raises(ModelImportError, match="etc/passwd"):
        there.take(write(tmp_path, model.SerializeToString()), signature())


def test_what_scikit_learn_may_not_hold_is_refused(there: Elsewhere, tmp_path: Path) -> None:
    texts = make_pipeline(CountVectorizer(input="filename"), LogisticRegression())
    skops.io.dump(texts, tmp_path / "files.skops")
    with pytest.raises(ModelImportError, match="CountVectorizer"):
        there.take(tmp_path / "files.skops", signature())
    labels = LinearSVC().fit(there.coded(filled=True).to_numpy(), there.label)
    skops.io.dump(labels, tmp_path / "labels.skops")
    with pytest.raises(ModelImportError, match="labels and no probabilities"):
        there.take(tmp_path / "labels.skops", signature())
    skops.io.dump(Elsewhere, tmp_path / "foreign.skops")
    with pytest.raises(ModelImportError, match="not trusted"):
        there.take(tmp_path / "foreign.skops", signature())


def test_declared_categories_stand_in_the_package_as_they_were_declared(there: Elsewhere, tmp_path: Path) -> None:
    done = there.take(write(tmp_path, linear(WEIGHTS, [0, 0])), signature())
    encoder = there.package(done).encoder
    found = {column.name: column.vocabulary for column in encoder.columns if column.kind == "category"}
    assert found == {"kind": KINDS, "sky": SKIES}
