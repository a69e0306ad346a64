"""`millrace features` on a small store: what people see, and the JSON beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import ActAs
from tests.unit.step import store as stores
from tests.unit.step.store import SQL, Store
from typer.testing import CliRunner

from millrace.cli.main import _app
from millrace.errors import FeatureError
from millrace.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, act_as: ActAs) -> Store:
    act_as("ann")
    made = stores.make(tmp_path / "store", settings)
    for name, value in {"VAR": settings.var, "DAGS": made.settings.dags}.items():
        monkeypatch.setenv(f"MILLRACE_{name}", str(value))
    monkeypatch.setenv("COLUMNS", "80")
    made.clean()
    return made


@pytest.fixture
def released(store: Store) -> Store:
    run("build", "store", "--from", "2020-01", "--to", "2020-03")
    run("apply", "--yes")
    store.release()
    return store


def run(*argv: str, answer: str | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(_app, ["features", *argv], input=answer)
    assert result.exit_code == code, (result.output, result.exception)
    assert all(len(line) <= 80 for line in result.output.splitlines() if not line.startswith(("{", "[")))
    return result.output


def document(*argv: str, code: int = 0) -> Any:
    return json.loads(run(*argv, "--json", code=code).splitlines()[-1])


def test_apply_shows_its_plan_asks_and_says_when_there_is_nothing_to_do(store: Store) -> None:
    told = run("apply", answer="n\n", code=1)
    assert "+ add feature table spending (1 feature)" in told
    assert "Apply?" in told
    told = run("apply", "store", answer="y\n")
    assert "Applied as revision 1; 3 objects read back as declared." in told
    assert run("apply") == "store: nothing to change.\n"
    (found,) = document("apply", "--plan")["domains"]
    assert (found["domain"], found["changes"], found["applied"]) == ("store", [], False)


def test_a_change_reads_as_its_difference_and_one_a_release_forbids_as_refused_with_its_remedy(
    released: Store,
) -> None:
    released.table(SQL.replace("sum(", "2 * sum("), description="What they spent.")
    told = run("apply", "--yes", code=1)
    assert "~ change feature table spending" in told
    assert "description: What a customer has spent. → What they spent." in told
    assert "-    sum(amount)" in told
    assert "+    2 * sum(amount)" in told
    assert "refused" in told
    assert "'spending_v2'" in told
    found = document("apply", "--yes", code=1)
    assert (found["refused"], found["domains"][0]["applied"]) == (True, False)


def test_nobody_is_asked_by_json(store: Store) -> None:
    assert "--yes or --plan" in run("apply", "--json", code=2)


def test_the_list_shows_features_by_table_and_can_be_narrowed(released: Store) -> None:
    told = run("list")
    assert "store.spending · admin · never" in told
    assert "the end of the domain's last partition that is over" in " ".join(told.split())
    assert "again_v1 (1 release)" in told
    (row,) = document("list")
    assert (row["feature"], row["type"], row["owners"], row["tags"]) == (
        "spent",
        "float64",
        ["admin"],
        {"of": "customer"},
    )
    assert (row["services"], row["releases"], row["status"]) == (["again_v1"], ["again 1"], "applied")
    assert document("list", "customer", "--tag", "of=customer", "--domain", "store") == [row]
    assert document("list", "--tag", "of") == [row]
    for narrowed in (["nothing"], ["--tag", "of=plane"], ["--domain", "other"]):
        assert document("list", *narrowed) == []
    assert "No feature is like that." in run("list", "nothing")


def test_a_description_has_owner_origin_values_rows_and_releases(released: Store) -> None:
    found = document("describe", "store.spending.spent")
    assert found["used_by"] == {"again_v1": ["again 1, serving"]}
    assert (found["rows"], found["partitions"], found["newest"]) == (180, 3, "2020-03")
    (feature,) = found["features"]
    assert feature["columns"] == {"orders": ["amount", "customer", "placed_at"]}
    assert sum(feature["distribution"]["counts"]) == feature["distribution"]["rows"] == 60
    assert found["freshness"]["verdict"] == "never"
    told = run("describe", "spending")
    for text in ("What a customer has spent.", "orders: amount, customer, placed_at", "180 rows in 3 partitions", "█"):
        assert text in told
    assert "again 1, serving" in run("describe", "again_v1")


def test_a_table_that_is_not_built_and_one_that_changed_are_told(store: Store) -> None:
    assert (document("describe", "spending")["rows"], document("describe", "spending")["status"]) == (
        0,
        "not applied yet",
    )
    run("apply", "--yes")
    store.table(description="Else.")
    assert document("describe", "spending")["status"] == "changed since it was applied"


def test_lineage_runs_from_columns_to_releases_and_back(released: Store) -> None:
    found = document("lineage", "spent")
    assert found["from"] == {"spent": {"orders": ["amount", "customer", "placed_at"]}}
    assert found["used_by"] == {"again_v1": ["again 1, serving"]}
    assert document("lineage", "orders.amount")["features"] == {"spending.spent": {"again_v1": ["again 1, serving"]}}
    assert "no feature is computed from it" in run("lineage", "orders.day")
    told = run("lineage", "spending")
    assert "orders: amount, customer, placed_at" in told
    assert "release again 1, serving" in told
    assert "row: amount" in run("lineage", "again_v1")


def test_an_old_version_that_is_only_in_the_registry_is_found(released: Store) -> None:
    released.service("again_v2", row={})
    run("apply", "--yes")
    found = document("describe", "again_v1")
    assert found["status"] == "in the registry, no longer declared"
    assert document("list")[0]["services"] == ["again_v1", "again_v2"]


def test_an_unknown_name_is_answered_with_the_nearest(store: Store) -> None:
    result = CliRunner().invoke(_app, ["features", "describe", "spendings"])
    assert isinstance(result.exception, FeatureError)
    assert "did you mean spending" in str(result.exception)


def test_building_computes_what_changed_alone(store: Store) -> None:
    told = run("build", "store", "--from", "2020-01", "--to", "2020-02")
    assert told.count("60 rows") == 2
    assert run("build", "store", "--from", "2020-01", "--to", "2020-02").count("unchanged") == 2
    assert "lies before" in run("build", "store", "--from", "2020-02", "--to", "2020-01", code=2)
