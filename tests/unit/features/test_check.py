from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.features.conftest import DAGS

from millrace.features.check import find_faults
from millrace.spec import DomainSpec, UseCaseSpec, list_specs, load_use_case
from millrace.spec.cleanup import DeriveStep

FOLDER = DAGS / "domains"


@pytest.fixture
def use_case() -> UseCaseSpec:
    return load_use_case(DAGS, "flight_delay")


def changed(use_case: UseCaseSpec, **values: Any) -> UseCaseSpec:
    return use_case.model_copy(update=values)


def test_what_is_shipped_has_no_faults(domain: DomainSpec) -> None:
    for name in list_specs(DAGS, "use_cases"):
        assert find_faults(domain, load_use_case(DAGS, name), FOLDER) == []


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"views": {"carrier_delay": ["carrier_late_share_1d"]}}, "did you mean 'carrier_delays'"),
        ({"views": {"carrier_delays": ["carrier_late_share_1day"]}}, "did you mean 'carrier_late_share_1d'"),
        ({"row": {"distanse": "number"}}, "did you mean 'distance'"),
        ({"row": {"arr_delay": "number"}}, "'arr_delay' is a leak"),
        ({"row": {"label": "number"}}, "keep for themselves"),
    ],
)
def test_a_fault_in_a_service_is_named_with_a_remedy(
    domain: DomainSpec, use_case: UseCaseSpec, features: dict[str, Any], message: str
) -> None:
    wrong = changed(use_case, features=use_case.features.model_copy(update={"categorical": [], **features}))
    faults = find_faults(domain, wrong, FOLDER)
    assert any(message in str(fault) for fault in faults)
    assert all(fault.where.startswith("use_cases/flight_delay.yaml") and fault.remedy for fault in faults)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"entity": {"source": "flight"}}, "no source 'flight'"),
        ({"entity": {"key": "flight_nr"}}, "no clean column 'flight_nr'"),
        ({"label": {"expression": "arr_dealy > 15"}}, "the label does not compile"),
        ({"label": {"weight": "random()"}}, "the weight calls random, which gives another value at every run"),
        ({"label": {"expression": "arr_delay > avg(arr_delay) OVER ()"}}, "the label is no value of one row"),
        ({"label": {"weight": "carrier"}}, "the weight is VARCHAR, not a number"),
        ({"label": {"weight": "distance > 100"}}, "the weight is BOOLEAN, not a number"),
        ({"label": {"expression": "sched_dep_at"}}, "the label is TIMESTAMP, not a number"),
        ({"leaks": ["dep_dealy"]}, "did you mean 'dep_delay'"),
        ({"domain": "trains"}, "is on domain 'trains'"),
    ],
)
def test_a_fault_in_entity_label_or_leaks_is_named(
    domain: DomainSpec, use_case: UseCaseSpec, values: dict[str, Any], message: str
) -> None:
    filled = {
        key: getattr(use_case, key).model_copy(update=value) if isinstance(value, dict) else value
        for key, value in values.items()
    }
    assert any(message in str(fault) for fault in find_faults(domain, changed(use_case, **filled), FOLDER))


def test_sql_that_does_not_compile_is_a_fault_of_the_domain(domain: DomainSpec, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(FOLDER, tmp_path / "domains")
    (tmp_path / "domains" / "flights" / "planes.sql").write_text("SELECT tailnum FROM plains", encoding="utf-8")
    faults = find_faults(domain, None, tmp_path / "domains")
    assert [fault.where for fault in faults] == ["flights/planes.sql"]
    assert "plains" in faults[0].what


def test_a_function_that_cannot_be_called_is_a_fault_of_the_domain(domain: DomainSpec, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(FOLDER, tmp_path / "domains")
    text = "def tail_delays(sources):\n    return sources"
    (tmp_path / "domains" / "flights" / "tail.py").write_text(text, encoding="utf-8")
    (fault,) = find_faults(domain, None, tmp_path / "domains")
    assert fault.where == "flights/tail.py:tail_delays"
    assert "takes 1 positional argument" in fault.what
    assert fault.remedy


def test_a_derivation_that_does_not_compile_is_named(domain: DomainSpec) -> None:
    source = domain.sources["weather"]
    broken = source.model_copy(update={"cleanup": [DeriveStep(derive={"known_at": "tim + 1"})]})
    wrong = domain.model_copy(update={"sources": {**domain.sources, "weather": broken}})
    (fault,) = find_faults(wrong, None, FOLDER)
    assert fault.where.endswith("sources.weather.cleanup[0].derive.known_at")


@pytest.mark.parametrize(
    ("imported", "clock"),
    [
        ("from datetime import datetime", "datetime.now().year"),
        ("from time import time as moment", "moment() // 1e9"),
        ("import numpy as np", "np.datetime64('today').astype(int)"),
    ],
)
def test_an_on_demand_function_that_reads_a_clock_is_told_though_calls_within_a_day_agree(
    domain: DomainSpec, tmp_path: Path, imported: str, clock: str
) -> None:
    import shutil

    shutil.copytree(FOLDER, tmp_path / "domains")
    text = f"{imported}\n\n\ndef plane_age(columns):\n    return {{'plane_age': {clock} - columns['plane_year']}}\n"
    (tmp_path / "domains" / "flights" / "on_demand.py").write_text(text, encoding="utf-8")
    view = domain.model_copy(update={"on_demand": {"plane_age": domain.on_demand["plane_age"]}})
    (fault,) = find_faults(view, None, tmp_path / "domains")
    assert f"plane_age calls {clock.partition('(')[0]}(), which gives another value another day" in fault.what
    assert "request" in fault.remedy
