"""Several partitions held out: training lies before the first of them, and knows no label of their time."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gates.time_ordered import TimeOrdered
from millrace.evaluation.model_card import render_card

SEVERAL = {
    "training_partitions": ["2013-01"],
    "training_last_event": "2013-01-31T05:00:00Z",
    "training_label_known_at": "2013-02-01T05:00:00Z",
    "holdout": "2013-03",
    "holdout_first": "2013-02",
    "holdout_start": "2013-02-01T05:00:00Z",
    "holdout_first_event": "2013-02-01T10:00:00Z",
}


def of(plain: dict[str, Any], **changes: Any) -> Evidence:
    return Evidence.model_validate({**plain, "time": {**plain["time"], **SEVERAL, **changes}})


def test_what_lies_before_the_first_of_them_passes_and_all_are_named(plain: dict[str, Any]) -> None:
    bundle = of(plain)
    answer = TimeOrdered().answer(bundle)
    assert answer.outcome == "pass"
    assert "measured on 2013-02 to 2013-03" in answer.sentence
    card = render_card(bundle, bundle.digest, [])
    assert "measured on 2013-02 to 2013-03" in card.html
    assert "2013-02 to 2013-03" in card.markdown


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"training_partitions": ["2013-01", "2013-02"]}, "training reaches into 2013-02, the holdout is 2013-02 to"),
        ({"training_last_event": "2013-02-01T05:00:00Z"}, "the holdout begins 2013-02-01"),
        ({"training_label_known_at": "2013-02-01T05:00:01Z"}, "a label trained on became known 2013-02-01T05:00:01Z"),
    ],
)
def test_training_that_reaches_into_any_of_them_fails(plain: dict[str, Any], change: dict[str, Any], says: str) -> None:
    answer = TimeOrdered().answer(of(plain, **change))
    assert answer.outcome == "fail"
    assert says in answer.sentence


def test_the_bundle_of_one_partition_has_none_of_the_new_fields(plain: dict[str, Any]) -> None:
    assert set(SEVERAL) - set(Evidence.model_validate(plain).document()["time"]) == {
        "holdout_first",
        "training_label_known_at",
    }
    assert set(SEVERAL) <= set(of(plain).document()["time"])
