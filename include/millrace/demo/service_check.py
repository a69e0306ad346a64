"""A thousand real requests to the online service: half by full vector, half by entity key, compared with the batch."""

from __future__ import annotations

import time
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.errors import DeploymentError
from millrace.governance.release import Release, Releases
from millrace.lake import Table
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.released import spec_of
from millrace.step.retrieval import entity_rows, historical_features

Floats = NDArray[np.float64]
_REQUESTS = 500


def check_service(use_case: UseCaseSpec, domain: DomainSpec, partition: str, *, settings: Settings) -> dict[str, Any]:
    """Ask the service one row at a time for rows of a partition, and compare with scoring them offline.

    By full vector, the answers are held against a batch of the same release on the same features; by entity key,
    against features looked up offline as of the partition's end, up to which the online store is materialized.

    Raises:
        DeploymentError: no release is in force, or a request was refused.
    """
    release = Releases(settings).in_force(use_case)
    if release is None:
        raise DeploymentError(
            f"no release of {use_case.name!r} is in force", where="the ledger", remedy="train it; read the verdict"
        )
    package = Package.open(settings.packages / release.package, release.package)
    use_case = spec_of(use_case, package)
    scored = _sample(Table(settings.lake, use_case.service_table("scored_features")).read(partitions=[partition]))
    entities = _sample(entity_rows(use_case, domain, partition, settings=settings))
    by_vector = _columns(scored, package.features.columns)
    keys = list(dict.fromkeys([*(column.name for column in package.features.request), *package.features.entities]))
    by_key = _columns(entities, keys)
    with httpx.Client(base_url=settings.serving_url, timeout=10, trust_env=False) as client:
        ask = _Asker(client, use_case, release, _datatypes(scored) | _datatypes(entities))
        for name in (by_vector, by_key):
            ask.all({key: values[:5] for key, values in name.items()}, 5)  # the first requests pay for imports
        ask.seconds.clear()
        vector_answers = ask.all(by_vector, scored.num_rows)
        key_answers = ask.all(by_key, entities.num_rows)
    predictor = package.predictor()
    batch = predictor.predict({name: scored.column(name) for name in package.features.columns})
    place = entities.schema.get_field_index("event_timestamp")
    end = pa.array([domain.partition(partition).end] * entities.num_rows, pa.timestamp("us", tz="UTC"))
    entities = entities.set_column(place, "event_timestamp", end)
    offline = historical_features(use_case, domain, entities, settings=settings, functions=package.functions)
    expected = predictor.predict({name: offline.column(name) for name in package.features.columns})
    p50, p99 = np.percentile(np.array(ask.seconds) * 1000, [50, 99])
    return {
        "requests": len(ask.seconds),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "max_abs_diff_vs_batch": _difference(vector_answers, batch),
        "max_abs_diff_by_key": _difference(key_answers, expected),
    }


class _Asker:
    """Sends rows one at a time and takes the seconds of each."""

    def __init__(
        self, client: httpx.Client, use_case: UseCaseSpec, release: Release, datatypes: dict[str, str]
    ) -> None:
        self._datatypes = datatypes
        self.seconds: list[float] = []
        self._client = client
        self._path = f"/v2/models/{use_case.name}/infer"
        self._release = release.version

    def all(self, columns: dict[str, list[Any]], rows: int) -> Floats:
        """Predictions of the rows, in order."""
        return np.array([self._one({name: values[row] for name, values in columns.items()}) for row in range(rows)])

    def _one(self, row: dict[str, Any]) -> float:
        inputs = [
            {
                "name": name,
                "shape": [1],
                "datatype": self._datatypes[name],
                "data": [value],
            }
            for name, value in row.items()
        ]
        start = time.perf_counter()
        response = self._client.post(self._path, json={"inputs": inputs})
        self.seconds.append(time.perf_counter() - start)
        answer = response.json()
        if response.status_code != httpx.codes.OK or int(answer["parameters"]["release"]) != self._release:
            raise DeploymentError(
                f"a request was answered {response.status_code}: {str(answer)[:300]}",
                where=str(response.url),
                remedy="read var/logs/serving.log; `make status` shows whether the service runs",
            )
        return float(answer["outputs"][0]["data"][0])


def _sample(rows: pa.Table) -> pa.Table:
    """Rows spread evenly over the table; the same ones every time."""
    ordered = rows.sort_by("key")
    count = min(_REQUESTS, ordered.num_rows)
    return ordered.take(np.linspace(0, ordered.num_rows - 1, count).astype(np.int64))


def _datatypes(rows: pa.Table) -> dict[str, str]:
    """Datatype of the Open Inference Protocol for each column."""
    return {item.name: "BYTES" if pa.types.is_string(item.type) else "FP64" for item in rows.schema}


def _columns(rows: pa.Table, names: list[str]) -> dict[str, list[Any]]:
    return {name: rows.column(name).to_pylist() for name in names}


def _difference(answers: Floats, expected: Floats) -> float:
    return float(np.max(np.abs(answers - expected)))
