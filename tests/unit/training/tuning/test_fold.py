from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.training.synthetic import make_domain, make_job, make_use_case, training_rows

from millrace.errors import TrainingError
from millrace.spec.candidate import IntRange, TuningSpec
from millrace.training import build_trainer
from millrace.training.data.rows import TableRows
from millrace.training.tuning.fold import Fold, encode_fold, time_folds

MONTHS = [f"2020-{month:02d}" for month in range(1, 10)]


def tuning(folds: int = 2, gap: int = 0) -> TuningSpec:
    space = {"max_depth": IntRange(type="int", low=2, high=8)}
    return TuningSpec(space=space, folds=folds, gap=gap)


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 3), st.integers(1, 3))
def test_every_fold_trains_before_the_gap_and_predicts_after_it(count: int, folds: int, gap: int, needed: int) -> None:
    partitions = MONTHS[:count]
    if count < needed + gap + 1:
        with pytest.raises(TrainingError, match="give no fold"):
            time_folds(partitions, tuning(folds, gap), needed=needed, where="here")
        return
    found = time_folds(partitions, tuning(folds, gap), needed=needed, where="here")
    assert len(found) == min(folds, count - needed - gap)
    assert [fold.validated for fold in found] == partitions[-len(found) :]
    for fold in found:
        place = partitions.index(fold.validated)
        assert list(fold.trained) == partitions[: place - gap]
        assert len(fold.trained) >= needed


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 2), st.integers(1, 3), st.integers(2, 4))
def test_folds_of_several_partitions_lie_side_by_side_and_end_with_the_last(
    count: int, folds: int, gap: int, needed: int, predicted: int
) -> None:
    partitions = MONTHS[:count]
    room = (count - needed - gap) // predicted
    if room < 1:
        told = f"{count} partitions give no fold: it takes {needed} to train on, a gap of {gap} and {predicted} to"
        with pytest.raises(TrainingError, match=told) as caught:
            time_folds(partitions, tuning(folds, gap), needed=needed, predicted=predicted, where="here")
        assert "evaluation.validation_partitions" in caught.value.remedy
        return
    found = time_folds(partitions, tuning(folds, gap), needed=needed, predicted=predicted, where="here")
    assert len(found) == min(folds, room)
    assert [key for fold in found for key in fold.predicted] == partitions[-len(found) * predicted :]
    for fold in found:
        assert fold.validated == fold.predicted[-1]
        assert len(fold.predicted) == predicted
        assert list(fold.trained) == partitions[: partitions.index(fold.predicted[0]) - gap]
        assert len(fold.trained) >= needed
        assert Fold.of(json.loads(json.dumps(dataclasses.asdict(fold)))) == fold


def test_a_fold_of_one_partition_is_described_by_its_key_and_one_of_several_by_all() -> None:
    one, two = time_folds(MONTHS[:4], tuning(1), where=""), time_folds(MONTHS[:4], tuning(1), predicted=2, where="")
    assert [fold.described() for fold in one] == [[MONTHS[:3], "2020-04"]]
    assert [fold.described() for fold in two] == [[MONTHS[:2], ["2020-03", "2020-04"]]]
    assert (one[0].span, two[0].span) == ("partition 2020-04", "partitions 2020-03 to 2020-04")


def test_a_fold_of_several_partitions_predicts_all_and_knows_what_was_known_when_the_first_began(
    tmp_path: Path,
) -> None:
    use_case = make_use_case()
    rows = training_rows(use_case, MONTHS[:4], 100)
    job = make_job(use_case, "baseline", holdout="2020-05")
    (fold,) = time_folds(MONTHS[:4], tuning(1), predicted=2, where="")
    data = encode_fold(job, TableRows(table=rows), fold, build_trainer("xgboost", {}, where=""), folder=tmp_path)
    start = make_domain().partition("2020-03").start
    known = [
        row["label"]
        for row in rows.select(["label", "label_known_at", "partition"]).to_pylist()
        if row["partition"] < "2020-03" and row["label_known_at"] <= start
    ]
    assert 0 < len(known) < 200
    assert data.train.target.tolist() == known
    assert data.target.tolist() == rows.column("label").to_pylist()[200:]


def test_a_fold_knows_nothing_that_was_not_known_when_its_predicted_partition_began(tmp_path: Path) -> None:
    use_case = make_use_case()
    rows = training_rows(use_case, MONTHS[:3], 100)
    job = make_job(use_case, "baseline", holdout="2020-04")
    trainer = build_trainer("xgboost", {}, where="here")
    fold = Fold(trained=("2020-01", "2020-02"), validated="2020-03")
    data = encode_fold(job, TableRows(table=rows), fold, trainer, folder=tmp_path)
    start = make_domain().partition("2020-03").start
    known = [
        row["label"]
        for row in rows.select(["label", "label_known_at", "partition"]).to_pylist()
        if row["partition"] < "2020-03" and row["label_known_at"] <= start
    ]
    assert 0 < len(known) < 200
    assert data.train.target.tolist() == known
    assert len(data.target) == len(data.matrix) == 100


def test_a_category_of_the_predicted_partition_alone_is_unseen(tmp_path: Path) -> None:
    use_case = make_use_case()
    rows = training_rows(use_case, MONTHS[:2], 100)
    late = np.array(rows.column("partition").to_pylist()) == "2020-02"
    kinds = np.where(late, "sofa", "lamp").tolist()
    rows = rows.set_column(rows.column_names.index("kind"), "kind", pa.array(kinds))
    job = make_job(use_case, "baseline", holdout="2020-03")
    fold = Fold(trained=("2020-01",), validated="2020-02")
    data = encode_fold(job, TableRows(table=rows), fold, build_trainer("xgboost", {}, where="here"), folder=tmp_path)
    place = data.train.encoder.names.index("kind")
    column = data.train.encoder.columns[place]
    assert column.vocabulary == ["lamp"]
    assert set(data.matrix[:, place].tolist()) == {float(column.unseen)}


def test_a_partition_of_one_class_cannot_be_judged_by_auc(tmp_path: Path) -> None:
    use_case = make_use_case()
    rows = training_rows(use_case, MONTHS[:2], 100)
    late = np.array(rows.column("partition").to_pylist()) == "2020-02"
    label = np.where(late, 1.0, rows.column("label").to_numpy())
    rows = rows.set_column(rows.column_names.index("label"), "label", pa.array(label))
    job = make_job(use_case, "baseline", holdout="2020-03")
    fold = Fold(trained=("2020-01",), validated="2020-02")
    with pytest.raises(TrainingError, match="1 of 2 classes in the rows of partition 2020-02"):
        encode_fold(job, TableRows(table=rows), fold, build_trainer("xgboost", {}, where="here"), folder=tmp_path)
