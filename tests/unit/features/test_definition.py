from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from millrace.errors import FeatureError
from millrace.features.definition import define_features, function_code, tables_read
from millrace.spec import DomainSpec, load_use_case

ROOT = Path(__file__).resolve().parents[3]
FILE = '''
"""Functions of a team."""
import math
import numpy as np

LIMIT = 3  # years
OTHER = 4


def _bounded(values):
    return np.minimum(values, LIMIT)


def age(columns):
    """Years."""
    return {"age": _bounded(columns["year"])}


def square(columns):
    return {"square": math.sqrt(OTHER)}
'''


def test_the_code_of_a_function_is_what_it_reaches_and_nothing_of_its_neighbours() -> None:
    code = function_code(FILE, "age")
    assert "def age" in code
    assert "def _bounded" in code
    assert "LIMIT = 3" in code
    assert "import numpy as np" in code
    assert not any(text in code for text in ("square", "OTHER", "import math", "# years", "of a team"))


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("# years", "# whole years", True),
        ("OTHER = 4", "OTHER = 5", True),
        ("    return np.minimum(values, LIMIT)", "\n    return np.minimum(values,\n        LIMIT)", True),
        ("LIMIT = 3", "LIMIT = 4", False),
        ("np.minimum", "np.maximum", False),
    ],
)
def test_code_changes_with_what_it_does_alone(before: str, after: str, same: bool) -> None:
    assert (function_code(FILE, "age") == function_code(FILE.replace(before, after), "age")) is same


def test_a_statement_that_runs_for_its_effect_belongs_to_every_function() -> None:
    assert "np.seterr" in function_code(FILE + "\nnp.seterr(all='raise')\n", "age")


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("from math import *", "from cmath import *"),
        ("globals()['LIMIT'] = 9", "globals()['LIMIT'] = 10"),
        ("np.pi = 3", "np.pi = 4"),
    ],
)
def test_what_changes_names_without_naming_them_belongs_to_every_function(text: str, changed: str) -> None:
    before, after = (function_code(f"{FILE}\n{line}\n", "age") for line in (text, changed))
    assert before != after


def test_a_file_that_is_missing_or_no_text_is_named_with_a_remedy(domain: DomainSpec, tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "dags" / "domains", tmp_path / "domains")
    for name in ("on_demand.py", "tail.py", "planes.sql"):
        file = folder / "flights" / name
        kept = file.read_bytes()
        file.write_bytes(b"\xff\xfe")
        with pytest.raises(FeatureError, match="cannot be read") as caught:
            define_features(domain, [], folder)
        assert (name in caught.value.where, bool(caught.value.remedy)) == (True, True)
        file.unlink()
        with pytest.raises(FeatureError, match=r"cannot be read|is missing") as caught:
            define_features(domain, [], folder)
        assert name in caught.value.where
        file.write_bytes(kept)


def test_what_is_no_python_is_told() -> None:
    with pytest.raises(FeatureError, match="no Python"):
        function_code("def (", "age")
    with pytest.raises(FeatureError, match=r"no Python: invalid syntax, line 2\n  where: shop/age.py"):
        function_code("\ndef (", "age", where="shop/age.py")


def test_definitions_of_the_flights_hold_owners_texts_and_what_services_read(domain: DomainSpec) -> None:
    use_cases = [load_use_case(ROOT / "dags", name) for name in ("flight_delay", "flight_duration")]
    found = define_features(domain, use_cases, ROOT / "dags" / "domains")
    assert {subject.partition(":")[0] for subject in found} >= {"table", "service"}
    for subject, definition in found.items():
        assert definition["domain"] == "flights"
        assert definition["meta"]["owners"]
        if not subject.startswith("service"):
            assert definition["meta"]["tags"]
            assert definition["logic"]["text"]
    service = found[f"service:{use_cases[0].features.name}"]
    assert tables_read(service["shape"], found)[0] >= set(use_cases[0].features.views)


def test_two_use_cases_may_not_name_one_service(domain: DomainSpec) -> None:
    first, second = (load_use_case(ROOT / "dags", name) for name in ("flight_delay", "flight_duration"))
    same = second.model_copy(update={"features": first.features})
    with pytest.raises(FeatureError, match="name one feature service"):
        define_features(domain, [first, same], ROOT / "dags" / "domains")
