from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from millrace.errors import LakeError, SpecError
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.contract import suggest_contract

SCHEMA = pa.schema([("id", pa.int64()), ("kind", pa.string())])


def domain(**source: Any) -> DomainSpec:
    values = {"uri": "x_{partition}.csv", "columns": {"id": "int64", "kind": "string"}, "key": ["id"], **source}
    return DomainSpec.model_validate(
        {
            "name": "shop",
            "description": "d",
            "owners": ["a"],
            "first": "2020-01",
            "sources": {"sales": values},
            "feature_tables": {},
        }
    )


def rows(count: int, kinds: str = "AB") -> pa.Table:
    return pa.table([range(count), [kinds[index % len(kinds)] for index in range(count)]], schema=SCHEMA)


def ingest(settings: Settings, table: str, **partitions: pa.Table) -> None:
    for key, month in partitions.items():
        Table(settings.lake, table).replace(month, partition=key.replace("m", "2020-"))


def test_clean_partitions_come_before_raw_ones(settings: Settings) -> None:
    ingest(settings, "shop/raw/sales", m01=rows(300, "ABX"), m02=rows(300, "ABX"))
    raw = suggest_contract(domain(), "sales", settings=settings)
    assert "suggested from 600 raw rows of shop.sales, partitions 2020-01 to 2020-02 (2)" in raw.title
    assert {item.expectation.stage for item in raw.proposals} == {"raw"}
    ingest(settings, "shop/clean/sales", m01=rows(200))
    clean = suggest_contract(domain(), "sales", settings=settings)
    assert "suggested from 200 clean rows" in clean.title
    assert {item.expectation.stage for item in clean.proposals} == {"clean"}


def test_only_the_asked_partitions_are_looked_at(settings: Settings) -> None:
    ingest(settings, "shop/clean/sales", m01=rows(100), m02=rows(200), m03=rows(400), m04=rows(800))
    found = suggest_contract(domain(), "sales", settings=settings, first="2020-02", last="2020-03")
    assert "600 clean rows of shop.sales, partitions 2020-02 to 2020-03 (2)" in found.title
    assert suggest_contract(domain(), "sales", settings=settings, last="2020-01").title.startswith("suggested from 100")


def test_a_column_that_earlier_partitions_lack_counts_as_null_there(settings: Settings) -> None:
    ingest(settings, "shop/clean/sales", m01=rows(200))
    wide = domain(columns={"id": "int64", "kind": "string", "late": "string"})
    found = suggest_contract(wide, "sales", settings=settings)
    assert "late" not in found.to_yaml()


def test_a_static_source_is_looked_at_whole(settings: Settings) -> None:
    Table(settings.lake, "shop/clean/sales").replace(rows(150))
    Table(settings.lake, "shop/raw/sales").replace(rows(0))
    found = suggest_contract(domain(uri="x.csv"), "sales", settings=settings)
    assert "150 clean rows of shop.sales, the whole table" in found.title


def test_personal_columns_are_not_told(settings: Settings) -> None:
    ingest(settings, "shop/clean/sales", m01=rows(200))
    found = suggest_contract(domain(pii={"kind": "tokenise"}), "sales", settings=settings)
    types = [item.expectation.type for item in found.proposals if item.expectation.kwargs.get("column") == "kind"]
    assert types == ["expect_column_values_to_not_be_null"]


def test_without_rows_the_error_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(LakeError, match=r"no row of shop\.sales is in the lake") as caught:
        suggest_contract(domain(), "sales", settings=settings)
    assert "ingest" in caught.value.remedy
    ingest(settings, "shop/clean/sales", m01=rows(0))
    with pytest.raises(LakeError, match=r"from 2020-01 to the last"):
        suggest_contract(domain(), "sales", settings=settings, first="2020-01")


def test_a_wrong_source_and_a_wrong_key_are_told(settings: Settings) -> None:
    with pytest.raises(SpecError, match="no source 'sale'"):
        suggest_contract(domain(), "sale", settings=settings)
    with pytest.raises(SpecError, match="'2020' is not the key of a month"):
        suggest_contract(domain(), "sales", settings=settings, first="2020")
