from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from millrace.errors import SpecError
from millrace.spec import DomainSpec, FileSourceSpec
from millrace.spec.address import public_address
from millrace.spec.load import check_values
from millrace.spec.source import AnySourceSpec

ORDERS: dict[str, Any] = {"uri": "x.csv", "columns": {"order": "int64", "mail": "string"}, "key": ["order"]}


def domain(**changes: Any) -> DomainSpec:
    orders = {name: value for name, value in {**ORDERS, **changes}.items() if value is not ...}
    values = {
        "name": "shop",
        "description": "orders",
        "owners": ["admin"],
        "first": "2020-01",
        "sources": {"orders": orders},
        "feature_tables": {},
    }
    return check_values(DomainSpec, values, where="shop.yaml")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"urii": "y.csv"}, "did you mean 'uri'"),
        ({"kind": "ftp"}, "kind is one of file, sql, http, python, delta"),
        ({"kind": "sql", "uri": ..., "connection": "db"}, "give either `query` or `table`"),
        ({"kind": "sql", "uri": ..., "connection": "db", "query": "q", "watermark": "at"}, "is a column of `table`"),
        ({"kind": "http", "uri": ..., "url": "http://x", "nxt": "link"}, "did you mean 'next'"),
        ({"kind": "python", "uri": ..., "function": "no colon"}, "sources.orders.function"),
        ({"columns": {}}, "sources.orders.columns"),
        ({"columns": {"order": "int64", "Order": "string"}}, "differ in capitals alone"),
        ({"columns": {"order": "int64", "Partition": "string"}}, "cannot be called 'partition'"),
        ({"cleanup": [{"derive": {"partition": "1"}}]}, "cannot be called 'partition'"),
        ({"key": ["nope"]}, "'nope' is neither in `columns` nor made in `cleanup`"),
        ({"cleanup": [{"drop": ["order"]}]}, "'order' identifies records, so clean-up must not drop it"),
        ({"cleanup": [{"derive": {"a": "1"}, "drop": ["mail"]}]}, "unknown key 'sources.orders.cleanup.0.drop'"),
        ({"cleanup": [{"dedup": ["order"]}]}, "a clean-up step is one of rename, cast, derive"),
        ({"cleanup": [{"drop": ["mail"]}, {"fill": {"mail": ""}}]}, "step 2 (fill) names column 'mail', which is not"),
        ({"cleanup": [{"derive": {"mail": "1"}}]}, "step 1 (derive) makes column 'mail', which is there already"),
        ({"duplicates": {"policy": "keep_last"}}, "keep_last needs `version`"),
        ({"duplicates": {"version": "mail"}}, "others take none"),
        ({"late": {"policy": "drop"}}, "sources.orders.late.policy"),
        ({"pii": {"mial": "drop"}}, "pii names 'mial', which `columns` does not declare"),
        ({"pii": {"order": "drop"}}, "'order' is neither in `columns` nor made in `cleanup`"),
        ({"pii": {"mail": "tokenise"}, "partition_columns": {"mail": "%Y"}}, "'mail' cannot be pii"),
        ({"history": [{"measure": "mean", "last": 3, "max_relative_change": 1}]}, "names its `column`"),
        ({"history": [{"measure": "row_count"}]}, "needs `max_relative_change` or `max_absolute_change`"),
        ({"history": [{"measure": "freshness", "column": "mail"}]}, "freshness needs `max_hours`"),
        ({"timezone": "Mars/Phobos"}, "no time zone of that name"),
        ({"memory_limit": "lots"}, "sources.orders.memory_limit"),
        ({"max_record_bytes": 1 << 40}, "sources.orders.max_record_bytes"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_names_its_key_and_the_remedy(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        domain(**changes)
    assert told in str(caught.value)
    assert ".file." not in str(caught.value)
    assert caught.value.where == "shop.yaml"
    assert caught.value.remedy


def test_columns_are_followed_through_pii_and_clean_up() -> None:
    source = domain(
        pii={"mail": "tokenise"},
        cleanup=[
            {"rename": {"mail": "customer"}},
            {"derive": {"double": "order * 2"}},
            {"python": "a.b:c", "adds": {"zone": "string"}},
            {"drop": ["double"]},
        ],
    ).sources["orders"]
    assert source.raw_columns == {"order": "int64", "mail": "string"}
    assert source.clean_columns == ["order", "customer", "zone"]


@pytest.mark.parametrize(
    ("changes", "moving", "static"),
    [
        ({}, False, True),
        ({"partition_columns": {"mail": "%Y"}}, False, False),
        ({"uri": "orders-{partition}.csv"}, True, False),
        ({"kind": "sql", "uri": ..., "connection": "db", "table": "orders"}, False, True),
        ({"kind": "sql", "uri": ..., "connection": "db", "query": "SELECT 1 WHERE a >= :start"}, True, False),
        ({"kind": "http", "uri": ..., "url": "http://x/{partition}"}, True, False),
        ({"kind": "python", "uri": ..., "function": "a:b"}, True, False),
        ({"kind": "delta", "filter_column": "mail"}, True, False),
    ],
)
def test_a_source_knows_whether_a_reading_asks_for_one_partition(
    changes: dict[str, Any], moving: bool, static: bool
) -> None:
    source = domain(**changes).sources["orders"]
    assert (source.moving, source.static) == (moving, static)


def test_a_source_of_a_file_needs_no_kind() -> None:
    assert isinstance(domain().sources["orders"], FileSourceSpec)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://user:secret@host/x.csv?token=abc#part", "https://host/x.csv"),
        ("sftp://user:secret@host:22/x.csv", "sftp://host:22/x.csv"),
        ("https://host?token=abc", "https://host"),
        ("s3://bucket/2013-?.csv", "s3://bucket/2013-?.csv"),
        ("abfs://container@account/x.csv", "abfs://container@account/x.csv"),
        ("data/a@b/2013-?.csv", "data/a@b/2013-?.csv"),
    ],
)
def test_an_address_is_told_without_its_secrets(address: str, told: str) -> None:
    assert public_address(address) == told


@pytest.mark.parametrize(("kind", "key"), [("file", "uri"), ("delta", "uri"), ("http", "url")])
def test_an_address_with_a_password_is_no_spec(kind: str, key: str) -> None:
    source = {"kind": kind, key: "https://user:secret@host/x", "columns": {"a": "int32"}, "key": ["a"]}
    adapter = TypeAdapter(AnySourceSpec)
    with pytest.raises(ValidationError, match="use `connection`"):
        adapter.validate_python(source)
    made = adapter.validate_python({**source, key: "https://host/{partition}?token=abc"})
    assert made.origin == "https://host/{partition}"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"ambiguous": "earlier"}, "clocks of `timezone`"),
        ({"ambiguous": "first", "timezone": "UTC"}, "earlier"),
        ({"dropped": ["a"]}, "which rows still have"),
    ],
)
def test_a_source_that_contradicts_itself_is_no_spec(more: dict[str, Any], told: str) -> None:
    source = {"kind": "file", "uri": "x.csv", "columns": {"a": "int32"}, "key": ["a"]}
    adapter = TypeAdapter(AnySourceSpec)
    assert adapter.validate_python({**source, "dropped": ["b"]}).dropped == ["b"]
    with pytest.raises(ValidationError, match=told):
        adapter.validate_python({**source, **more})
