"""Boosted fits: what a segment is, what a kill leaves, and what the library alone would have made of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.training.boosting.boosted import LIBRARIES, PROBLEMS, SAMPLED, DyingRun, fit, make_data, mapped

from millrace.errors import TrainingError
from millrace.training.base import TrainingData, Watch
from millrace.training.boosting.segment import TOLD_EVERY, segment_seed
from millrace.training.run import FolderRun, LooseRun, StopFitError

OBJECTIVES = {
    "xgboost": {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"},
    "lightgbm": {"binary": "binary", "multiclass": "multiclass", "regression": "regression"},
}


def bare(library: str, data: TrainingData, rounds: int) -> np.ndarray:
    """Predictions of the library alone, with its own matrix in one piece."""
    objective = OBJECTIVES[library][data.problem]
    more = {"num_class": data.classes} if data.problem == "multiclass" else {}
    if library == "xgboost":
        types = ["c" if column.kind == "category" else "q" for column in data.encoder.columns]
        rows = xgboost.QuantileDMatrix(
            data.matrix, data.target, weight=data.weight, feature_types=types, enable_categorical=True
        )
        plain = {"objective": objective, "learning_rate": 0.1, "max_cat_threshold": 64, "max_cat_to_onehot": 4, **more}
        return np.asarray(xgboost.train({**plain, "nthread": 2}, rows, rounds).inplace_predict(data.matrix))
    known: dict[str, Any] = {"objective": objective, "deterministic": True, "force_row_wise": True, "verbosity": -1}
    known |= {"num_threads": 2, "data_random_seed": 7, "feature_pre_filter": False, **more}
    dataset = lightgbm.Dataset(data.matrix, data.target, weight=data.weight, categorical_feature=[4], params=known)
    return np.asarray(lightgbm.train(known, dataset, rounds).predict(data.matrix))


def predicted(library: str, content: bytes, matrix: np.ndarray) -> np.ndarray:
    if library == "xgboost":
        return np.asarray(xgboost.Booster(model_file=bytearray(content)).inplace_predict(matrix))
    return np.asarray(lightgbm.Booster(model_str=content.decode()).predict(matrix))


def trees(library: str, content: bytes) -> int:
    """Rounds that a model is made of."""
    if library == "xgboost":
        return int(xgboost.Booster(model_file=bytearray(content)).num_boosted_rounds())
    return int(lightgbm.Booster(model_str=content.decode()).current_iteration())


def trees_of(content: bytes) -> bytes:
    """A model but for the parameters at the end of lightgbm's text, which tell how many rows its bins are made of."""
    return content.partition(b"\nparameters:")[0]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_fit_of_one_segment_is_what_the_library_alone_makes(library: str, problem: str, tmp_path: Path) -> None:
    data = make_data(problem)
    found = fit(library, data, tmp_path, rounds=12)
    assert np.array_equal(predicted(library, found.content, data.matrix), bare(library, data, 12))
    assert found.facts == {"rounds": 12} == {"rounds": trees(library, found.content)}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_segments_without_chance_in_them_predict_as_one_piece_does(library: str, problem: str, tmp_path: Path) -> None:
    data = make_data(problem)
    found = fit(library, data, tmp_path, rounds=12, checkpoint_every=5)
    assert trees(library, found.content) == 12
    expected = bare(library, data, 12)
    assert np.allclose(predicted(library, found.content, data.matrix), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("patience", [0, 4])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deaths=st.lists(st.integers(0, 22), min_size=1, max_size=3, unique=True))
