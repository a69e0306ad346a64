"""The online service against NVIDIA's own client of the Open Inference Protocol, in JSON and in binary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tritonclient.http as triton
from tests.unit.serving import sample
from tritonclient.utils import InferenceServerException

from millrace.package import Package
from millrace.spec import UseCaseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    client: Any
    packages: dict[str, Package]
    specs: dict[str, UseCaseSpec]
    rows: dict[str, pa.Table]

    def expected(self, model: str, count: int) -> np.ndarray:
        package, rows = self.packages[model], self.rows[model].slice(0, count)
        return package.predictor().predict({name: rows.column(name) for name in package.features.columns})

    def inputs(
        self, model: str, names: list[str], count: int, *, binary: bool, wide: bool = False, real: str = "FP64"
    ) -> list[Any]:
        found = []
        for name in names:
            column = self.rows[model].slice(0, count).column(name)
            if pa.types.is_string(column.type):
                values, datatype = np.array(column.to_pylist(), dtype=object), "BYTES"
            else:
                values = column.to_numpy(zero_copy_only=False).astype(np.float32 if real == "FP32" else np.float64)
                values, datatype = np.nan_to_num(values, nan=0.5) if not binary else values, real
            tensor = triton.InferInput(name, [count, 1] if wide else [count], datatype)
            tensor.set_data_from_numpy(values.reshape(-1, 1) if wide else values, binary_data=binary)
            found.append(tensor)
        return found


MODELS = ["flight_delay", "flight_duration"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("protocol")
    specs = {name: sample.use_case(name) for name in MODELS}
    rows = {name: sample.feature_rows(spec, 12, seed=3) for name, spec in specs.items()}
    packages = {}
    for release, (name, spec) in enumerate(specs.items(), start=3):
        packages[name] = sample.seal(folder / "packages", spec, candidate="xgboost")
        sample.point(folder / "serving", packages[name], release=release)
    sample.fill_store(folder / "online.db", rows["flight_delay"])
    with sample.live_service(folder / "serving", online_store=folder / "online.db", log=folder / "log") as live:
        client = triton.InferenceServerClient(live.url.removeprefix("http://"))
        yield Server(client=client, packages=packages, specs=specs, rows=rows)
        client.close()


def test_server_and_models_are_live_and_ready(server: Server) -> None:
    client = server.client
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("flight_delay")
    assert client.is_model_ready("flight_delay", "3")
    assert not client.is_model_ready("flight_delay", "2")
    assert not client.is_model_ready("nobody")


def test_metadata_have_what_the_protocol_asks_for(server: Server) -> None:
    about = server.client.get_server_metadata()
    assert about["name"] == "millrace"
    assert "binary_tensor_data" in about["extensions"]
    for model, version in (("flight_delay", "3"), ("flight_duration", "4")):
        metadata = server.client.get_model_metadata(model)
        assert metadata == server.client.get_model_metadata(model, version)
        assert (metadata["name"], metadata["versions"]) == (model, [version])
        assert [item["name"] for item in metadata["inputs"]] == server.packages[model].features.columns
        assert all(set(item) >= {"name", "datatype", "shape"} for item in metadata["inputs"] + metadata["outputs"])
    assert [item["state"] for item in server.client.get_model_repository_index()] == ["READY", "READY"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("wide", [False, True], ids=["n", "n1"])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_binary_tensors_in_and_out(server: Server, model: str, wide: bool, compression: str | None) -> None:
    inputs = server.inputs(model, server.packages[model].features.columns, 12, binary=True, wide=wide)
    result = server.client.infer(model, inputs, request_id="r1", request_compression_algorithm=compression)
    prediction = result.as_numpy("prediction")
    assert prediction.dtype == np.float64
    np.testing.assert_array_equal(prediction, server.expected(model, 12))
    response = result.get_response()
    assert response["id"] == "r1"
    assert response["parameters"]["release"] == (3 if model == "flight_delay" else 4)
    if model == "flight_delay":
        np.testing.assert_array_equal(result.as_numpy("decision"), prediction >= 0.5)


def test_json_tensors_in_and_out(server: Server) -> None:
    names = server.packages["flight_delay"].features.columns
    inputs = server.inputs("flight_delay", names, 1, binary=False)
    binary = server.inputs("flight_delay", names, 1, binary=True)
    for tensor in binary:
        if tensor.datatype() == "FP64":
            values = np.frombuffer(tensor._get_binary_data(), np.float64)
            tensor.set_data_from_numpy(np.nan_to_num(values, nan=0.5))
    outputs = [triton.InferRequestedOutput("prediction", binary_data=False)]
    result = server.client.infer("flight_delay", inputs, model_version="3", outputs=outputs)
    again = server.client.infer("flight_delay", binary, outputs=outputs)
    assert result.as_numpy("prediction") == again.as_numpy("prediction")
    assert result.as_numpy("decision") is None


def test_single_precision_comes_out_as_the_model_sees_it(server: Server) -> None:
    names = server.packages["flight_delay"].features.columns
    inputs = server.inputs("flight_delay", names, 12, binary=True, real="FP32")
    prediction = server.client.infer("flight_delay", inputs).as_numpy("prediction")
    np.testing.assert_array_equal(prediction, server.expected("flight_delay", 12))


def test_whole_numbers_are_taken_for_numbers(server: Server) -> None:
    names = server.packages["flight_delay"].features.columns
    inputs = [tensor for tensor in server.inputs("flight_delay", names, 2, binary=True) if tensor.name() != "distance"]
    answers = []
    for datatype, kind in (("INT64", np.int64), ("FP64", np.float64), ("INT32", np.int32)):
        tensor = triton.InferInput("distance", [2], datatype)
        tensor.set_data_from_numpy(np.array([1, 0], kind))
        answers.append(server.client.infer("flight_delay", [*inputs, tensor]).as_numpy("prediction").tolist())
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_keys_are_looked_up(server: Server, binary: bool) -> None:
    names = sample.key_names(server.packages["flight_delay"])
    inputs = server.inputs("flight_delay", names, 12, binary=binary)
    response = server.client.infer("flight_delay", inputs).get_response()
    assert response["parameters"]["feature_source"] == "online"
    assert response["parameters"]["high_water_mark"] == "2013-04-01T04:00:00Z"


@pytest.mark.parametrize(
    ("model", "drop", "told"),
    [("flight_delay", ["temp"], "input missing: temp"), ("nobody", [], "no model 'nobody'")],
)
def test_errors_come_as_the_clients_own_exception(server: Server, model: str, drop: list[str], told: str) -> None:
    names = [name for name in server.packages["flight_delay"].features.columns if name not in drop]
    with pytest.raises(InferenceServerException, match=told):
        server.client.infer(model, server.inputs("flight_delay", names, 2, binary=True))


def test_a_load_is_asked_for_by_the_clients_own_call(server: Server, tmp_path: Path) -> None:
    server.client.load_model("flight_delay")
    with pytest.raises(InferenceServerException, match="no release of 'nobody'"):
        server.client.load_model("nobody")
