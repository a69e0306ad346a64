"""A trainer that lives in a package of its own: named in a spec, it goes the way of ours without an edit of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from millrace.errors import PackageError, SpecError, TrainingError
from millrace.package import Encoder
from millrace.package.predictor import load_model
from millrace.training import check_params, train_package
from millrace.training.contract import HOLDOUT, PARTITIONS, TrainerContract
from millrace.training.data.rows import as_rows
from millrace.training.registry import check_candidate
from millrace.training.sample import make_job, make_use_case, training_rows
from millrace.training.tuning.fold import Fold
from millrace.training.tuning.judge import JudgeSetup, prepare_judge

_TRAINER = """
import json
from typing import Annotated

import numpy as np
from pydantic import Field

from millrace.package import Library, ModelFile
from millrace.training import Fit
from millrace.training.params import TrainerParams
from shop_models.reader import inputs


class SquaresParams(TrainerParams):
    penalty: Annotated[float, Field(ge=0)] = 1.0

    @property
    def abilities(self):
        return frozenset({"weights"})


class SquaresTrainer:
    Params = SquaresParams

    def __init__(self, params):
        self.params = params
        self.scaled = True
        self.library = Library(name="shop_models", version="1.0")
        self.model = ModelFile(name="model.json", format="shop_models.reader:squares")

    def fit(self, data, *, seed, run):
        if data.block_rows:
            from millrace.errors import TrainingError

            raise TrainingError("too many rows", where="shop_models", remedy="raise resources.memory")
        rows = inputs(data.matrix, data.encoder)
        target = np.eye(data.classes)[data.target.astype(int)] if data.problem == "multiclass" else data.target
        weight = np.ones(len(rows)) if data.weight is None else data.weight.astype(float)
        weight = weight / weight.mean()
        square = rows.T @ (rows * weight[:, None]) + self.params.penalty * np.eye(rows.shape[1])
        found = np.linalg.solve(square, rows.T @ (target.astype(float).T * weight).T)
        run.report(0, {"train_loss": float(np.mean((rows @ found - target) ** 2))})
        return Fit(content=json.dumps(found.tolist()).encode())


class NoParams:
    def fit(self, data, *, seed, run):
        raise NotImplementedError


class TwoArguments(SquaresTrainer):
    def __init__(self, params, licence):
        super().__init__(params)


class NoText(SquaresTrainer):
    def __init__(self, params):
        super().__init__(params)
        self.model = "model.json"


class ByJson(SquaresTrainer):
    def __init__(self, params):
        super().__init__(params)
        self.model = ModelFile(name="model.json", format="shop_models.trainer:squares")


class Bare(SquaresTrainer):
    def fit(self, data, *, seed, run):
        return super().fit(data, seed=seed, run=run).content


class Failing(SquaresTrainer):
    def fit(self, data, *, seed, run):
        print("not for the reader of messages", flush=True)
        raise KeyError("no such thing")


class Mean(SquaresTrainer):
    def __init__(self, params):
        super().__init__(params)
        self.model = ModelFile(name="model.json", format="shop_models.narrow:mean")

    def fit(self, data, *, seed, run):
        return Fit(content=b"[]")


class NoArray(Mean):
    def __init__(self, params):
        super().__init__(params)
        self.model = ModelFile(name="model.json", format="shop_models.listing:mean")


class Moody(SquaresTrainer):
    class Params(SquaresParams):
        @property
        def abilities(self):
            raise KeyError("mood")


class Incomplete:
    Params = SquaresParams

    def __init__(self, params):
        self.params = params
"""

_READER = """
import json

import numpy as np


def inputs(matrix, encoder):
    codes = [
        np.eye(encoder.columns[i].cardinality)[matrix[:, i].astype(int)] for i in encoder.categories
    ]
    return np.concatenate([np.ones((len(matrix), 1)), encoder.standardise(matrix), *codes], axis=1)


class Squares:
    def __init__(self, weights, encoder, problem):
        self.weights, self.encoder, self.problem = weights, encoder, problem

    def score(self, matrix):
        found = inputs(matrix, self.encoder) @ self.weights
        if self.problem == "regression":
            return found
        found = np.clip(found, 0.001, 0.999)
        return found / found.sum(axis=1, keepdims=True) if self.problem == "multiclass" else found

    def contribute(self, matrix):
        return None


def load(content, *, encoder, problem, threads, classes):
    return Squares(np.array(json.loads(content)), encoder, problem)
"""


_NARROW = """
import numpy as np


