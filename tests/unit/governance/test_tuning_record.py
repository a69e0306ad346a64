"""A search in brief travels through a recipe and through the evidence unchanged."""

from __future__ import annotations

import math
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from millrace.artifact import canonical
from millrace.governance.tuning_record import TrialPoint, TuningRecord

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
POINTS = st.builds(
    TrialPoint,
    number=st.integers(0, 10_000),
    value=st.none() | NUMBERS,
    state=st.sampled_from(["complete", "pruned", "failed"]),
)
RECORDS = st.builds(
    TuningRecord,
    metric=st.sampled_from(["auc", "log_loss", "rmse"]),
    folds=st.lists(st.text(max_size=8), max_size=3),
    trials=st.dictionaries(st.text(max_size=8), st.integers(0, 100), max_size=3),
    value=NUMBERS,
    untuned=st.none() | NUMBERS,
    params=st.dictionaries(
        st.text(max_size=8), NUMBERS | st.text(max_size=4) | st.lists(st.integers(0, 9)), max_size=3
    ),
    importance=st.dictionaries(st.text(max_size=8), NUMBERS, max_size=3),
    history=st.lists(POINTS, max_size=4),
)


@settings(max_examples=40)
@given(record=RECORDS)
def test_a_record_survives_json_by_either_reader(record: TuningRecord) -> None:
    plain: dict[str, Any] = orjson.loads(canonical(record.to_dict()))
    assert TuningRecord.from_dict(plain) == record
    adapter = TypeAdapter(TuningRecord)
    assert adapter.validate_python(plain) == record
    assert canonical(adapter.dump_python(record, mode="json")) == canonical(plain)


def test_a_record_of_a_later_layout_is_read_and_what_is_no_number_is_none() -> None:
    point = TrialPoint(number=0, value=math.inf, state="complete")
    plain = TuningRecord(metric="rmse", folds=["2013-01"], trials={"complete": 1}, value=1.5, history=[point]).to_dict()
    later = {**plain, "added_since": 1, "history": [{**plain["history"][0], "added_since": 2}]}
    found = TuningRecord.from_dict(later)
    assert found == TypeAdapter(TuningRecord).validate_python(later)
    assert found.history == [TrialPoint(number=0, value=None, state="complete")]
