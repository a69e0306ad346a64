"""What a model is never silently made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.errors import FeatureError, MillraceError, TrainingError
from millrace.training import Trained, train_package

MONTHS = ["2020-01", "2020-02"]
TREES = {"trainer": "xgboost", "params": {"rounds": 4}}


def train(store: Path, rows: pa.Table, problem: str = "binary", **candidate: Any) -> Trained:
    use_case = make_use_case(problem, mine={**TREES, **candidate})
    return train_package(make_job(use_case, "mine", holdout="2020-03"), rows, store=store)


def rows_of(problem: str = "binary", count: int = 100) -> pa.Table:
    return training_rows(make_use_case(problem), MONTHS, count)


def put(rows: pa.Table, name: str, values: Any) -> pa.Table:
    array = values if isinstance(values, pa.Array) else pa.array(values, rows.schema.field(name).type)
    return rows.set_column(rows.column_names.index(name), name, array)


def labels(rows: pa.Table, change: dict[int, float | None]) -> pa.Table:
    found = rows.column("label").to_pylist()
    for place, value in change.items():
        found[place] = value
    return put(rows, "label", found)


def not_utf8(count: int) -> pa.Array:
    texts = pa.array([b"chair", b"\xff\xfe", *[b"lamp"] * (count - 2)], pa.binary())
    return pa.Array.from_buffers(pa.string(), count, texts.buffers())


@pytest.mark.parametrize(
    ("problem", "change", "says"),
    [
        ("binary", lambda rows: rows.slice(0, 0), "no rows"),
        ("binary", lambda rows: rows.slice(0, 3), "3 rows, needed are 50"),
        ("binary", lambda rows: put(rows, "label", [1.0] * 200), "one class only"),
        ("regression", lambda rows: put(rows, "label", [7.5] * 200), "a constant target"),
        (
            "regression",
            lambda rows: put(rows, "label", [label + 1e8 for label in rows.column("label").to_pylist()]),
            "float32 does not tell apart",
        ),
        ("multiclass", lambda rows: put(rows, "label", [1.0] * 200), "one class only.*'middle'"),
        ("regression", lambda rows: labels(rows, {3: float("nan"), 9: None}), "2 of 200 labels are NaN or infinite"),
        ("regression", lambda rows: labels(rows, {3: float("inf")}), "1 of 200 labels"),
        ("regression", lambda rows: labels(rows, {3: 1e300}), "1 of 200 labels"),
        ("binary", lambda rows: labels(rows, {3: 0.5}), "a label is 0.5"),
        ("multiclass", lambda rows: labels(rows, {3: 3.0}), "a label is 3, labels are the places of 3 classes"),
        ("multiclass", lambda rows: labels(rows, {3: 0.5}), "a label is 0.5"),
    ],
)
def test_labels_that_teach_nothing_are_refused(problem: str, change: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=says) as raised:
        train(tmp_path, change(rows_of(problem)), problem)
    assert raised.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_class_without_a_training_row_is_named(tmp_path: Path) -> None:
    rows = rows_of("multiclass")
    without = put(rows, "label", [min(label, 1.0) for label in rows.column("label").to_pylist()])
    with pytest.raises(TrainingError, match="without a single training row: 'high'"):
        train(tmp_path, without, "multiclass")


def test_a_class_that_early_stopping_would_keep_back_is_named(tmp_path: Path) -> None:
    rows = rows_of("multiclass")
    found = [
        min(label, 1.0) if month == MONTHS[0] else label
        for label, month in zip(rows.column("label").to_pylist(), rows.column("partition").to_pylist(), strict=True)
    ]
    early = {"params": {"rounds": 4, "early_stopping": 2}}
    with pytest.raises(TrainingError, match="no row is of 'high'") as raised:
        train(tmp_path, put(rows, "label", found), "multiclass", **early)
    assert "early_stopping: 0" in raised.value.remedy
    assert train(tmp_path, put(rows, "label", found), "multiclass").package.manifest.classes[-1] == "high"


def test_a_column_without_a_value_is_trained_on_and_said_so(tmp_path: Path) -> None:
    package = train(tmp_path, put(rows_of(), "kind", [None] * 200)).package
    assert package.manifest.facts["all_missing"] == ["kind", "nothing"]
    assert package.probe() == 0


def test_infinite_numbers_are_missing_ones(tmp_path: Path) -> None:
    rows = rows_of()
    sizes = rows.column("size").to_pylist()
    holed = put(rows, "size", [None if place % 5 == 0 else value for place, value in enumerate(sizes)])
    odd = [float("inf"), float("-inf"), float("nan"), 1e300, -1e300]
    infinite = put(rows, "size", [odd[place % 25 // 5] if place % 5 == 0 else x for place, x in enumerate(sizes)])
    models = [train(tmp_path, each).package.content["model.ubj"] for each in (holed, infinite)]
    assert models[0] == models[1]


@pytest.mark.parametrize("trainer", ["xgboost", "lightgbm", "torch"])
def test_ten_thousand_categories_are_learned_and_an_unseen_one_is_answered(trainer: str, tmp_path: Path) -> None:
    rows = rows_of(count=6_000)
    rows = put(rows, "kind", [f"kind {number % 10_000:05d}" for number in range(rows.num_rows)])
    short = {"epochs": 1} if trainer == "torch" else {"rounds": 3}
    package = train(tmp_path, rows, trainer=trainer, params=short).package
    column = next(item for item in package.encoder.columns if item.name == "kind")
    assert len(column.vocabulary) == 10_000
    asked = {**package.golden.row(0), "kind": "never seen"}
    answer = package.predictor().predict({name: [value] for name, value in asked.items()})
    assert np.isfinite(answer).all()


def test_text_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="'kind' holds text that is not UTF-8") as raised:
        train(tmp_path, put(rows_of(), "kind", not_utf8(200)))
    assert "UTF-8" in raised.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_came_as_text_is_refused_by_name(tmp_path: Path) -> None:
    rows = rows_of()
    place = rows.column_names.index("size")
    with pytest.raises(MillraceError, match="'size' is a number"):
        train(tmp_path, rows.set_column(place, "size", pa.array(["12"] * 200)))


def test_the_lock_of_an_environment_is_sealed_with_the_model(tmp_path: Path) -> None:
    import dataclasses

    use_case = make_use_case(mine=TREES)
    job = make_job(use_case, "mine", holdout="2020-03")
    plain = train_package(job, rows_of(), store=tmp_path).package
    locked = train_package(dataclasses.replace(job, lock="xgboost==3.2.0\n"), rows_of(), store=tmp_path).package
    assert locked.content["requirements.lock"] == b"xgboost==3.2.0\n"
    assert "requirements.lock" in locked.manifest.files
    assert "requirements.lock" not in plain.content


@pytest.mark.parametrize("trainer", ["xgboost", "lightgbm", "torch"])
def test_a_target_that_is_constant_but_for_the_partition_kept_back_is_refused(trainer: str, tmp_path: Path) -> None:
    rows = rows_of("regression")
    first = [month == MONTHS[0] for month in rows.column("partition").to_pylist()]
    found = labels(rows, {place: 7.0 for place, early in enumerate(first) if early})
    with pytest.raises(TrainingError, match="nothing to learn from"):
        train(tmp_path, found, "regression", trainer=trainer, params={"early_stopping": 2})


def test_a_model_that_predicts_no_numbers_is_not_sealed(tmp_path: Path) -> None:
    rows = rows_of()
    for name in ("size", "age", "warmth", "kind", "sky"):
        rows = put(rows, name, [None] * rows.num_rows)
    with pytest.raises(TrainingError, match="no numbers"):
        train(tmp_path, rows, trainer="sklearn", params={"estimator": "naive_bayes.GaussianNB"})
    assert list(tmp_path.iterdir()) == []


def test_neighbours_take_categories_that_are_sparse_one_hot(tmp_path: Path) -> None:
    rows = rows_of()
    rows = put(rows, "kind", [f"kind {number % 150}" for number in range(rows.num_rows)])
    asked = {"trainer": "sklearn", "params": {"estimator": "neighbors.KNeighborsClassifier"}}
    found = [train(tmp_path / str(i), rows, **asked).package for i in range(2)]
    assert found[0].digest == found[1].digest
    assert found[0].probe() == 0
