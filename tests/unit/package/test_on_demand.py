from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.training.synthetic import make_domain, make_use_case

from millrace.errors import FeatureError, SpecError
from millrace.package import FeatureSpec, OnDemandFunctions, read_sources
from millrace.package.definition import describe_view
from millrace.package.golden import same_values
from millrace.package.on_demand_function import OnDemandFunction
from millrace.spec import DomainSpec, UseCaseSpec

SOURCE = """
import math
import numpy as np


def mix(columns):
    cold = np.where(columns["warmth"] < 0, "cold", "mild").astype(object)
    cold[np.isnan(columns["warmth"])] = None
    rain = np.array([sky == "rain" for sky in columns["sky"]])
    return {"felt": columns["warmth"] - 3 * rain, "share": columns["size"] / columns["depth"], "cold": cold}
"""


def on_demand(**changes: Any) -> dict[str, Any]:
    return {
        "function": "shops/mix.py:mix",
        "inputs": {"town_weather": ["sky", "warmth"]},
        "request": {"size": "number", "depth": "number"},
        "features": {"felt": "number", "share": "number", "cold": "category"},
        "tags": {"subject": "weather"},
        "description": "What it feels like.",
        **changes,
    }


def domain(**changes: Any) -> DomainSpec:
    plain = make_domain().model_dump()
    plain["sources"]["sales"]["kind"] = "file"
    return DomainSpec.model_validate({**plain, "on_demand": {"mix": on_demand(**changes)}})


def use_case(**features: Any) -> UseCaseSpec:
    plain = make_use_case().model_dump()
    asked = {"on_demand": {"mix": ["cold", "share"]}, "categorical": ["sky", "cold"], **features}
    return UseCaseSpec.model_validate({**plain, "features": {**plain["features"], **asked}})


def function(source: str = SOURCE, **changes: Any) -> OnDemandFunction:
    return OnDemandFunction(describe_view("mix", domain(**changes)), source)


def columns(rows: int = 4, **changes: Any) -> dict[str, Any]:
    plain = {
        "sky": ["rain", None, "clear", "rain"],
        "warmth": [1.5, None, -2.0, float("nan")],
        "size": [1.0, 2.0, 3.0, 0.0],
        "depth": [2.0, 0.0, None, 0.0],
    }
    return {**{name: values[:rows] for name, values in plain.items()}, **changes}


def test_lists_numpy_and_arrow_give_the_same_bits() -> None:
    plain = function().compute(columns(), 4)
    assert same_values(plain["felt"], [-1.5, None, -2.0, None])
    assert same_values(plain["share"], [0.5, None, None, None]), "what is not finite is missing"
    assert plain["cold"] == ["mild", None, "cold", None]
    arrow = {name: pa.chunked_array([pa.array(values[:1]), pa.array(values[1:])]) for name, values in columns().items()}
    numpy = {name: np.array(values, object if name == "sky" else float) for name, values in columns().items()}
    for other in (arrow, numpy):
        found = function().compute(other, 4)
        assert all(same_values(found[name], plain[name]) for name in plain)
    assert {name: list(values) for name, values in function().compute(columns(0), 0).items()} == {
        "felt": [],
        "share": [],
        "cold": [],
    }


NUMBER = st.one_of(st.none(), st.floats(), st.integers(-(2**70), 2**70), st.booleans())


@given(st.lists(st.tuples(st.sampled_from(["rain", "", None]), NUMBER, NUMBER, NUMBER), min_size=1, max_size=20))
def test_a_row_alone_has_what_it_has_among_others(rows: list[tuple[Any, ...]]) -> None:
    names = ["sky", "warmth", "size", "depth"]
    whole = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    found = function().compute(whole, len(rows))
    for place in range(len(rows)):
        alone = function().compute({name: [values[place]] for name, values in whole.items()}, 1)
        assert all(same_values(alone[name], list(found[name])[place : place + 1]) for name in found)