def test_a_fit_that_died_anywhere_goes_on_to_the_same_bytes_and_curves(
    library: str, problem: str, patience: int, deaths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data, root = make_data(problem, 500), tmp_path_factory.mktemp("runs")
    params = {"rounds": 23, "checkpoint_every": 6, "early_stopping": patience, "max_depth": 3, **SAMPLED[library]}
    calm = FolderRun(folder=root / "calm")
    whole = fit(library, data, root, run=calm, **params)
    for death in sorted(deaths):
        run = DyingRun(folder=root / "killed", die_at=death)
        try:
            fit(library, data, root, run=run, **params)
        except StopFitError:
            assert run.dead == ["report"]
    last = FolderRun(folder=root / "killed")
    again = fit(library, data, root, run=last, **params)
    assert (again.content, again.facts, again.metrics) == (whole.content, whole.facts, whole.metrics)
    assert last.curves == calm.curves


@pytest.mark.parametrize("library", LIBRARIES)
def test_early_stopping_ends_at_the_round_that_was_best_on_the_recent_rows(library: str, tmp_path: Path) -> None:
    data, run = make_data("binary"), LooseRun(folder=tmp_path)
    params = {"learning_rate": 0.5, "early_stopping": 6, "checkpoint_every": 7}
    found = fit(library, data, tmp_path, run=run, rounds=200, **params)
    recent = [loss for _, loss in run.curves["recent_loss"]]
    best = int(np.argmin(recent))
    assert found.facts["rounds"] == best + 1 == trees(library, found.content)
    assert len(recent) == best + 1 + 6
    probability = predicted(library, found.content, data.matrix[data.recent]).astype(np.float64)
    truth, weight = data.target[data.recent], np.ones(1) if data.weight is None else data.weight[data.recent]
    losses = -np.log(np.where(truth == 1, probability, 1 - probability))
    assert found.metrics["recent_loss"] == pytest.approx(np.average(losses, weights=weight), rel=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_round_is_told_and_the_loss_on_all_rows_now_and_then(library: str, tmp_path: Path) -> None:
    watch = Watch(matrix=make_data("regression", 50, seed=1).matrix, target=make_data("regression", 50, seed=1).target)
    run = FolderRun(folder=tmp_path / "run")
    data = make_data("regression", watch=watch)
    seen = fit(library, data, tmp_path, run=run, rounds=25, checkpoint_every=0)
    assert [step for step, _ in run.curves["watch_loss"]] == list(range(25))
    assert [step + 1 for step, _ in run.curves["train_loss"]] == [TOLD_EVERY, 2 * TOLD_EVERY, 25]
    assert list(tmp_path.rglob("*.checkpoint")) == []
    assert seen.content == fit(library, make_data("regression"), tmp_path, rounds=25).content


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("patience", [0, 5])
def test_fits_that_share_what_was_made_of_the_rows_are_the_same(library: str, patience: int, tmp_path: Path) -> None:
    cache: dict[Any, Any] = {}
    params: dict[str, Any] = {"rounds": 8, "checkpoint_every": 0, "early_stopping": patience}
    shared = make_data("binary", cache=cache)
    for change in ({}, {"learning_rate": 0.3}, {"min_data_in_leaf": 3} if library == "lightgbm" else {"max_depth": 2}):
        alone = fit(library, make_data("binary"), tmp_path, **params, **change)
        assert fit(library, shared, tmp_path, **params, **change).content == alone.content
    assert len(cache) == 1
    made = next(iter(cache.values()))
    fit(library, shared, tmp_path, **params)
    assert next(iter(cache.values())) is made


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("patience", [0, 5])
@pytest.mark.parametrize("library", LIBRARIES)
def test_rows_read_in_blocks_give_the_trees_of_rows_in_memory(
    library: str, patience: int, scattered: bool, tmp_path: Path
) -> None:
    recent = np.random.default_rng(3).random(900) < 0.2 if scattered else np.arange(900) >= 700
    data = make_data("multiclass", recent=recent)
    params = {"rounds": 15, "checkpoint_every": 6, "early_stopping": patience, **SAMPLED[library]}
    whole = fit(library, data, tmp_path, **params)
    blocks = mapped(data, tmp_path, 128)
    folder = tmp_path / "large"
    with pytest.raises(StopFitError):
        fit(library, blocks, folder, run=DyingRun(folder=folder, die_at=9), **params)
    found = fit(library, blocks, folder, run=FolderRun(folder=folder), **params)
    assert trees_of(found.content) == trees_of(whole.content)
    assert [path.suffix for path in folder.rglob("*")] == [".checkpoint"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_rows_read_in_blocks_are_watched_as_those_in_memory(library: str, tmp_path: Path) -> None:
    later = make_data("binary", 90, seed=1)
    data = make_data("binary", watch=Watch(matrix=later.matrix, target=later.target))
    curves = []
    for rows in (data, mapped(data, tmp_path, 128)):
        run = LooseRun(folder=tmp_path / "large")
        fit(library, rows, tmp_path, run=run, rounds=12)
        curves.append(run.curves)
    assert curves[0] == curves[1]
    assert len(curves[0]["watch_loss"]) == 12


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_monotone_feature_moves_predictions_one_way_also_over_segments(library: str, tmp_path: Path) -> None:
    data = make_data("regression", monotone=(1, 0, 0, -1, 0))
    found = fit(library, data, tmp_path, rounds=20, checkpoint_every=8)
    for feature, sign in ((0, 1), (3, -1)):
        grid = np.repeat(data.matrix[:20, None, :], 30, axis=1)
        grid[:, :, feature] = np.linspace(-3, 3, 30, dtype=np.float32)
        values = predicted(library, found.content, grid.reshape(-1, 5)).reshape(20, 30)
        assert (np.diff(values, axis=1) * sign >= -1e-6).all()


@pytest.mark.parametrize("patience", [0, 3])
def test_rows_with_nothing_to_split_give_a_model_of_the_rounds_it_says(patience: int, tmp_path: Path) -> None:
    data = make_data("binary", 60)
    found = fit("lightgbm", data, tmp_path, rounds=9, checkpoint_every=4, min_data_in_leaf=50, early_stopping=patience)
    assert 0 < found.facts["rounds"] < 9
    assert found.facts["rounds"] == trees("lightgbm", found.content)
    assert np.ptp(predicted("lightgbm", found.content, data.matrix)) == 0


def test_labels_whose_squares_float32_cannot_hold_are_refused_with_the_round(tmp_path: Path) -> None:
    data = make_data("regression")
    huge = make_data("regression", target=np.where(data.target > 0, 3e38, -3e38).astype(np.float32))
    with pytest.raises(TrainingError, match="loss on the"):
        fit("xgboost", huge, tmp_path, rounds=5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_graphics_card_that_is_not_used_is_no_silent_cpu(library: str, tmp_path: Path) -> None:
    if library == "xgboost" and xgboost.build_info()["USE_CUDA"]:
        pytest.skip("this xgboost can use a graphics card")
    with pytest.raises(TrainingError) as raised:
        fit(library, make_data("binary"), tmp_path, rounds=2, device="cuda")
    assert raised.value.where == "resources.gpu"


def test_seeds_of_segments_differ_and_fit_every_library() -> None:
    seeds = [segment_seed(7, start) for start in range(0, 1000, 100)]
    assert seeds[0] == 7
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
