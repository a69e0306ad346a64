"""The suite that every trainer passes, for pytest: derive from it, name the trainer, and run the tests.

    import pytest

    pytest.register_assert_rewrite("millrace.training.contract")
    from millrace.training.contract import TrainerContract

    class TestOurTrainer(TrainerContract):
        trainer = "our_package.trainer:OurTrainer"
        params = {"rounds": 20}

It trains on made-up rows (`millrace.training.sample`) of every problem the trainer's parameters name, by the way every
candidate goes: encoded, fitted, sealed, and read again out of its bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.errors import SpecError, TrainingError
from millrace.package import Package
from millrace.spec import UseCaseSpec
from millrace.training.candidate import Prepared, Trained, prepare_training, train_package
from millrace.training.params import TrainerParams
from millrace.training.registry import check_candidate, check_params
from millrace.training.run import FolderRun, LooseRun, StopFitError
from millrace.training.sample import CLASSES, make_job, make_rows, make_use_case, training_rows

PARTITIONS = ["2020-01", "2020-02", "2020-03"]
HOLDOUT = "2020-04"
_CANDIDATE = "mine"
_ABILITIES: dict[str, dict[str, Any]] = {
    "weights": {"class_weight": "balanced"},
    "monotone": {"monotone": {"age": "increasing"}},
    "gpu": {"resources": {"gpu": 1}},
    "workers": {"workers": 2},
}


class TrainerContract:
    """What a package promises, whatever library is behind it.

    Attributes:
        trainer: trainer as a spec names it.
        params: parameters that learn the sample in seconds.
        tolerance: greatest difference of a row's prediction alone from that in its batch.
        gain: share of the baseline's error that must be gone on the holdout; None for the baseline itself.
        problems: what is tried; those the trainer says it learns where empty.
    """

    trainer: ClassVar[str]
    params: ClassVar[Mapping[str, Any]] = {}
    tolerance: ClassVar[float] = 0.0
    gain: ClassVar[float | None] = 0.25
    problems: ClassVar[tuple[str, ...]] = ()
    _trained: ClassVar[dict[tuple[str, str], Package]] = {}

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test a problem."""
        if "problem" in metafunc.fixturenames:
            metafunc.parametrize("problem", self.problems or sorted(self._checked().supported))

    def test_equal_inputs_give_the_same_package_twice(self, problem: str, tmp_path: Path) -> None:
        """No time, address or order of threads is in it."""
        package = self._package(problem, tmp_path)
        again = self._train(problem, tmp_path / "again").package
        assert again.digest == package.digest
        assert again.content == package.content

    def test_other_rows_give_another_package(self, problem: str, tmp_path: Path) -> None:
        """The rows are named in it."""
        rows = training_rows(self._use_case(problem), PARTITIONS).slice(1)
        assert self._train(problem, tmp_path, rows=rows).package.digest != self._package(problem, tmp_path).digest

    def test_a_row_alone_is_predicted_as_in_its_batch(self, problem: str, tmp_path: Path) -> None:
        """Unseen and missing categories, missing and infinite numbers among them; and no rows at all."""
        package = self._package(problem, tmp_path)
        columns = self._strange(problem)
        batch = package.predictor(threads=2).predict(columns)
        plain = {name: values.to_pylist() for name, values in columns.items()}
        one = package.predictor()
        alone = np.concatenate([one.predict({name: [plain[name][i]] for name in plain}) for i in range(len(batch))])
        assert batch.dtype == np.float64
        assert batch.shape == ((len(alone), len(CLASSES)) if problem == "multiclass" else (len(alone),))
        assert np.abs(batch - alone).max() <= self.tolerance
        assert one.predict({name: [] for name in plain}).shape == (0, *batch.shape[1:])

    def test_predictions_are_sound_and_better_than_the_baseline(self, problem: str, tmp_path: Path) -> None:
        """Probabilities are some; the error on the month after is smaller than the baseline's by `gain`."""
        rows = make_rows(self._use_case(problem), HOLDOUT, 300)
        predictions = self._package(problem, tmp_path).predictor().predict(self._features(problem, rows))
        assert np.isfinite(predictions).all()
        if problem != "regression":
            assert ((predictions >= 0) & (predictions <= 1)).all()
        if problem == "multiclass":
            assert np.abs(predictions.sum(axis=1) - 1).max() < 1e-5
        if self.gain is not None:
            target = _target(problem, rows)
            dummy = _target(problem, training_rows(self._use_case(problem), PARTITIONS)).mean(axis=0)
            found, worst = np.mean((predictions - target) ** 2), np.mean((dummy - target) ** 2)
            assert found < (1 - self.gain) * worst

    def test_a_category_unseen_in_training_is_no_category_at_all(self, problem: str, tmp_path: Path) -> None:
        """Two that training never had are predicted alike, in a batch and alone."""
        package = self._package(problem, tmp_path)
        columns = {name: values.to_pylist() for name, values in self._strange(problem).items()}
        columns["kind"] = ["sofa"] * len(columns["kind"])
        first = package.predictor().predict(columns)
        columns["kind"] = ["bed"] * len(columns["kind"])
        assert package.predictor().predict(columns).tobytes() == first.tobytes()

    def test_infinite_and_huge_numbers_are_trained_on_as_missing(self, problem: str, tmp_path: Path) -> None:
        """What float32 cannot hold is no number."""
        rows = training_rows(self._use_case(problem), PARTITIONS)
        at, age = rows.column_names.index("age"), rows.column("age").to_numpy().copy()
        models = []
        for values in ([np.inf, -np.inf, 1e300], [np.nan] * 3):
            age[:3] = values
            package = self._train(problem, tmp_path, rows=rows.set_column(at, "age", pa.array(age))).package
            models.append(package.content[package.manifest.model.name])
        assert models[0] == models[1]

    def test_golden_rows_hold_missing_and_unseen_and_prove_the_package(self, problem: str, tmp_path: Path) -> None:
        """The predictions sealed are those that the sealed bytes give."""
        package = self._package(problem, tmp_path)
        assert len(package.golden) >= 20
        assert package.probe() <= 1e-12
        assert package.probe(Package.open(package.folder, package.digest).predictor(threads=2)) <= max(
            self.tolerance, 1e-12
        )
        assert all(None in package.golden.columns[name] for name in package.features.columns)

    def test_contributions_are_one_a_feature_or_none(self, problem: str, tmp_path: Path) -> None:
        """A model that explains itself does so for every row and feature, and names what the label hangs on most."""
        package = self._package(problem, tmp_path)
        columns = self._features(problem, make_rows(self._use_case(problem), HOLDOUT, 70))
        found = package.predictor().explain(columns)
        if found is not None:
            assert found.shape == (70, len(package.features.columns))
            assert np.isfinite(found).all()
            if self.gain is not None:
                assert package.features.columns[int(np.abs(found).mean(axis=0).argmax())] == "size"

    def test_a_manifest_says_what_was_trained(self, problem: str, tmp_path: Path) -> None:
        """Trainer, resolved parameters, library and rows."""
        manifest = self._package(problem, tmp_path).manifest
        assert (manifest.trainer, manifest.problem) == (self.trainer, problem)
        assert manifest.params == self._checked().model_dump(mode="json")
        assert manifest.library.version
        assert manifest.training.rows == 1200
        assert manifest.facts["all_missing"] == ["nothing"]
        assert manifest.classes == (CLASSES if problem == "multiclass" else [])

    def test_weights_of_rows_move_the_model_towards_what_weighs_more(self, problem: str, tmp_path: Path) -> None:
        """Rows with a label above the middle weigh ten times as much: predictions rise."""
        if "weights" not in self._checked().abilities:
            return
        prepared = self._prepared(problem, tmp_path)
        target = prepared.data.target
        weight = np.where(target > np.median(target) if problem == "regression" else target > 0, 10.0, 1.0)
        heavy = dataclasses.replace(prepared.data, weight=weight.astype(np.float32))
        before, after = (self._level(prepared, item, tmp_path) for item in (prepared.data, heavy))
        assert after > before

    def test_equal_weights_are_no_weights(self, problem: str, tmp_path: Path) -> None:
        """A weight of 1 for every row predicts what no weights do."""
        if "weights" not in self._checked().abilities:
            return
        prepared = self._prepared(problem, tmp_path)
        ones = dataclasses.replace(prepared.data, weight=np.ones(len(prepared.data.target), np.float32))
        before, after = (self._level(prepared, item, tmp_path) for item in (prepared.data, ones))
        assert abs(after - before) <= 1e-3 * max(1.0, abs(before))

    def test_a_monotone_feature_is_so_on_a_grid(self, problem: str, tmp_path: Path) -> None:
        """The label falls with `age`; told to rise with it, predictions never fall, at any other values."""
        if "monotone" not in self._checked().abilities or problem == "multiclass":
            return
        use_case = self._use_case(problem, monotone={"age": "increasing"})
        package = self._train(problem, tmp_path, use_case=use_case).package
        columns = {name: values.to_pylist()[:20] for name, values in self._strange(problem).items()}
        predictor = package.predictor()
        levels = [predictor.predict({**columns, "age": [age] * 20}) for age in np.linspace(-1, 20, 30).tolist()]
        assert (np.diff(np.array(levels), axis=0) >= -1e-9).all()

    def test_what_the_trainer_has_not_is_refused(self, problem: str) -> None:
        """Never left out in silence."""
        abilities = self._checked().abilities
        for ability, asked in _ABILITIES.items():
            spec = self._use_case(problem, **asked).candidates[_CANDIDATE]
            if ability in abilities:
                check_candidate(spec, problem, where="here")
                continue
            try:
                check_candidate(spec, problem, where="here")
            except SpecError as error:
                assert error.remedy
            else:
                raise AssertionError(f"{self.trainer} says it has no {ability}, and {asked} is let through")

    def test_early_stopping_keeps_the_last_partition_back(self, problem: str, tmp_path: Path) -> None:
        """The model is another one then, and the same each time."""
        if "early_stopping" not in type(self._checked()).model_fields:
            return
        try:
            check_params(self.trainer, {**self.params, "early_stopping": 2}, where="")
        except SpecError:
            return
        use_case = self._use_case(problem, params={**self.params, "early_stopping": 2})
        package = self._train(problem, tmp_path, use_case=use_case).package
        assert package.manifest.params["early_stopping"] == 2
        assert package.content[package.manifest.model.name] != self._package(problem, tmp_path).content.get(
            package.manifest.model.name
        )
        assert package.digest == self._train(problem, tmp_path / "again", use_case=use_case).package.digest

    def test_a_fit_that_was_ended_goes_on_to_the_same_package(self, problem: str, tmp_path: Path) -> None:
        """Ended after its first, then after its second checkpoint, and begun again from what it left."""
        if not self._checked().checkpoint_every:
            return
        use_case = self._use_case(problem, params={**self.params, "checkpoint_every": 1})
        straight = self._train(problem, tmp_path / "straight", use_case=use_case).package
        for left in (1, 2, 1_000_000):
            run = FolderRun(folder=tmp_path / "run", stop=_Reached(tmp_path / "run", left))
            try:
                package = self._train(problem, tmp_path / "ended", use_case=use_case, run=run).package
            except StopFitError:
                assert run.restore() is not None
                continue
            assert package.digest == straight.digest

    def test_rows_in_blocks_are_learned_or_refused(self, problem: str, tmp_path: Path) -> None:
        """A matrix mapped from a file, larger than what may be held at once."""
        prepared = self._prepared(problem, tmp_path)
        path = tmp_path / "matrix"
        prepared.data.matrix.tofile(path)
        mapped = np.memmap(path, np.float32, "r", shape=prepared.data.matrix.shape)
        blocked = dataclasses.replace(prepared.data, matrix=mapped, block_rows=500)
        if "blocks" not in self._checked().abilities:
            try:
                self._level(prepared, blocked, tmp_path)
            except TrainingError as error:
                assert error.remedy
                return
            raise AssertionError(f"{self.trainer} says it reads no blocks, and takes them")
        whole, found = (self._level(prepared, item, tmp_path) for item in (prepared.data, blocked))
        assert abs(found - whole) <= 0.1 * max(1.0, abs(whole))

    def _checked(self) -> TrainerParams:
        return check_params(self.trainer, self.params, where=self.trainer)

    def _use_case(self, problem: str, **changes: Any) -> UseCaseSpec:
        candidate = {"trainer": self.trainer, "params": self.params, **changes}
        return make_use_case(problem, {_CANDIDATE: candidate})

    def _train(
        self,
        problem: str,
        store: Path,
        *,
        use_case: UseCaseSpec | None = None,
        rows: pa.Table | None = None,
        run: FolderRun | None = None,
    ) -> Trained:
        use_case = use_case or self._use_case(problem)
        rows = training_rows(use_case, PARTITIONS) if rows is None else rows
        return train_package(make_job(use_case, _CANDIDATE, holdout=HOLDOUT), rows, store=store, run=run)

    def _package(self, problem: str, folder: Path) -> Package:
        """The package of the plain candidate, trained once for all tests."""
        key = type(self).__qualname__, problem
        if key not in TrainerContract._trained:
            TrainerContract._trained[key] = self._train(problem, folder / "kept").package
        return TrainerContract._trained[key]

    def _prepared(self, problem: str, folder: Path) -> Prepared:
        use_case = self._use_case(problem)
        rows = training_rows(use_case, PARTITIONS)
        return prepare_training(make_job(use_case, _CANDIDATE, holdout=HOLDOUT), rows, folder=folder)

    def _level(self, prepared: Prepared, data: Any, folder: Path) -> float:
        """Mean prediction of the rows trained on: of the value, or of the classes but the first."""
        from millrace.package.predictor import load_model

        trainer = prepared.trainer
        content = trainer.fit(data, seed=7, run=LooseRun(folder=folder)).content
        classes = len(CLASSES) if data.problem == "multiclass" else 0
        model = load_model(
            trainer.model.format,
            content,
            encoder=data.encoder,
            problem=data.problem,
            threads=1,
            classes=classes,
            trainer=self.trainer,
        )
        scores = model.score(np.array(prepared.data.matrix))
        return float((scores[:, 1:].sum(axis=1) if data.problem == "multiclass" else scores).mean())

    def _features(self, problem: str, rows: pa.Table) -> dict[str, Any]:
        return {name: rows.column(name).combine_chunks() for name in self._use_case(problem).features.columns}

    def _strange(self, problem: str) -> dict[str, Any]:
        """Rows of the holdout with unseen and missing categories, missing and infinite numbers."""
        rows = make_rows(self._use_case(problem), HOLDOUT, 70)
        columns = self._features(problem, rows)
        kind, age = columns["kind"].to_pylist(), columns["age"].to_pylist()
        kind[::7], kind[1::7] = ["never seen"] * len(kind[::7]), [None] * len(kind[1::7])
        age[::5], age[1::5] = [None] * len(age[::5]), [float("inf")] * len(age[1::5])
        return {**columns, "kind": pa.array(kind, pa.string()), "age": pa.array(age, pa.float64())}


class _Reached:
    """True once a checkpoint has this many rounds or epochs behind it."""

    def __init__(self, folder: Path, done: int) -> None:
        self.folder, self.done = folder, done

    def __call__(self) -> bool:
        return any(int(path.stem) >= self.done for path in self.folder.glob("*.checkpoint"))


def _target(problem: str, rows: pa.Table) -> NDArray[np.float64]:
    """Labels as predictions are compared with them: one column a class for multiclass."""
    label = rows.column("label").to_numpy()
    return np.eye(len(CLASSES))[label.astype(int)] if problem == "multiclass" else label
