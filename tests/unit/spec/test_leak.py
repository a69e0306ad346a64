"""What the domain says is known late, no use case can make a feature of."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.errors import SpecError
from millrace.spec import find_leaks, load_domain, load_use_case, refuse_leaks


def changed(dags: Path, before: str, after: str) -> None:
    path = dags / "use_cases" / "flight_delay.yaml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def test_a_late_column_is_refused_even_where_the_use_case_no_longer_calls_it_a_leak(dags: Path) -> None:
    changed(dags, "leaks: [dep_time, dep_delay, ", "leaks: [dep_time, ")
    changed(dags, "    distance: number\n", "    distance: number\n    dep_delay: number\n")
    with pytest.raises(SpecError) as caught:
        refuse_leaks(load_use_case(dags, "flight_delay"), load_domain(dags, "flights"))
    assert "dep_delay" in str(caught.value)
    assert "use_cases/flight_delay.yaml: features.row" in str(caught.value)


def test_a_label_cannot_count_as_known_before_the_outcome(dags: Path) -> None:
    changed(dags, "  known_at: known_at", "  known_at: sched_dep_at")
    (fault,) = find_leaks(load_use_case(dags, "flight_delay"), load_domain(dags, "flights"))
    assert "sched_dep_at" in str(fault)


@pytest.mark.parametrize("name", ["flight_delay", "flight_duration"])
def test_the_use_cases_of_the_house_leak_nothing(dags: Path, name: str) -> None:
    assert find_leaks(load_use_case(dags, name), load_domain(dags, "flights")) == []


def test_a_function_on_demand_reads_no_late_column(dags: Path) -> None:
    domain, use_case = load_domain(dags, "flights"), load_use_case(dags, "flight_delay")
    late = domain.on_demand["plane_age"].model_copy(update={"request": {"year": "number", "air_time": "number"}})
    features = use_case.features.model_copy(update={"on_demand": {"plane_age": ["plane_age"]}})
    (fault,) = find_leaks(
        use_case.model_copy(update={"features": features}),
        domain.model_copy(update={"on_demand": {"plane_age": late}}),
    )
    assert "['air_time']" in fault.what
    assert fault.where.endswith("features.on_demand.plane_age")
    assert fault.remedy