def test_the_function_cannot_change_what_it_is_given() -> None:
    given_numbers = np.array([1.0, 2.0, 3.0, 4.0])
    changing = 'def mix(columns):\n    columns["warmth"][0] = 9\n    return {}\n'
    with pytest.raises(FeatureError, match="raises ValueError"):
        function(changing).compute(columns(warmth=given_numbers), 4)
    assert given_numbers[0] == 1.0


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("return columns", "returns no feature 'felt', 'share', 'cold'"),
        ("return [1, 2]", "returns a list"),
        ("return {'felt': columns['warmth'], 'share': columns['warmth']}", "returns no feature 'cold'"),
        ("return {**FULL, 'more': columns['sky']}", "returns 'more'"),
        ("return {**FULL, 'felt': columns['warmth'][:3]}", "returns 3 values of 'felt' for 4 rows"),
        ("return {**FULL, 'felt': 1.0}", "returns one value of 'felt' for 4 rows"),
        ("return {**FULL, 'felt': np.ones((4, 2))}", r"returns shape \(4, 2\) of 'felt'"),
        ("return {**FULL, 'felt': columns['sky']}", "column 'felt' is a number"),
        ("return {**FULL, 'cold': np.array([0.5] * 4)}", "column 'cold' is a category"),
        ("return {**FULL, 'felt': np.ma.masked_all(4)}", "returns 'felt' masked"),
        ("return {'felt': columns['warmht']}", "asks for column 'warmht'"),
        ("return columns['warmth'].sum() / {}['secret value']", "raises KeyError"),
        ("return pandas.DataFrame()", "raises NameError"),
        ("return __import__('pandas').DataFrame()", "raises ImportError"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told_with_file_function_and_remedy(body: str, fault: str) -> None:
    full = "{'felt': columns['warmth'], 'share': columns['size'], 'cold': columns['sky']}"
    source = f"import numpy as np\n\ndef mix(columns):\n    {body.replace('FULL', full)}\n"
    with pytest.raises(FeatureError, match=fault) as caught:
        function(source).compute(columns(), 4)
    assert "shops/mix.py" in caught.value.where
    assert "mix" in str(caught.value)
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


def test_the_line_that_fails_is_named() -> None:
    source = "import json\n\ndef help(text):\n    return json.loads(text)\n\ndef mix(columns):\n    return help('{')\n"
    with pytest.raises(FeatureError, match="raises JSONDecodeError") as caught:
        function(source).compute(columns(), 4)
    assert caught.value.where.startswith("shops/mix.py, line 4")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import pandas as pd\ndef mix(columns): ...", "imports 'pandas'"),
        ("def mix(columns):\n    from millrace.lake import Table", "imports 'millrace.lake'"),
        ("from . import other\ndef mix(columns): ...", "imports '.'"),
        ("def mix(columns:\n    return 1", "is no Python"),
        ("def mixed(columns): ...", "did you mean 'mixed'"),
        ("raise OSError('no such thing')", "fails when it is loaded: OSError"),
    ],
)
def test_a_file_that_does_not_load_is_refused_with_its_line(source: str, fault: str) -> None:
    with pytest.raises(FeatureError) as caught:
        function(source)
    assert fault in str(caught.value)
    assert "shops/mix.py" in caught.value.where


def test_a_column_that_is_missing_or_too_short_is_named() -> None:
    with pytest.raises(FeatureError, match="'depth', which on-demand view 'mix' reads, is missing"):
        function().compute({name: values for name, values in columns().items() if name != "depth"}, 4)
    with pytest.raises(FeatureError, match="column 'size' has 1 values for 4 rows"):
        function().compute(columns(size=[1.0]), 4)


def test_the_feature_spec_tells_what_is_sent_looked_up_computed_and_hidden(tmp_path: Path) -> None:
    features = FeatureSpec.of(use_case(views={"town_weather": ["sky", "nothing"]}), domain())
    assert features.columns == ["size", "age", "kind", "sky", "nothing", "cold", "share"]
    assert [column.name for column in features.request] == ["size", "age", "kind", "depth"]
    assert [(view.view, view.features) for view in features.lookups] == [("town_weather", ["sky", "nothing", "warmth"])]
    assert [view.features for view in features.views] == [["sky", "nothing"]]
    assert [column.name for column in features.hidden] == ["depth", "warmth"]
    assert [column.name for column in features.inputs] == [
        "size",
        "age",
        "kind",
        "depth",
        "sky",
        "nothing",
        "warmth",
    ]
    assert (features.computed, features.categories) == (["cold", "share"], ["kind", "sky", "cold"])
    assert FeatureSpec.from_dict(features.to_dict()) == features
    assert features.service_spec() == use_case(views={"town_weather": ["sky", "nothing"]}).features
    (tmp_path / "shops").mkdir()
    with pytest.raises(FeatureError, match="cannot be read"):
        read_sources(features.on_demand, tmp_path)
    (tmp_path / "shops" / "mix.py").write_text(SOURCE, encoding="utf-8")
    functions = OnDemandFunctions(features, read_sources(features.on_demand, tmp_path))
    found = functions.add_table(pa.table(columns()))
    assert found.column_names == ["sky", "warmth", "size", "depth", "cold", "share"]
    assert found.column("share").to_pylist() == [0.5, None, None, None]
    assert found.schema.field("cold").type == pa.string()
    with pytest.raises(FeatureError, match="already a column"):
        functions.add_table(found)
    with pytest.raises(FeatureError, match="no text of on-demand view 'mix'"):
        OnDemandFunctions(features, {})


