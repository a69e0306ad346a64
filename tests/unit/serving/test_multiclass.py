"""A release of several classes in service: probabilities in their order, the most probable one by name."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.unit.serving import sample as world

from millrace.package import Package
from millrace.serving.app import InferenceApp
from millrace.serving.repository import Repository
from millrace.training import train_package
from millrace.training.sample import CLASSES, make_job, make_rows, make_use_case, training_rows

NAME = "demand"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    params = {"rounds": 10, "max_depth": 3, "threads": 1}
    use_case = make_use_case("multiclass", {"xgboost": {"trainer": "xgboost", "params": params}})
    rows = training_rows(use_case, ["2020-01", "2020-02"])
    job = make_job(use_case, "xgboost", holdout="2020-03")
    return train_package(job, rows, store=tmp_path_factory.mktemp("packages")).package


@pytest.fixture
def app(package: Package, tmp_path: Path) -> InferenceApp:
    world.point(tmp_path, package, release=7)
    repository = Repository(tmp_path)
    repository.load(NAME)
    return InferenceApp(repository)


def ask(app: InferenceApp, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, json=body)

    return asyncio.run(send())


def columns(package: Package, count: int) -> dict[str, list[Any]]:
    use_case = make_use_case("multiclass", {"xgboost": {"trainer": "xgboost"}})
    rows = make_rows(use_case, "2020-03").slice(0, count)
    return {name: rows.column(name).to_pylist() for name in package.features.columns}


def inputs(package: Package, values: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    kinds = {column.name: column.kind for column in package.features.model}
    return [
        {
            "name": name,
            "shape": [len(data)],
            "datatype": "BYTES" if kinds[name] == "category" else "FP64",
            "data": data,
        }
        for name, data in values.items()
    ]


@pytest.mark.parametrize("count", [1, 5, 300], ids=["one row", "rows", "in the thread"])
def test_an_answer_holds_every_probability_and_the_name_of_the_greatest(
    app: InferenceApp, package: Package, count: int
) -> None:
    values = columns(package, count)
    expected = package.predictor().predict(values)
    answer = ask(app, "POST", f"/v2/models/{NAME}/infer", {"inputs": inputs(package, values)}).json()
    prediction, decision = answer["outputs"]
    assert (prediction["name"], prediction["datatype"], prediction["shape"]) == ("prediction", "FP64", [count, 3])
    assert prediction["data"] == expected.tolist()
    assert (decision["name"], decision["datatype"], decision["shape"]) == ("decision", "BYTES", [count])
    assert decision["data"] == [CLASSES[place] for place in expected.argmax(axis=1)]


def test_the_names_go_out_as_binary_where_they_are_asked_for(app: InferenceApp, package: Package) -> None:
    values = columns(package, 4)
    body = {"inputs": inputs(package, values), "outputs": [{"name": "decision", "parameters": {"binary_data": True}}]}
    answer = ask(app, "POST", f"/v2/models/{NAME}/infer", body)
    raw, place, found = answer.content[int(answer.headers["inference-header-content-length"]) :], 0, []
    while place < len(raw):
        (length,) = struct.unpack_from("<I", raw, place)
        found.append(raw[place + 4 : place + 4 + length].decode())
        place += 4 + length
    assert found == [CLASSES[item] for item in package.predictor().predict(values).argmax(axis=1)]


def test_the_metadata_name_the_classes_in_the_order_of_the_probabilities(app: InferenceApp, package: Package) -> None:
    found = ask(app, "GET", f"/v2/models/{NAME}").json()
    assert found["parameters"]["classes"] == CLASSES
    assert found["parameters"]["threshold"] is None
    assert found["outputs"] == [
        {"name": "prediction", "datatype": "FP64", "shape": [-1, 3]},
        {"name": "decision", "datatype": "BYTES", "shape": [-1]},
    ]
    sealed = package.signature["outputs"][0]
    assert (sealed["shape"], sealed["meaning"], sealed["classes"]) == ([-1, 3], "probabilities", CLASSES)


def test_mlflows_protocol_answers_with_one_list_a_row(app: InferenceApp, package: Package) -> None:
    values = columns(package, 3)
    records = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    answer = ask(app, "POST", f"/invocations/{NAME}", {"dataframe_records": records}).json()
    np.testing.assert_array_equal(answer["predictions"], package.predictor().predict(values))


def test_golden_probabilities_prove_every_class_and_their_order(package: Package) -> None:
    sealed = package.golden.predictions
    assert package.probe() == package.golden.difference(sealed) == 0.0
    assert package.golden.difference([row[::-1] for row in sealed]) > 1e-3  # type: ignore[index]
    assert package.golden.difference([row[:2] for row in sealed]) == float("inf")  # type: ignore[index]
    assert package.golden.difference([max(row) for row in sealed]) == float("inf")  # type: ignore[type-var]