class Mean:
    def score(self, matrix):
        return np.full(len(matrix), 0.5)

    def contribute(self, matrix):
        return None


def load(content, *, encoder, problem, threads, classes):
    return Mean()
"""
_ENTRY_POINTS = """
[millrace.readers]
squares = shop_models.reader
mean = shop_models.narrow:load
listing = shop_models.listing
absent = shop_models.nowhere
refuses = shop_models.refuses
broken = shop_models.broken
leaves = shop_models.leaves
nothing = shop_models
json = json
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as an installation would have it."""
    folder = tmp_path_factory.mktemp("site")
    package = folder / "shop_models"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "trainer.py").write_text(_TRAINER)
    (package / "reader.py").write_text(_READER)
    (package / "broken.py").write_text("raise RuntimeError('no licence found')\n")
    (package / "leaves.py").write_text("raise SystemExit(3)\n")
    (package / "refuses.py").write_text("def load(content, **rest):\n    raise SystemExit(4)\n")
    (package / "narrow.py").write_text(_NARROW)
    (package / "listing.py").write_text(_NARROW.replace("np.full(len(matrix), 0.5)", "[0.5] * len(matrix)"))
    about = folder / "shop_models-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-models\nVersion: 1.0\n")
    (about / "top_level.txt").write_text("shop_models\n")
    (about / "entry_points.txt").write_text(_ENTRY_POINTS)
    return folder


@pytest.fixture(autouse=True)
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop_models"]:
        del sys.modules[name]


class TestSquares(TrainerContract):
    trainer = "shop_models.trainer:SquaresTrainer"
    params: ClassVar[dict[str, Any]] = {"penalty": 0.5}
    problems = ("binary", "multiclass", "regression")
    tolerance = 1e-9

    def test_its_package_is_read_where_it_is_installed_and_nowhere_else(self, tmp_path: Path, site: Path) -> None:
        package = self._package("binary", tmp_path)
        assert package.manifest.model.format == "shop_models.reader:squares"
        script = f"from millrace.package import Package; print(Package.open({str(package.folder)!r}).probe())"
        paths = [path for path in sys.path if path and path != str(site)]
        for folders, code in ((paths, 1), ([*paths, str(site)], 0)):
            environ = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
            done = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, env=environ, check=False
            )
            assert done.returncode == code, done.stderr
            assert float(done.stdout) <= 1e-12 if not code else "install the package shop_models" in done.stderr


@pytest.mark.parametrize("trainer", ["xgboost", "other_models.trainer:Theirs", ""])
def test_a_reader_is_followed_only_into_the_package_of_the_trainer(trainer: str) -> None:
    with pytest.raises(PackageError, match=r"'shop_models\.reader:squares' is read by package 'shop_models'"):
        load_model(
            "shop_models.reader:squares", b"[]", encoder=Encoder([]), problem="binary", threads=1, trainer=trainer
        )


def read(model_format: str, trainer: str) -> None:
    load_model(model_format, b"[]", encoder=Encoder([]), problem="binary", threads=1, trainer=trainer)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("shop_models.nowhere:x", "cannot be imported: ModuleNotFoundError"),
        ("shop_models.broken:x", "cannot be imported: RuntimeError: no licence found"),
        ("shop_models.leaves:x", "cannot be imported: SystemExit: 3"),
        ("shop_models.refuses:x", "does not read this shop_models.refuses:x model: 4"),
        ("shop_models:x", "has no function `load`"),
    ],
)
def test_a_reader_that_is_not_there_is_named(name: str, says: str) -> None:
    with pytest.raises(PackageError, match=says) as raised:
        read(name, "shop_models.trainer:X")
    assert raised.value.remedy


@pytest.mark.parametrize("name", ["json", "this", "", "..json", "shop_models..reader", "shop_models.reader."])
@pytest.mark.parametrize("named", ["", "json,this,,shop_models"])
def test_what_is_no_module_of_an_installed_package_is_never_imported(
    name: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_READERS", named)
    with pytest.raises(PackageError, match="names no reader"):
        read(f"{name}:x", f"{name}:Y")
    assert "this" not in sys.modules


def test_a_reader_that_nothing_outside_the_package_vouches_for_is_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stray_models.py").write_text("def load(content, **rest):\n    return content\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PackageError, match=r"nothing here vouches for 'stray_models'") as raised:
        read("stray_models:x", "stray_models:Y")
    assert "entry-point group millrace.readers, or name stray_models in MILLRACE_READERS" in raised.value.remedy
    assert "stray_models" not in sys.modules
    with pytest.raises(PackageError, match=r"nothing here vouches for 'shop_models\.trainer'"):
        read("shop_models.trainer:x", "shop_models.trainer:SquaresTrainer")
    monkeypatch.setenv("MILLRACE_READERS", "other_models, stray_models")
    read("stray_models:x", "stray_models:Y")
    del sys.modules["stray_models"]


@pytest.mark.parametrize(
    ("trainer", "says", "remedy"),
    [
        ("absent_models.trainer:Theirs", "cannot be imported", "install the package 'absent_models'"),
        ("shop_models.broken:Theirs", "no licence found", "install the package 'shop_models'"),
        ("shop_models.trainer:SquareTrainer", "has no SquareTrainer", "name a class"),
        ("shop_models.leaves:Theirs", "cannot be imported: SystemExit: 3", "install the package 'shop_models'"),
        (":Theirs", "cannot be imported: ValueError", "correct `package.module:Class`"),
        ("shop_models.trainer:TwoArguments", "TwoArguments.*cannot be made.*'licence'", "with its `Params` alone"),
        ("shop_models.trainer:NoText", "something else as model", "what millrace.training.Trainer names"),
        ("shop_models.trainer:Moody", "Moody.*cannot tell what they learn and can: KeyError: 'mood'", "correct the"),
        ("shop_models.trainer:ByJson", "could not be read: nothing here vouches", "MILLRACE_READERS"),
        ("shop_models.trainer:NoParams", "has no Params", "`Params` derived from TrainerParams"),
        ("shop_models.reader:inputs", "has no Params", "name a class"),
    ],
)
def test_a_trainer_that_is_none_is_refused_when_the_spec_is_checked(trainer: str, says: str, remedy: str) -> None:
    spec = make_use_case("binary", {"mine": {"trainer": trainer}}).candidates["mine"]
    with pytest.raises(SpecError, match=says) as raised:
        check_candidate(spec, "binary", where="use_cases/sold.yaml: candidates.mine")
    assert remedy in raised.value.remedy
    assert raised.value.where.endswith("candidates.mine.trainer")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Failing", "its `fit` failed: KeyError: 'no such thing'"),
        ("Bare", "no Fit: bytes, facts as JSON has them"),
        ("Mean", r"of shape \(\d+,\), expected is \(\d+, 3\)"),
        ("NoArray", "predicts nothing: AttributeError"),
    ],
)
def test_a_fit_or_a_prediction_that_is_none_is_told_with_the_class(name: str, says: str, tmp_path: Path) -> None:
    use_case = make_use_case("multiclass", {"mine": {"trainer": f"shop_models.trainer:{name}"}})
    job = make_job(use_case, "mine", holdout=HOLDOUT)
    with pytest.raises(TrainingError, match=says) as raised:
        train_package(job, training_rows(use_case, PARTITIONS), store=tmp_path)
    assert raised.value.where.endswith(f"trainer: shop_models.trainer:{name}")
    assert raised.value.remedy
    assert not list(tmp_path.iterdir())


def test_a_trial_with_a_fit_that_is_none_is_told_with_the_class(tmp_path: Path) -> None:
    use_case = make_use_case("binary", {"mine": {"trainer": "shop_models.trainer:Bare"}})
    job = make_job(use_case, "mine", holdout=HOLDOUT)
    folds = [Fold(trained=tuple(PARTITIONS[:2]), validated=PARTITIONS[2])]
    rows = as_rows(training_rows(use_case, PARTITIONS))
    setup = JudgeSetup(job=job, rows=rows, folds=folds, folder=tmp_path, seed=7, prunes=False)
    judge = prepare_judge(setup)
    with pytest.raises(TrainingError, match="no Fit") as raised:
        judge({}, report=lambda step, loss: None)
    assert raised.value.where.endswith("trainer: shop_models.trainer:Bare")


def test_its_parameters_are_closed_like_ours() -> None:
    with pytest.raises(SpecError, match="unknown key 'penalti'") as raised:
        check_params("shop_models.trainer:SquaresTrainer", {"penalti": 1}, where="here")
    assert raised.value.remedy == "did you mean 'penalty'?"


def test_a_class_that_lacks_a_part_of_a_trainer_is_refused_when_it_is_made() -> None:
    from millrace.training import build_trainer

    with pytest.raises(SpecError, match="lacks library, model, scaled, fit"):
        build_trainer("shop_models.trainer:Incomplete", {}, where="here")
