from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.cli.conftest import ActAs
from tests.unit.shop import ROWS, make_domain, write_orders
from typer.testing import CliRunner

from millrace.cli.main import _app
from millrace.errors import IdentityError, SpecError
from millrace.governance.ledger import Ledger
from millrace.settings import Settings
from millrace.step.ingestion import ingest_partition
from millrace.step.validation import validate_partition

AMOUNT = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "amount", "min_value": 0, "max_value": 35},
    "on_failure": "quarantine",
    "id": "amount",
}


@pytest.fixture
def lake(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act_as: ActAs) -> Settings:
    """The shop, with order 4 in quarantine, and ann who acts."""
    act_as("ann")
    domain = make_domain(write_orders(tmp_path, ROWS), contract=[AMOUNT])
    path = settings.dags / "domains" / "shop.yaml"
    path.write_text(yaml.safe_dump(domain.model_dump(mode="json", exclude_defaults=True), sort_keys=False))
    for name, value in {"VAR": settings.var, "DAGS": settings.dags}.items():
        monkeypatch.setenv(f"MILLRACE_{name}", str(value))
    monkeypatch.setenv("COLUMNS", "200")
    ingest_partition(domain, "orders", "2020-01", settings=settings)
    validate_partition(domain, "orders", "2020-01", settings=settings)
    return settings