def test_a_view_only_functions_read_is_looked_up_with_its_keys() -> None:
    features = FeatureSpec.of(use_case(views={}, categorical=["cold"]), domain())
    assert features.views == []
    assert [(view.view, view.entities, view.features) for view in features.lookups] == [
        ("town_weather", ["town"], ["sky", "warmth"])
    ]
    assert features.entities == ["town"]


def test_what_was_written_before_there_were_functions_is_read() -> None:
    plain = FeatureSpec.of(make_use_case(), make_domain()).to_dict()
    del plain["on_demand"]
    assert FeatureSpec.from_dict(plain).on_demand == []


@pytest.mark.parametrize(
    ("features", "changes", "fault"),
    [
        ({"on_demand": {"mxi": ["cold"]}}, {}, "did you mean 'mix'"),
        ({"on_demand": {"mix": ["cold", "shar"]}}, {}, "did you mean 'share'"),
        ({"categorical": ["sky"]}, {}, "'cold' is a category of 'mix' and a number of the model"),
        ({}, {"request": {"kind": "number", "size": "number"}}, "'kind' is a number of 'mix' and a category"),
        ({"row": {"warmth": "number"}, "views": {"town_weather": ["sky"]}}, {}, "'warmth' would be two columns"),
        ({"views": {}, "row": {"felt": "number"}, "categorical": ["cold"]}, {}, ""),
    ],
)
def test_a_service_that_does_not_fit_its_functions_is_refused(
    features: dict[str, Any], changes: dict[str, Any], fault: str
) -> None:
    if not fault:
        FeatureSpec.of(use_case(**features), domain())
        return
    with pytest.raises(SpecError) as caught:
        FeatureSpec.of(use_case(**features), domain(**changes))
    assert fault in str(caught.value)
    assert "use_cases/sold.yaml: features.on_demand" in caught.value.where


def test_a_leak_is_none_through_a_function_either() -> None:
    leaking = use_case().model_copy(update={"leaks": ["depth"]})
    with pytest.raises(SpecError, match="reads 'depth', which the use case declares as leaks"):
        FeatureSpec.of(leaking, domain())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"inputs": {"town_wether": ["sky"]}}, "no feature table 'town_wether'; did you mean 'town_weather'"),
        ({"inputs": {"town_weather": ["skyy"]}}, "no feature 'skyy'; did you mean 'sky'"),
        ({"request": {"sky": "category"}}, "reads two columns of the name 'sky'"),
        ({"features": {"warmth": "number"}}, "'warmth' is in town_weather already"),
        ({"features": {"size": "number"}}, "'size' is in its own request already"),
        ({"inputs": {}, "request": {}}, "give inputs, request or both"),
    ],
)
def test_a_view_that_does_not_fit_its_domain_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match="on_demand") as caught:
        domain(**changes)
    assert fault in str(caught.value)


def test_null_and_nan_are_one_missing_value_and_zero_has_a_sign() -> None:
    assert same_values([None, float("nan"), 0.0, "a"], np.array([np.nan, None, 0.0, "a"], object))
    assert not same_values([0.0], [-0.0])
    assert not same_values(["a"], [None])
    assert not same_values([1.0], [float(np.nextafter(1.0, 2.0))])


def test_a_spec_is_a_value() -> None:
    view = describe_view("mix", domain())
    assert dataclasses.replace(view) == view
    assert view.file == "on_demand_mix.py"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise SystemExit(3)", "mix raises SystemExit"),
        ("return {'felt': [[1], [2, 3]], 'share': [1, 1], 'cold': ['a', 'b']}", "returns shape"),
    ],
)
def test_a_function_that_exits_or_returns_rows_of_unequal_length_is_named(body: str, message: str) -> None:
    made = function(f"def mix(columns):\n    {body}\n")
    with pytest.raises(FeatureError, match=message):
        made.compute({item.name: [None, None] for item in made.view.reads}, 2)
