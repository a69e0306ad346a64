from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.errors import SpecError, TrainingError
from millrace.package import Encoder
from millrace.package.learning import Vocabularies, with_scaling
from millrace.spec import UseCaseSpec
from millrace.training import TrainingData, build_trainer
from millrace.training.check import check_job
from millrace.training.data.encoding import encode_more, encode_rows
from millrace.training.data.rows import WEIGHT, TableRows

MONTHS = ["2020-01", "2020-02"]
KINDS = {"amount": "number", "town": "category", "rate": "number"}
amounts = st.one_of(st.none(), st.floats(width=64), st.integers(-(2**60), 2**60).map(float))
towns = st.one_of(st.none(), st.sampled_from(["", "a", "b", "ß"]), st.text(max_size=3))
frames = st.lists(st.tuples(amounts, towns, amounts), min_size=1, max_size=40)


def encode(use_case: UseCaseSpec, table: pa.Table, folder: Path, candidate: str = "torch") -> TrainingData:
    job = make_job(use_case, candidate, holdout="2020-03")
    trainer = build_trainer(job.spec.trainer, job.values, where=job.where)
    return encode_rows(job, TableRows(table=table), trainer, folder=folder)


def weighted(table: pa.Table, weights: Any) -> pa.Table:
    return table.append_column(WEIGHT, pa.array(weights, pa.float64()))


def changed(use_case: UseCaseSpec, candidate: str, **spec: Any) -> UseCaseSpec:
    plain = use_case.model_dump()
    plain["candidates"][candidate].update(spec)
    return UseCaseSpec.model_validate(plain)


def with_weight(use_case: UseCaseSpec) -> UseCaseSpec:
    return use_case.model_copy(update={"label": use_case.label.model_copy(update={"weight": "size"})})


@settings(max_examples=80, deadline=None)
@given(rows=frames, cuts=st.lists(st.integers(0, 40), max_size=4))
def test_an_encoder_learned_in_batches_is_the_one_learned_at_once(rows: Any, cuts: list[int]) -> None:
    types = {"amount": pa.float64(), "town": pa.string(), "rate": pa.float64()}
    table = pa.table({name: pa.array([row[i] for row in rows], types[name]) for i, name in enumerate(KINDS)})
    columns = {name: table.column(name) for name in KINDS}
    expected = Encoder.learn(columns, KINDS, scaled=True)
    found, parts = Vocabularies(KINDS), []
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    for start, end in itertools.pairwise(bounds):
        part = table.slice(start, end - start)
        coded = part.set_column(1, "town", part.column("town").dictionary_encode())
        found.look({name: coded.column(name) for name in KINDS})
        parts.append(coded)
    plain = found.encoder(scaled=True)
    matrix = np.concatenate([plain.encode({name: part.column(name) for name in KINDS}) for part in parts])
    assert matrix.tobytes() == expected.encode(columns).tobytes()
    assert with_scaling(plain, matrix).to_bytes() == expected.to_bytes()


def test_rows_over_the_budget_go_to_a_file_and_are_encoded_the_same(tmp_path: Path) -> None:
    rows = training_rows(make_use_case(), MONTHS, 12_000)
    whole = encode(make_use_case(), rows, tmp_path)
    mapped = encode(changed(make_use_case(), "torch", resources={"memory": "1MB"}), rows, tmp_path)
    assert (whole.block_rows, isinstance(mapped.matrix, np.memmap)) == (0, True)
    assert 0 < mapped.block_rows < 12_000
    assert mapped.matrix.tobytes() == whole.matrix.tobytes()
    assert mapped.encoder.to_bytes() == whole.encoder.to_bytes()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="read-only"):
        mapped.matrix[0, 0] = 1


def test_a_trainer_that_needs_all_rows_at_once_says_that_they_are_too_many(tmp_path: Path) -> None:
    sklearn = {"trainer": "sklearn", "params": {"estimator": "linear_model.LogisticRegression"}}
    use_case = make_use_case(mine={**sklearn, "resources": {"memory": "1MB"}})
    with pytest.raises(TrainingError, match="cannot train out of core") as raised:
        encode(use_case, training_rows(use_case, MONTHS, 12_000), tmp_path, "mine")
    assert "resources.memory" in raised.value.where


def test_without_room_for_the_file_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    use_case = changed(make_use_case(), "torch", resources={"memory": "1MB"})
    with pytest.raises(TrainingError, match="No space left") as raised:
        encode(use_case, training_rows(use_case, MONTHS, 12_000), tmp_path)
    assert "resources.memory" in raised.value.remedy


def test_rows_count_by_their_own_weight_times_that_of_their_class(tmp_path: Path) -> None:
    use_case = with_weight(make_use_case())
    rows = training_rows(make_use_case(), MONTHS, 100)
    own = np.random.default_rng(1).uniform(0.5, 3, rows.num_rows)
    target = rows.column("label").to_numpy()
    assert encode(make_use_case(), rows, tmp_path).weight is None
    plain = encode(use_case, weighted(rows, own), tmp_path).weight
    assert plain is not None
    assert plain.tolist() == own.astype(np.float32).tolist()
    named = encode(changed(use_case, "torch", class_weight={"1": 4.0}), weighted(rows, own), tmp_path).weight
    assert named is not None
    assert named.tolist() == (own * np.where(target == 1, 4.0, 1.0)).astype(np.float32).tolist()
    balanced = encode(changed(make_use_case(), "torch", class_weight="balanced"), rows, tmp_path).weight
    oracle = compute_class_weight("balanced", classes=np.array([0.0, 1.0]), y=target)
    assert balanced is not None
    assert balanced.tolist() == oracle[target.astype(int)].astype(np.float32).tolist()


