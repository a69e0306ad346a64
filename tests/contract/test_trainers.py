"""One suite for every trainer and problem: what a package promises does not hang on the library behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.training.synthetic import QUICK, make_job, make_rows, make_use_case, training_rows

from millrace.errors import TrainingError
from millrace.package import Package
from millrace.spec import UseCaseSpec
from millrace.training import Trained, list_trainers, train_package

PARTITIONS = ["2020-01", "2020-02", "2020-03"]
CASES = [(name, problem) for name in list_trainers() for problem in ("binary", "regression")]
STOPPABLE = [case for case in CASES if case[0] != "baseline"]


def train(use_case: UseCaseSpec, candidate: str, store: Path, rows: pa.Table | None = None) -> Trained:
    rows = training_rows(use_case, PARTITIONS) if rows is None else rows
    return train_package(make_job(use_case, candidate, holdout="2020-04"), rows, store=store)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Package]:
    store = tmp_path_factory.mktemp("packages")
    return {(name, problem): train(make_use_case(problem), name, store).package for name, problem in CASES}


def holdout(package: Package) -> dict[str, Any]:
    use_case = make_use_case(package.manifest.problem)
    rows = make_rows(use_case, "2020-04", 300)
    columns = {name: rows.column(name) for name in package.features.columns}
    strange = columns["kind"].to_pylist()
    strange[::7] = ["never seen"] * len(strange[::7])
    return {**columns, "kind": pa.array(strange, pa.string()), "label": rows.column("label").to_numpy()}


@pytest.mark.parametrize(("name", "problem"), CASES)
def test_equal_inputs_give_the_same_package_twice(
    trained: dict[tuple[str, str], Package], tmp_path: Path, name: str, problem: str
) -> None:
    again = train(make_use_case(problem), name, tmp_path).package
    assert again.digest == trained[name, problem].digest
    assert again.content == trained[name, problem].content


@pytest.mark.parametrize(("name", "problem"), CASES)
def test_another_seed_or_other_rows_give_another_package(
    trained: dict[tuple[str, str], Package], tmp_path: Path, name: str, problem: str
) -> None:
    use_case = make_use_case(problem)
    seeded = train(use_case.model_copy(update={"seed": 8}), name, tmp_path).package
    fewer = train(use_case, name, tmp_path, training_rows(use_case, PARTITIONS).slice(1)).package
    assert len({seeded.digest, fewer.digest, trained[name, problem].digest}) == 3


@pytest.mark.parametrize(("name", "problem"), CASES)
def test_a_row_alone_is_predicted_as_in_its_batch(
    trained: dict[tuple[str, str], Package], name: str, problem: str
) -> None:
    package = trained[name, problem]
    rows = {key: value for key, value in holdout(package).items() if key != "label"}
    batch = package.predictor(threads=2).predict(rows)
    plain = {key: value.to_pylist() for key, value in rows.items()}
    one = package.predictor()
    alone = np.array([one.predict({key: [value[i]] for key, value in plain.items()})[0] for i in range(len(batch))])
    assert batch.dtype == np.float64
    assert batch.shape == (300,)
    if name == "torch":
        assert np.abs(batch - alone).max() <= 1e-9
    else:
        assert batch.tobytes() == alone.tobytes()
    assert one.predict({key: [] for key in plain}).shape == (0,)


@pytest.mark.parametrize(("name", "problem"), CASES)
def test_predictions_are_sound_and_better_than_the_dummy(
    trained: dict[tuple[str, str], Package], name: str, problem: str
) -> None:
    package = trained[name, problem]
    rows = holdout(package)
    predictions, label = package.predictor().predict(rows), rows["label"]
    assert np.isfinite(predictions).all()
    if problem == "binary":
        assert ((predictions >= 0) & (predictions <= 1)).all()
    dummy = trained["baseline", problem].predictor().predict(rows)
    error, worst = np.mean((predictions - label) ** 2), np.mean((dummy - label) ** 2)
    assert error == worst if name == "baseline" else error < 0.75 * worst


@pytest.mark.parametrize(("name", "problem"), CASES)
def test_contributions_are_one_a_feature_and_point_where_the_data_does(
    trained: dict[tuple[str, str], Package], name: str, problem: str
) -> None:
    package = trained[name, problem]
    rows = holdout(package)
    found = package.predictor().explain(rows)
    if name == "torch":
        assert found is None
        return
    assert found is not None
    assert found.shape == (300, len(package.features.columns))
    if name != "baseline":
        weight = np.abs(found).mean(axis=0)
        assert package.features.columns[int(weight.argmax())] == "size"


@pytest.mark.parametrize(("name", "problem"), CASES)
def test_golden_rows_hold_missing_and_unseen_and_prove_the_package(
    trained: dict[tuple[str, str], Package], name: str, problem: str
) -> None:
    package = trained[name, problem]
    assert len(package.golden) >= 20
    assert package.probe() <= (1e-12 if name == "torch" else 0)
    assert package.probe(Package.open(package.folder, package.digest).predictor(threads=2)) <= 1e-9
    for i, column in enumerate(package.features.model):
        values = package.golden.columns[column.name]
        assert None in values
        if column.kind == "category":
            assert not {value for value in values if value is not None} <= set(package.encoder.columns[i].vocabulary)


@pytest.mark.parametrize(("name", "problem"), CASES)
def test_a_manifest_says_what_was_trained_and_nothing_that_changes(
    trained: dict[tuple[str, str], Package], name: str, problem: str
) -> None:
    manifest = trained[name, problem].manifest
    assert (manifest.trainer, manifest.candidate, manifest.problem) == (name, name, problem)
    assert manifest.params["threads"] == 2
    assert set(QUICK[name]) <= set(manifest.params)
    assert manifest.training.partitions == PARTITIONS
    assert (manifest.training.trained_through, manifest.training.holdout) == ("2020-03", "2020-04")
    assert manifest.training.rows == 1200
    assert manifest.facts["all_missing"] == ["nothing"]
    assert manifest.library.version


@pytest.mark.parametrize(("name", "problem"), STOPPABLE)
def test_early_stopping_keeps_the_last_partition_back_and_ends_before_the_rounds_do(
    tmp_path: Path, name: str, problem: str
) -> None:
    rounds = "epochs" if name == "torch" else "rounds"
    params = {**QUICK[name], rounds: 60, "learning_rate": 0.03 if name == "torch" else 0.5, "early_stopping": 3}
    use_case = make_use_case(problem, stopped={"trainer": name, "params": params})
    package = train(use_case, "stopped", tmp_path).package
    assert 0 < package.manifest.facts[rounds] < 60
    assert package.digest == train(use_case, "stopped", tmp_path / "again").package.digest
    one = training_rows(use_case, ["2020-01"])
    with pytest.raises(TrainingError, match="early stopping"):
        train(use_case.model_copy(update={"min_training_partitions": 1}), "stopped", tmp_path, one)


@pytest.mark.parametrize(("name", "problem"), CASES)
def test_infinite_and_huge_numbers_are_trained_on_as_missing(tmp_path: Path, name: str, problem: str) -> None:
    use_case = make_use_case(problem)
    rows = training_rows(use_case, PARTITIONS)
    age = rows.column("age").to_numpy().copy()
    age[:3] = [np.inf, -np.inf, 1e300]
    holes = age.copy()
    holes[:3] = np.nan
    at = rows.column_names.index("age")
    packages = [
        train(use_case, name, tmp_path, rows.set_column(at, "age", pa.array(values))).package for values in (age, holes)
    ]
    assert packages[0].content[packages[0].manifest.model.name] == packages[1].content[packages[1].manifest.model.name]


@pytest.mark.parametrize("name", list_trainers())
def test_labels_that_cannot_be_learned_are_refused(tmp_path: Path, name: str) -> None:
    use_case = make_use_case("binary")
    rows = training_rows(use_case, PARTITIONS)
    at = rows.column_names.index("label")
    count = rows.num_rows
    faulty = {
        "one class only": [1.0] * count,
        "NaN or infinite": [float("nan"), *[0.0, 1.0] * (count // 2)][:count],
        "labels are NaN": [float("inf"), *[0.0, 1.0] * (count // 2)][:count],
        "a label is 2": [2.0, *[0.0, 1.0] * (count // 2)][:count],
    }
    for says, labels in faulty.items():
        with pytest.raises(TrainingError, match=says) as raised:
            train(use_case, name, tmp_path, rows.set_column(at, "label", pa.array(labels)))
        assert raised.value.remedy
    for few, says in ((0, "no rows"), (3, "3 rows")):
        with pytest.raises(TrainingError, match=says):
            train(use_case, name, tmp_path, rows.slice(0, few))
    assert not list(tmp_path.iterdir())
