"""Plans over plain definitions: what is added, changed and removed, and what a release forbids."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from millrace.features.plan import Change, Plan, Standing, make_plan, next_name

TABLE: dict[str, Any] = {
    "domain": "flights",
    "meta": {"description": "d", "owners": ["a"], "tags": {"of": "carrier"}, "freshness_hours": 0, "origin": "t.sql"},
    "shape": {"entities": ["carrier"], "ttl_hours": 48, "static": False},
    "features": {"late": "float64", "mean": "float64"},
    "logic": {"look_back_days": 3, "sources": [], "text": "SELECT 1\nFROM flights\nWHERE x"},
}
VIEW: dict[str, Any] = {
    "domain": "flights",
    "meta": {"description": "d", "owners": ["a"], "tags": {"of": "plane"}, "origin": "f.py:age"},
    "shape": {"inputs": {"planes": ["plane_year"]}, "request": {"year": "number"}},
    "features": {"age": "number"},
    "logic": {"text": "def age(columns): ..."},
}
SERVICE: dict[str, Any] = {
    "domain": "flights",
    "meta": {"use_case": "delay", "description": "d", "owners": ["a"], "tier": "low"},
    "shape": {
        "views": {"delays": ["late"]},
        "row": {"hour": "number"},
        "on_demand": {"age": ["age"]},
        "categorical": [],
    },
    "features": {},
    "logic": {"fields": {}},
}
DECLARED = {
    "table:delays": TABLE,
    "table:planes": copy.deepcopy(TABLE),
    "on_demand:age": VIEW,
    "service:delay_v1": SERVICE,
}
RELEASED = {"delay_v1": ["delay 1", "delay 2"]}


def changed(subject: str, part: str = "", **values: Any) -> dict[str, Any]:
    declared = copy.deepcopy(DECLARED)
    (declared[subject][part] if part else declared[subject]).update(values)
    return declared


def plan(declared: dict[str, Any], *, released: bool = True, complete: bool = True, **more: Any) -> Plan:
    standing = Standing(applied=DECLARED, releases=RELEASED if released else {}, in_force={"delay 2"}, **more)
    return make_plan("flights", declared, standing, complete=complete)


def only(found: Plan) -> Change:
    (change,) = found.changes
    return change


def test_everything_is_added_to_an_empty_registry_tables_before_what_reads_them() -> None:
    found = make_plan("flights", DECLARED, Standing(applied={}), complete=True)
    assert [(item.action, item.subject) for item in found.changes] == [
        ("add", "table:delays"),
        ("add", "table:planes"),
        ("add", "on_demand:age"),
        ("add", "service:delay_v1"),
    ]
    assert found.put == DECLARED


def test_what_is_there_already_makes_an_empty_plan_with_a_digest_of_its_own() -> None:
    found = plan(DECLARED)
    assert (found.changes, found.put, found.drop, found.refused) == ([], {}, [], [])
    assert found.digest != plan(changed("table:delays", "meta", description="e")).digest


@pytest.mark.parametrize("part", ["description", "owners", "tags", "freshness_hours", "origin"])
def test_what_only_people_read_changes_under_any_release(part: str) -> None:
    found = only(plan(changed("table:delays", "meta", **{part: {"x": "y"} if part == "tags" else "other"})))
    assert (found.refusal, found.prove, found.note) == ("", False, "values stay as they are")


def test_an_unreleased_table_changes_in_place_whatever_changes() -> None:
    declared = changed("table:delays", "shape", ttl_hours=1)
    declared["table:delays"]["features"] = {"late": "int32"}
    found = only(plan(declared, released=False))
    assert (found.refusal, found.note) == ("", "no release stands on it: changed in place")
    assert {item.field for item in found.differences} == {"ttl_hours", "features.late", "features.mean"}


@pytest.mark.parametrize(("field", "value"), [("entities", ["origin"]), ("ttl_hours", 1), ("static", True)])
def test_the_shape_of_a_table_under_a_release_is_fixed_and_the_remedy_names_the_next(field: str, value: Any) -> None:
    found = only(plan(changed("table:delays", "shape", **{field: value})))
    assert found.refusal == f"releases delay 1, delay 2 stand on it, and {field} would change"
    assert "'delays_v2'" in found.remedy
    assert plan(changed("table:delays", "shape", **{field: value})).refused == [found]


def test_a_feature_of_a_released_table_stays_and_keeps_its_type() -> None:
    lost = only(plan(changed("table:delays", features={"late": "float64"})))
    assert "mean would be removed" in lost.refusal
    other = only(plan(changed("table:delays", features={"late": "float32", "mean": "float64"})))
    assert "late would be removed or get another type" in other.refusal


@pytest.mark.parametrize("values", [{"text": "SELECT 2"}, {"look_back_days": 9}, {"sources": ["flights"]}])
def test_other_logic_under_a_release_has_to_be_proven(values: dict[str, Any]) -> None:
    found = only(plan(changed("table:delays", "logic", **values)))
    assert (found.prove, found.refusal) == (True, "")
    assert found.refused("no").prove is False


def test_a_table_that_only_an_on_demand_view_looks_up_is_under_its_service_too() -> None:
    found = only(plan(changed("table:planes", "shape", ttl_hours=1)))
    assert found.releases == ["delay 1", "delay 2"]


@pytest.mark.parametrize(
    "declared",
    [
        changed("on_demand:age", "logic", text="def age(columns): return 1"),
        changed("on_demand:age", "shape", request={"month": "number"}),
        changed("on_demand:age", "shape", inputs={"planes": ["plane_seats"]}),
        changed("on_demand:age", features={}),
    ],
)
def test_a_released_function_is_fixed(declared: dict[str, Any]) -> None:
    found = only(plan(declared))
    assert found.refusal
    assert "'age_v2'" in found.remedy


@pytest.mark.parametrize(
    "values", [{"views": {"delays": ["late", "mean"]}}, {"row": {}}, {"on_demand": {}}, {"categorical": ["hour"]}]
)
def test_a_released_service_is_fixed_and_an_unreleased_one_is_not(values: dict[str, Any]) -> None:
    declared = changed("service:delay_v1", "shape", **values)
    found = only(plan(declared))
    assert "stand on it" in found.refusal
    assert "'delay_v2'" in found.remedy
    assert only(plan(declared, released=False)).refusal == ""


def test_the_service_of_another_use_case_is_not_taken_over_by_one_that_sees_only_itself() -> None:
    declared = changed("service:delay_v1", "meta", use_case="duration")
    assert "belongs to use case 'delay'" in only(plan(declared, released=False, complete=False)).refusal
    assert only(plan(declared, released=False, complete=True)).refusal == ""


def test_a_view_of_another_domain_is_not_taken_over() -> None:
    standing = Standing(applied=changed("table:delays", domain="trains"))
    refused = make_plan("flights", DECLARED, standing, complete=True).refused
    assert [change.name for change in refused] == ["delays"]
    assert "belongs to domain 'trains'" in refused[0].refusal


def test_what_is_no_longer_declared_goes_services_first_if_nothing_stands_on_it() -> None:
    found = plan({"table:planes": TABLE}, released=False)
    assert [(item.action, item.subject) for item in found.changes] == [
        ("remove", "service:delay_v1"),
        ("remove", "on_demand:age"),
        ("remove", "table:delays"),
    ]
    assert found.drop == ["service:delay_v1", "on_demand:age", "table:delays"]


def test_an_old_service_with_releases_and_what_it_reads_stay_where_no_release_of_it_serves() -> None:
    standing = Standing(applied=DECLARED, releases=RELEASED, in_force=set())
    assert make_plan("flights", {}, standing, complete=True).changes == []


def test_a_table_that_a_serving_release_reads_may_not_go() -> None:
    found = plan({"table:planes": TABLE, "on_demand:age": VIEW, "service:delay_v1": SERVICE})
    change = only(found)
    assert (change.subject, change.action) == ("table:delays", "remove")
    assert change.refusal == "release delay 2 is in force and reads it"
    assert found.drop == []


def test_one_who_does_not_see_all_services_removes_none() -> None:
    declared = {subject: item for subject, item in DECLARED.items() if not subject.startswith("service:")}
    assert plan(declared, released=False, complete=False).changes == []


def test_definitions_of_other_domains_are_left_alone() -> None:
    trains = {"table:trains": {**TABLE, "domain": "trains"}, "service:trains": {**SERVICE, "domain": "trains"}}
    assert make_plan("flights", DECLARED, Standing(applied={**DECLARED, **trains}), complete=True).changes == []


def test_a_service_known_only_from_its_sealed_package_is_fixed_too() -> None:
    sealed = {"meta": {"use_case": "delay"}, "shape": SERVICE["shape"], "logic": {}}
    standing = Standing(applied={**DECLARED, "service:delay_v1": sealed}, releases=RELEASED)
    assert only(make_plan("flights", DECLARED, standing, complete=True)).refusal == ""
    other = changed("service:delay_v1", "shape", row={})
    assert only(make_plan("flights", other, standing, complete=True)).refusal


def test_differences_of_a_text_show_what_is_near_a_change() -> None:
    found = only(plan(changed("table:delays", "logic", text="SELECT 1\nFROM flights\nWHERE y")))
    (difference,) = found.differences
    assert difference.lines() == ["@@ -2,2 +2,2 @@", " FROM flights", "-WHERE x", "+WHERE y"]


@pytest.mark.parametrize(
    ("name", "taken", "wanted"),
    [("planes", [], "planes_v2"), ("delay_v1", [], "delay_v2"), ("delay_v9", ["delay_v10", "delay_v11"], "delay_v12")],
)
def test_the_next_version_is_one_that_is_not_taken(name: str, taken: list[str], wanted: str) -> None:
    assert next_name(name, taken) == wanted