@pytest.mark.parametrize("odd", [0.0, -1.0, float("nan"), float("inf"), None, 1e-60])
def test_a_weight_that_is_no_number_above_0_is_refused(odd: float | None, tmp_path: Path) -> None:
    rows = training_rows(make_use_case(), MONTHS, 50)
    with pytest.raises(TrainingError, match="1 of 100 weights") as raised:
        encode(with_weight(make_use_case()), weighted(rows, [odd, *[1.0] * 99]), tmp_path)
    assert "label.weight" in raised.value.remedy


def test_a_class_weight_that_is_too_large_for_the_rows_own_is_not_blamed_on_these(tmp_path: Path) -> None:
    rows = training_rows(make_use_case(), MONTHS, 50)
    use_case = changed(with_weight(make_use_case()), "torch", class_weight={"0": 1e30, "1": 1e30})
    with pytest.raises(TrainingError, match=r"label\.weight times class_weight of 1 of 100") as raised:
        encode(use_case, weighted(rows, [1e30, *[1.0] * 99]), tmp_path)
    assert "class_weight" in raised.value.remedy
    assert "class_weight" in raised.value.where


@pytest.mark.parametrize(
    ("problem", "asked", "says"),
    [
        ("binary", {"class_weight": {"late": 2.0}}, "no class 'late'"),
        ("multiclass", {"class_weight": {"1": 2.0}}, "no class '1'"),
        ("regression", {"class_weight": "balanced"}, "no classes to weigh"),
        ("binary", {"monotone": {"kind": "increasing"}}, "'kind' is a category"),
        ("binary", {"monotone": {"sise": "increasing"}}, "'sise' is no feature"),
        ("multiclass", {"monotone": {"age": "increasing"}}, "sum to 1"),
        ("binary", {"class_weight": {"1": 1e300}}, "class '1' weighs 1e.300"),
        ("binary", {"class_weight": {"0": 1e-60}}, "class '0' weighs 1e-60"),
    ],
)
def test_classes_and_features_that_there_are_not_are_refused_by_name(
    problem: str, asked: dict[str, Any], says: str
) -> None:
    use_case = changed(make_use_case(problem), "xgboost", **asked)
    with pytest.raises(SpecError, match=says):
        check_job(make_job(use_case, "xgboost", holdout="2020-03"))


def test_rows_of_a_later_partition_are_encoded_with_what_was_learned_before(tmp_path: Path) -> None:
    use_case = make_use_case()
    data = encode(use_case, training_rows(use_case, MONTHS, 100), tmp_path)
    later = training_rows(use_case, ["2020-03"], 50)
    later = later.set_column(later.column_names.index("kind"), "kind", pa.array(["never seen"] * 50))
    job = make_job(use_case, "torch", holdout="2020-03")
    matrix, target, weight = encode_more(job, TableRows(table=later), data.encoder)
    assert (matrix[:, data.encoder.names.index("kind")] == data.encoder.columns[2].unseen).all()
    assert target.tolist() == later.column("label").to_pylist()
    assert weight is None


def stopping(kept: int) -> UseCaseSpec:
    params = {"trainer": "xgboost", "params": {"rounds": 3, "early_stopping": 2}}
    use_case = make_use_case(mine=params)
    evaluation = use_case.evaluation.model_copy(update={"validation_partitions": kept})
    return use_case.model_copy(update={"evaluation": evaluation})


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_early_stopping_keeps_the_last_partitions_back_as_many_as_the_use_case_says(kept: int, tmp_path: Path) -> None:
    months = ["2020-01", "2020-02", "2020-03", "2020-04"]
    table = training_rows(stopping(kept), months, 50)
    found = encode(stopping(kept), table, tmp_path, "mine")
    recent = [month in months[-kept:] for month in table.column("partition").to_pylist()]
    assert found.recent.tolist() == recent


def test_early_stopping_that_leaves_no_partition_to_train_on_says_how_many_it_takes(tmp_path: Path) -> None:
    table = training_rows(stopping(2), MONTHS, 50)
    told = "keeps 2 partitions back, and of 2, 2020-01 to 2020-02, none is left to train on"
    with pytest.raises(TrainingError, match=told) as caught:
        encode(stopping(2), table, tmp_path, "mine")
    assert caught.value.remedy.startswith("train on 3 partitions or more, lower evaluation.validation_partitions")
    label = np.where(np.array(table.column("partition").to_pylist()) == "2020-02", 1.0, table.column("label"))
    table = table.set_column(table.column_names.index("label"), "label", pa.array(label))
    with pytest.raises(TrainingError, match="keeps the last of the partitions 2020-01, 2020-02 back"):
        encode(stopping(1), table, tmp_path, "mine")
