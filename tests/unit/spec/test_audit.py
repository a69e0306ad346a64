"""Columns that rows are told apart by must exist."""

from __future__ import annotations

import pytest

from millrace.settings import Settings
from millrace.spec import load_domain, load_use_case
from millrace.spec.audit import find_unknown_audited


@pytest.mark.parametrize(
    ("slices", "sensitive", "says"),
    [
        (["origin", "tailnum", ["origin", "plane_seats"]], ["carrier"], []),
        (["origin", "carier"], [], ["'carier'", "evaluation.slices.1", "did you mean 'carrier'"]),
        ([["origin", "no_such_thing"]], [], ["'no_such_thing'", "evaluation.slices.0", "name one of: dep_minute"]),
        ([], ["sex"], ["'sex'", "evaluation.sensitive.0", "clean column of 'flights'"]),
        ([], ["label"], ["'label'", "evaluation.sensitive.0"]),
    ],
)
def test_a_column_that_is_neither_a_feature_nor_a_clean_one_is_named_with_file_key_and_remedy(
    settings: Settings, slices: list[object], sensitive: list[str], says: list[str]
) -> None:
    use_case = load_use_case(settings.dags, "flight_delay")
    evaluation = use_case.evaluation.model_copy(update={"slices": slices, "sensitive": sensitive})
    found = find_unknown_audited(
        use_case.model_copy(update={"evaluation": evaluation}), load_domain(settings.dags, "flights")
    )
    assert len(found) == bool(says)
    for word in (*says, *(["use_cases/flight_delay.yaml"] if says else [])):
        assert word in str(found[0])