def run(*argv: str, answer: str | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(_app, list(argv), input=answer)
    assert result.exit_code == code, result.output
    return result.output


def document(*argv: str) -> Any:
    return json.loads(run(*argv, "--json").splitlines()[-1])


def test_rows_are_counted_shown_waived_and_gone_from_the_quarantine(lake: Settings) -> None:
    listed = document("quarantine", "list", "shop", "--ids")
    group = {"source": "orders", "partition": "2020-01", "reason": "amount", "status": "open", "rows": 1}
    assert (listed["rows"], listed["groups"]) == (1, [group])
    assert document("quarantine", "list", "shop", "--reason", "late")["rows"] == 0
    (row,) = listed["ids"]
    shown = document("quarantine", "show", "shop", "orders", row["row_id"][:8])
    assert json.loads(shown["raw"])["amount"] == 40
    assert shown["reasons"] == [{"column": "amount", "expectation": "amount", "value": 40.0}]
    assert "amount: amount = 40.0" in run("quarantine", "show", "shop", "orders", row["row_id"])
    assert "2020-01" in run("quarantine", "list", "shop")

    waive = ["replay", "shop", "orders", "--waive", "--because", "a bulk order", "--reason", "amount"]
    asked = run(*waive, answer="n\n", code=1)
    assert "waive: 1 open rows of shop/orders" in asked
    assert document("quarantine", "list", "shop")["rows"] == 1
    done = run(*waive, answer="y\n")
    assert "1 rows merged" in done
    assert "Clean rows changed in: 2020-01" in done
    assert "Run the DAG shop_data for these partition keys" in done
    assert document("quarantine", "list", "shop")["rows"] == 0
    (closed,) = document("quarantine", "list", "shop", "--status", "closed")["groups"]
    assert closed["status"] == "waived"
    assert document("quarantine", "show", "shop", "orders", row["row_id"])["resolved_by"] == "ann"
    assert document(*waive, "--yes")["merged"] == 0
    back = ["replay", "shop", "orders", "--reopen", "--id", row["row_id"], "--because", "a mistake"]
    assert "reopen: 1 closed rows of shop/orders" in run(*back, answer="y\n")
    assert document("quarantine", "list", "shop")["rows"] == 1


def test_a_file_of_corrections_is_merged(lake: Settings, tmp_path: Path) -> None:
    (row,) = document("quarantine", "list", "shop", "--ids")["ids"]
    path = tmp_path / "fixed.csv"
    path.write_text(f"row_id,amount\n{row['row_id']},4\n")
    told = document("replay", "shop", "orders", "--correct", str(path), "--yes")
    assert (told["action"], told["merged"], told["stale"], told["recompute"]) == (
        "correct",
        1,
        ["2020-01"],
        ["2020-01"],
    )


def test_a_short_id_is_enough_and_an_unknown_reason_is_told_which_there_are(lake: Settings) -> None:
    (row,) = document("quarantine", "list", "shop", "--ids")["ids"]
    for argv in (["replay", "shop", "orders", "--yes"], ["quarantine", "list", "shop"]):
        refused = CliRunner().invoke(_app, [*argv, "--reason", "amont"]).exception
        assert isinstance(refused, SpecError)
        assert "rows are set aside for: amount" in refused.remedy
    assert document("replay", "shop", "orders", "--yes", "--reason", "late")["matched"] == 0, "there may be such rows"
    told = document("replay", "shop", "orders", "--waive", "--because", "x", "--yes", "--id", row["row_id"][:6])
    assert (told["matched"], told["merged"]) == (1, 1)
    refused = CliRunner().invoke(_app, ["replay", "shop", "orders", "--yes", "--id", "zz"]).exception
    assert "no quarantined row 'zz'" in str(refused)


def test_equal_records_of_two_partitions_are_shown_one_by_one(lake: Settings, tmp_path: Path) -> None:
    path = lake.dags / "domains" / "shop.yaml"
    spec = yaml.safe_load(path.read_text())
    orders = spec["sources"]["orders"]
    orders["uri"], orders["partition_columns"] = str(tmp_path / "{partition}.csv"), {}
    orders["columns"].pop("day")
    orders["dropped"] = ["day"]
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    for key in ("2020-01", "2020-02"):
        (tmp_path / f"{key}.csv").write_text("order,customer,amount,placed_at\n7,zoe,many,2020-01-09T10:00:00Z\n")
        run("ingest", "shop.orders", key)
    ids = {row["row_id"] for row in document("quarantine", "list", "shop", "--ids", "--reason", "type")["ids"]}
    assert len(ids) == 1
    show = ["quarantine", "show", "shop", "orders", *ids]
    assert "2 rows begin with" in str(CliRunner().invoke(_app, show).exception)
    assert document(*show, "--partition", "2020-02")["partition"] == "2020-02"


def test_a_partition_is_ingested_and_validated_by_the_steps_of_the_tasks(lake: Settings, tmp_path: Path) -> None:
    assert document("ingest", "shop.orders", "2020-01")["ingested"]["changed"] is False
    assert Ledger(lake).entries("shop", kinds=["partition_ingested"]) == []
    write_orders(tmp_path, ROWS + "5,2020-01,eve,1,2020-01-05T10:00:00Z\n")
    told = document("ingest", "shop.orders", "2020-01")
    assert (told["ingested"]["rows"], told["validated"]["rows_clean"], told["recompute"]) == (4, 3, ["2020-01"])
    (entry,) = Ledger(lake).entries("shop", kinds=["partition_ingested"])
    assert (entry.actor, entry.subject, entry.payload["rows"]) == ("ann", "shop/orders/2020-01", 4)
    assert "unchanged, 4 rows" in run("ingest", "shop.orders", "2020-01")
    assert "is no dataset" in run("ingest", "shop", "2020-01", code=2)
    assert "shop has partitions from 2020-01 on" in run("ingest", "shop.orders", "2019-12", code=2)


def test_a_personal_record_is_decrypted_for_an_owner_who_says_why_and_that_is_recorded(
    lake: Settings, tmp_path: Path, act_as: ActAs
) -> None:
    broken = "7,2020-01,zoe@x.org,many,2020-01-09T10:00:00Z"
    domain = make_domain(write_orders(tmp_path, ROWS + broken + "\n"), contract=[AMOUNT], pii={"customer": "tokenise"})
    domain = domain.model_copy(update={"owners": ["paul"]})
    path = lake.dags / "domains" / "shop.yaml"
    path.write_text(yaml.safe_dump(domain.model_dump(mode="json", exclude_defaults=True), sort_keys=False))
    run("ingest", "shop.orders", "2020-01")
    (row,) = document("quarantine", "list", "shop", "--ids", "--reason", "type")["ids"]
    show = ["quarantine", "show", "shop", "orders", row["row_id"][:8]]
    assert "zoe" not in document(*show)["raw"]
    assert isinstance(CliRunner().invoke(_app, [*show, "--reveal", "--because", "x"]).exception, IdentityError)
    act_as("paul")
    assert isinstance(CliRunner().invoke(_app, [*show, "--reveal"]).exception, SpecError)
    assert Ledger(lake).entries("shop", kinds=["record_disclosed"]) == []
    assert document(*show, "--reveal", "--because", "the partner asks")["raw"] == broken
    (entry,) = Ledger(lake).entries("shop", kinds=["record_disclosed"])
    assert (entry.actor, entry.payload["reason"]) == ("paul", "the partner asks")
    assert "zoe" not in str(entry.payload)


def test_what_cannot_be_is_refused(lake: Settings, tmp_path: Path) -> None:
    assert "give either" in run(
        "replay", "shop", "orders", "--waive", "--correct", str(tmp_path / "x"), "--yes", code=2
    )
    assert "none of open, closed, all" in run("quarantine", "list", "shop", "--status", "shut", code=2)
    for argv in (
        ["quarantine", "show", "shop", "orders", "ffff"],
        ["quarantine", "list", "shop", "--source", "order"],
        ["replay", "shop", "orders", "--waive", "--yes"],
    ):
        assert isinstance(CliRunner().invoke(_app, argv).exception, SpecError)
