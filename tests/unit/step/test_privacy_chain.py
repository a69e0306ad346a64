"""A personal value goes through ingestion, validation, quarantine and replay, and is readable nowhere afterwards."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import duckdb
import pytest
from tests.unit.shop import HEADER, make_domain

from millrace.errors import ContractError
from millrace.governance.ledger import Ledger
from millrace.lake import Table
from millrace.settings import Settings
from millrace.step.ingestion import ingest_partition
from millrace.step.replay import replay
from millrace.step.validation import validate_partition

KEY = "2020-01"
SECRETS = [f"zqxperson{number}" for number in range(8)]
ROWS = "".join(
    f"{number},2020-01,{secret},{amount},2020-01-0{number + 1}T10:00:00Z\n"
    for number, (secret, amount) in enumerate(zip(SECRETS, [1, 2, 99, 98, "much", 5, 6, -1], strict=True))
)
BROKEN = f'8,2020-01,{SECRETS[0]},1,2020-01-01T10:00:00Z,"{SECRETS[1]}"\n'
CONTRACT = [
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "amount", "min_value": 0, "max_value": 90},
        "on_failure": "quarantine",
        "id": "amount",
    },
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "customer", "value_set": ["x"]}, "id": "named"},
    {
        "type": "expect_column_values_to_be_unique",
        "kwargs": {"column": "customer"},
        "on_failure": "quarantine",
        "id": "once",
    },
]


@pytest.mark.parametrize("named", ["warn", "quarantine", "block"])
def test_no_store_report_log_or_error_shows_a_personal_value(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, named: str
) -> None:
    texts = _live(settings, tmp_path, caplog, named=named, pii={"customer": "tokenise"})
    assert not [secret for secret in SECRETS if any(secret in text for text in texts)]


def test_a_value_that_is_not_personal_is_found_by_the_same_search(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = _live(settings, tmp_path, caplog, named="quarantine", pii={})
    assert all(any(secret in text for text in texts) for secret in SECRETS)


def _live(
    settings: Settings, folder: Path, caplog: pytest.LogCaptureFixture, *, named: str, pii: dict[str, str]
) -> list[str]:
    """Ingest, validate and replay; everything that was told, logged, recorded and stored."""
    caplog.set_level(logging.DEBUG)
    source = folder / "orders.csv"
    source.write_text(HEADER + ROWS + ROWS.splitlines(keepends=True)[0].replace("0,", "9,", 1) + BROKEN)
    contract = [item if item["id"] != "named" else {**item, "on_failure": named} for item in CONTRACT]
    domain = make_domain(source, contract=contract, pii=pii)
    told = [str(ingest_partition(domain, "orders", KEY, settings=settings).to_dict())]
    blocked = pytest.raises(ContractError) if named == "block" else contextlib.nullcontext()
    with blocked as caught:
        told.append(str(validate_partition(domain, "orders", KEY, settings=settings).to_dict()))
        found = replay(domain, "orders", settings=settings, action="waive", by="ann", reason="seen", reasons=["amount"])
        told.append(str(found.to_dict()))
    if caught is not None:
        told.append(f"{caught.value} {caught.value.where} {caught.value.remedy}")
    assert Table(settings.lake, "shop/raw/orders").read().num_rows == len(SECRETS)
    assert Table(settings.lake, "shop/rejected/orders").read().num_rows == 2
    ledger = [str(entry) for entry in Ledger(settings).entries("shop")]
    return [*told, caplog.text, *ledger, *_contents(settings.var)]


def _contents(var: Path) -> list[str]:
    """Every file below `var` as text; Parquet is decoded."""
    found = []
    for path in sorted(var.rglob("*")):
        if path.suffix == ".parquet":
            found.append(str(duckdb.sql(f"FROM read_parquet('{path}', hive_partitioning = false)").fetchall()))
        elif path.is_file():
            found.append(path.read_bytes().decode("latin-1"))
    assert len(found) > 5
    return found
