"""Several classes in the prediction log, and how far their probabilities move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from millrace.document import load_document
from millrace.lake import Table
from millrace.monitoring.drift import measure_predictions
from millrace.monitoring.prediction_log import (
    LIVE,
    join_first_scores,
    log_predictions,
    logged_predictions,
    read_first_scores,
    read_labelled,
)
from millrace.monitoring.reference import build_reference, load_reference, load_sample, shown_predictions
from millrace.settings import Settings
from millrace.spec import UseCaseSpec, load_use_case

AT = datetime(2013, 4, 2, 12, tzinfo=UTC)
INSTANT = pa.timestamp("us", "UTC")
CLASSES = ["z", "a", "m"]


@pytest.fixture
def use_case(settings: Settings) -> UseCaseSpec:
    """Classes whose order is not that of their names, as it need not be."""
    plain = load_use_case(settings.dags, "flight_delay").model_dump()
    plain |= {"problem": "multiclass", "classes": CLASSES, "evaluation": {"metric": "log_loss"}}
    return UseCaseSpec.model_validate(plain)


def log(keys: list[str], prediction: np.ndarray, release: int = 1, minute: int = 0) -> pa.Table:
    size = len(keys)
    return pa.table(
        {
            "key": keys,
            "event_timestamp": pa.array([AT + timedelta(hours=ord(key)) for key in keys], INSTANT),
            "release": pa.array([release] * size, pa.int64()),
            "package": [str(release)] * size,
            "role": [LIVE] * size,
            **log_predictions(prediction),
            "feature_snapshot": ["s"] * size,
            "recorded_at": pa.array([AT + timedelta(minutes=minute)] * size, INSTANT),
        }
    )


@hypothesis_settings(max_examples=50, deadline=None)
@given(rows=st.integers(0, 20), classes=st.integers(2, 6), seed=st.integers(0, 1000))
def test_what_was_predicted_comes_back_from_the_columns_of_the_log(rows: int, classes: int, seed: int) -> None:
    given_ = np.random.default_rng(seed).dirichlet(np.ones(classes), rows)
    table = pa.table(log_predictions(given_))
    assert table.column("prediction").to_pylist() == given_.argmax(axis=1).astype(float).tolist()
    for found in (table, pa.concat_tables([table.slice(0, rows // 2), table.slice(rows // 2)])):
        assert logged_predictions(found).tolist() == given_.tolist()
    single = given_[:, 0]
    assert logged_predictions(pa.table(log_predictions(single))).tolist() == single.tolist()


def test_the_log_keeps_probabilities_and_the_first_score_of_a_row_counts_with_its_label(
    use_case: UseCaseSpec, settings: Settings
) -> None:
    first, second = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]), np.array([[1.0, 0.0, 0.0]] * 2)
    table = Table(settings.lake, use_case.table("predictions"))
    table.append(log(["b", "a"], first), partition="2013-04", marker="1")
    table.append(log(["a", "b"], second, release=2, minute=5), partition="2013-04", marker="2")
    scores = read_first_scores(use_case, "2013-04", lake=settings.lake)
    assert scores is not None
    assert scores.column("key").to_pylist() == ["a", "b"]
    assert logged_predictions(scores).tolist() == [[0.1, 0.1, 0.8], [0.2, 0.5, 0.3]]
    labels = pa.table({"key": ["a", "b"], "label": [2.0, None], "label_known_at": pa.array([AT, AT], INSTANT)})
    joined = join_first_scores(scores, labels, cut=AT)
    assert joined.column("key").to_pylist() == ["a"]
    labelled = Table(settings.lake, use_case.table("labelled"))
    assert labelled.replace(joined, partition="2013-04").changed
    assert not labelled.replace(joined, partition="2013-04").changed
    found = read_labelled(use_case, "2013-04", lake=settings.lake)
    assert (found.column("prediction").to_pylist(), logged_predictions(found).tolist()) == ([2.0], [[0.1, 0.1, 0.8]])
    assert read_labelled(use_case, "2013-05", lake=settings.lake).column_names == found.column_names


def test_a_move_of_one_probability_shows_though_the_most_probable_class_stays(
    use_case: UseCaseSpec, settings: Settings
) -> None:
    random = np.random.default_rng(0)
    size = 3000
    rows = pa.table(
        {
            name: random.choice(["A", "B"], size).tolist()
            if name in use_case.features.categories
            else random.normal(size=size)
            for name in use_case.features.columns
        }
    )
    before = random.dirichlet([40, 10, 10], size)
    digest = build_reference(use_case, rows, before, settings=settings)
    assert digest == build_reference(use_case, rows, before, settings=settings)
    reference = load_reference(digest, settings=settings)
    sample = load_sample(digest, reference, settings=settings)
    assert set(sample.column("prediction").to_pylist()) == {"z"}

    def moved(prediction: np.ndarray) -> dict[str, float]:
        shown = shown_predictions(use_case, prediction)
        return {item.name: item.psi for item in measure_predictions(reference, shown, prediction, CLASSES)}

    same = moved(random.dirichlet([40, 10, 10], size))
    assert max(same.values()) < 0.05
    other = moved(random.dirichlet([40, 18, 2], size))
    assert list(other)[-1] == "prediction"
    assert other["prediction"] < 0.05
    assert other["probability of a"] > 0.2
    assert other["probability of m"] > 0.2


def test_the_reference_of_one_number_a_row_is_stored_as_it_always_was(settings: Settings) -> None:
    use_case = load_use_case(settings.dags, "flight_delay")
    rows = pa.table(
        {
            name: ["A"] * 20 if name in use_case.features.categories else list(range(20))
            for name in use_case.features.columns
        }
    )
    digest = build_reference(use_case, rows, np.linspace(0, 1, 20), settings=settings)
    document = load_document(settings.var / "references", digest)
    assert set(document) == {"format", "use_case", "rows", "features", "prediction", "sample"}
