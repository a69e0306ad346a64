"""What is read back of a boosted model: probabilities of classes, and what each feature adds."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import pytest
import xgboost
from tests.unit.training.boosting.boosted import LIBRARIES, PROBLEMS, fit, make_data

from millrace.package.predictor import Model, load_model
from millrace.training.base import TrainingData

FORMATS = {"xgboost": "xgboost-ubj", "lightgbm": "lightgbm-text"}


def read(library: str, data: TrainingData, content: bytes) -> Model:
    classes = data.classes if data.problem == "multiclass" else 0
    return load_model(FORMATS[library], content, encoder=data.encoder, problem=data.problem, threads=1, classes=classes)


def raw_scores(library: str, data: TrainingData, content: bytes) -> np.ndarray:
    """(rows, outputs) by the library itself."""
    if library == "lightgbm":
        found = lightgbm.Booster(model_str=content.decode()).predict(data.matrix, raw_score=True)
    else:
        found = xgboost.Booster(model_file=bytearray(content)).inplace_predict(data.matrix, predict_type="margin")
    return np.asarray(found, np.float64).reshape(len(data.target), -1)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_scores_have_one_column_a_class_and_rows_agree_with_the_batch(
    library: str, problem: str, tmp_path: Path
) -> None:
    data = make_data(problem, 300)
    model = read(library, data, fit(library, data, tmp_path, rounds=8, checkpoint_every=3).content)
    scores = model.score(data.matrix)
    assert scores.dtype == np.float64
    assert scores.shape == ((300, 3) if problem == "multiclass" else (300,))
    assert np.array_equal(np.concatenate([model.score(data.matrix[i : i + 1]) for i in range(50)]), scores[:50])
    assert model.score(data.matrix[:0]).shape == (0, *scores.shape[1:])
    if problem == "multiclass":
        assert np.allclose(scores.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_contributions_differ_from_the_raw_score_of_the_most_probable_class_by_its_bias_alone(
    library: str, problem: str, tmp_path: Path
) -> None:
    data = make_data(problem, 300)
    content = fit(library, data, tmp_path, rounds=8, checkpoint_every=3).content
    model = read(library, data, content)
    added, raw = model.contribute(data.matrix), raw_scores(library, data, content)
    assert added is not None
    assert added.shape == data.matrix.shape
    best = raw.argmax(axis=1)
    bias = raw[np.arange(300), best] - added.sum(axis=1)
    for chosen in np.unique(best):
        assert np.ptp(bias[best == chosen]) < 1e-4
    nothing = model.contribute(data.matrix[:0])
    assert nothing is not None
    assert nothing.shape == (0, data.matrix.shape[1])
