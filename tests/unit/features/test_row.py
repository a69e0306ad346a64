from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from tests.unit.training.synthetic import make_domain, make_use_case

from millrace.errors import FeatureError
from millrace.features.row import entity_table
from millrace.lake import Table
from millrace.spec import UseCaseSpec

DOMAIN = make_domain()
START = datetime(2020, 1, 3, tzinfo=UTC)
ANSWERS = ["low", "high", None, "middle"]


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """Clean rows of one month whose answer is a text."""
    instants = pa.array([START + timedelta(hours=hour) for hour in range(4)], pa.timestamp("us", tz="UTC"))
    clean = {
        "sale_id": list("abcd"),
        "sold_at": instants,
        "known_at": instants,
        "town": ["x"] * 4,
        "size": [1.0, 2.0, 3.0, 4.0],
        "age": [1.0] * 4,
        "kind": ["lamp"] * 4,
        "answer": ANSWERS,
    }
    Table(str(tmp_path), DOMAIN.clean_table("sales")).replace(pa.table(clean), partition="2020-01")
    return str(tmp_path)


def labelled(problem: str, expression: str, weight: str = "") -> UseCaseSpec:
    use_case = make_use_case(problem)
    label = use_case.label.model_copy(update={"expression": expression, "known_at": "known_at", "weight": weight})
    return use_case.model_copy(update={"label": label})


def test_a_multiclass_label_is_the_place_of_its_text_in_the_classes(lake: str) -> None:
    rows = entity_table(labelled("multiclass", "answer"), DOMAIN, "2020-01", lake=lake)
    assert rows.schema.field("label").type == pa.float64()
    assert rows.column("label").to_pylist() == [0.0, 2.0, None, 1.0]


def test_a_text_that_is_none_of_the_classes_is_named(lake: str) -> None:
    with pytest.raises(FeatureError, match="'HIGH'") as raised:
        entity_table(labelled("multiclass", "upper(answer)"), DOMAIN, "2020-01", lake=lake)
    assert "label.expression" in raised.value.where
    assert "low, middle, high" in raised.value.remedy


def test_weights_stand_beside_the_label_only_where_they_are_asked_for(lake: str) -> None:
    plain = entity_table(labelled("regression", "size"), DOMAIN, "2020-01", lake=lake)
    assert "label_weight" not in plain.column_names
    weighed = entity_table(labelled("regression", "size", "size / 2"), DOMAIN, "2020-01", lake=lake)
    assert weighed.column("label_weight").to_pylist() == [0.5, 1.0, 1.5, 2.0]
    assert weighed.drop_columns(["label_weight"]).equals(plain)


@pytest.mark.parametrize(
    ("expression", "weight", "says", "place"),
    [
        ("size * random()", "", "calls random, which gives another value at every run", "label.expression"),
        ("size", "epoch(now())", "the weight calls now", "label.weight"),
        ("size", "size / sum(size) OVER ()", "by a window", "label.weight"),
        ("max(size)", "", "an aggregate over many rows", "label.expression"),
        ("size", "(SELECT 1.0)", "a query of its own", "label.weight"),
        ("size", "town", "the weight is VARCHAR, not a number", "label.weight"),
        ("sold_at", "", "the label is TIMESTAMP, not a number", "label.expression"),
    ],
)
def test_what_is_no_number_of_the_row_alone_makes_no_training_set(
    lake: str, expression: str, weight: str, says: str, place: str
) -> None:
    with pytest.raises(FeatureError, match=says) as raised:
        entity_table(labelled("regression", expression, weight), DOMAIN, "2020-01", lake=lake)
    assert raised.value.where.endswith(place)
    assert raised.value.remedy


def test_a_value_that_does_not_convert_is_told_with_its_spec(lake: str) -> None:
    with pytest.raises(FeatureError, match="'x'") as raised:
        entity_table(labelled("regression", "CAST(town AS DOUBLE)"), DOMAIN, "2020-01", lake=lake)
    assert "use_cases/" in raised.value.where
    assert "TRY_CAST" in raised.value.remedy
