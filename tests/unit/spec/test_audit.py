"""Columns that rows are told apart by must exist."""

from __future__ import annotations

import pytest

from millrace.errors import SpecError
from millrace.settings import Settings
from millrace.spec import UseCaseSpec, load_domain, load_use_case
from millrace.spec.audit import find_unknown_audited
from millrace.spec.load import check_values


@pytest.mark.parametrize(
    ("slices", "sensitive", "says"),
    [
        (["origin", "tailnum", ["origin", "plane_seats"]], ["carrier"], []),
        (["origin", "carier"], [], ["'carier'", "evaluation.slices.1", "did you mean 'carrier'"]),
        ([["origin", "no_such_thing"]], [], ["'no_such_thing'", "evaluation.slices.0", "name one of: dep_minute"]),
        ([], ["sex"], ["'sex'", "evaluation.sensitive.0", "clean column of 'flights'"]),
        ([], ["label"], ["no column 'label'", "evaluation.sensitive.0"]),
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


def test_a_clean_column_of_a_name_that_training_sets_keep_is_told_so(settings: Settings) -> None:
    use_case, domain = load_use_case(settings.dags, "flight_delay"), load_domain(settings.dags, "flights")
    source = domain.sources["flights"]
    renamed = source.model_copy(update={"columns": {**source.columns, "label": source.columns["carrier"]}})
    domain = domain.model_copy(update={"sources": {**domain.sources, "flights": renamed}})
    evaluation = use_case.evaluation.model_copy(update={"slices": [], "sensitive": ["label"]})
    (found,) = find_unknown_audited(use_case.model_copy(update={"evaluation": evaluation}), domain)
    for word in ("clean column 'label' has a name", "evaluation.sensitive.0", "give the clean column another name"):
        assert word in str(found)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("slices", ["carrier", ["carrier", "carrier"]], "carrier, carrier crosses a column with itself"),
        ("slices", ["carrier", "origin", "carrier"], "carrier stands in `slices` twice"),
        ("slices", [["carrier", "origin"], ["origin", "carrier"]], "carrier, origin stands in `slices` twice"),
        ("sensitive", ["carrier", "carrier"], "carrier stands in `sensitive` twice"),
    ],
)
def test_what_is_told_apart_twice_is_refused_with_its_key(
    settings: Settings, key: str, value: list[object], says: str
) -> None:
    plain = load_use_case(settings.dags, "flight_delay").model_dump()
    with pytest.raises(SpecError) as error:
        check_values(UseCaseSpec, {**plain, "evaluation": {**plain["evaluation"], key: value}}, where="f.yaml")
    for word in (says, f"evaluation.{key}", "f.yaml"):
        assert word in str(error.value)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_use_case_says_what_it_is_for(settings: Settings, text: str) -> None:
    plain = load_use_case(settings.dags, "flight_delay").model_dump()
    with pytest.raises(SpecError, match="description: say what is predicted"):
        check_values(UseCaseSpec, {**plain, "description": text}, where="f.yaml")
