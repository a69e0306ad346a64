"""A real package of `flight_delay`, an online store, and a live service: what the serving tests stand on."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from millrace.artifact import ReleaseRef
from millrace.deployment.pointer import write_pointer
from millrace.online import ViewLayout
from millrace.online.address import open_writer
from millrace.online.base import EVENT_TIMESTAMP, KNOWN_AT
from millrace.package import FeatureSpec, OnDemandFunctions, Package, read_sources
from millrace.spec import CandidateSpec, DomainSpec, UseCaseSpec, load_domain, load_use_case
from millrace.training import TrainingJob, train_package

ROOT = Path(__file__).resolve().parents[3]
MARK = datetime(2013, 4, 1, 4, tzinfo=UTC)
VOCABULARY = {
    "carrier": ["AA", "UA", "DL", "B6"],
    "origin": ["EWR", "JFK", "LGA"],
    "dest": ["LAX", "SFO", "BOS", "MIA"],
    "tailnum": [f"N{number}" for number in range(100, 140)],
    "route": ["EWR-LAX", "JFK-SFO", "LGA-BOS", "LGA-MIA"],
}


def domain() -> DomainSpec:
    return load_domain(ROOT / "dags", "flights")


def use_case(name: str = "flight_delay", *, rounds: int = 20, learning_rate: float = 0.1) -> UseCaseSpec:
    spec = load_use_case(ROOT / "dags", name)
    trees = CandidateSpec(trainer="xgboost", params={"rounds": rounds, "max_depth": 6, "learning_rate": learning_rate})
    return spec.model_copy(update={"candidates": {**spec.candidates, "xgboost": trees}})


def feature_rows(spec: UseCaseSpec, count: int, *, seed: int = 0, start: datetime = MARK) -> pa.Table:
    """Random but lifelike rows with holes: key, event_timestamp, join keys, every feature and what they are made of."""
    random, features = np.random.default_rng(seed), FeatureSpec.of(spec, domain())
    columns: dict[str, Any] = {
        "key": [f"f{seed}-{number}" for number in range(count)],
        "event_timestamp": pa.array([start + timedelta(minutes=n) for n in range(count)], pa.timestamp("us", "UTC")),
    }
    drawn = [column.name for column in features.inputs]
    for name in dict.fromkeys([*drawn, "tailnum", "route"]):
        if name in VOCABULARY:
            columns[name] = pa.array(random.choice(VOCABULARY[name], count), pa.string())
        else:
            values = random.normal(size=count).round(3)
            columns[name] = pa.array(values, pa.float64(), mask=random.random(count) < 0.1)
    return functions(spec).add_table(pa.table(columns))


def functions(spec: UseCaseSpec) -> OnDemandFunctions:
    """The functions of a use case as they are shipped."""
    features = FeatureSpec.of(spec, domain())
    return OnDemandFunctions(features, read_sources(features.on_demand, ROOT / "dags" / "domains"))


def training_rows(spec: UseCaseSpec, *, seed: int = 0) -> pa.Table:
    parts = []
    for place, partition in enumerate(["2013-01", "2013-02"]):
        start = datetime(2013, 1 + place, 1, 6, tzinfo=UTC)
        rows = feature_rows(spec, 600, seed=seed + place, start=start)
        parts_of = ("distance", "temp", "route_late_share_28d", "route_mean_air_time_28d")
        known = [rows.column(name).to_numpy(zero_copy_only=False) for name in parts_of if name in rows.column_names]
        signal = sum(map(np.nan_to_num, known)) + np.random.default_rng(seed + place).normal(scale=0.3, size=600)
        label = (signal > 0.5).astype(np.float64) if spec.problem == "binary" else 100 + 10 * signal
        rows = rows.drop_columns(["tailnum", "route"])
        rows = rows.append_column("label", pa.array(label, pa.float64()))
        rows = rows.append_column("label_known_at", rows.column("event_timestamp"))
        parts.append(rows.append_column("partition", pa.array([partition] * 600, pa.string())))
    return pa.concat_tables(parts)


def seal(store: Path, spec: UseCaseSpec, *, candidate: str = "xgboost", seed: int = 0) -> Package:
    job = TrainingJob(
        use_case=spec,
        domain=domain(),
        candidate=candidate,
        table=spec.service_table("training_set"),
        holdout="2013-03",
        known_until="2013-03-01T05:00:00Z",
        functions=functions(spec).sources,
    )
    return train_package(job, training_rows(spec, seed=seed), store=store).package


def point(serving_dir: Path, package: Package, release: int = 1, **changes: Any) -> ReleaseRef:
    plain = {
        "use_case": package.manifest.use_case,
        "release": release,
        "package": package.digest,
        "package_dir": str(package.folder),
        "threshold": 0.5 if package.manifest.problem == "binary" else None,
        "effective_at": "2013-04-01T04:00:00Z",
        "feature_service": package.features.service,
    }
    ref = ReleaseRef(**{**plain, **changes})
    write_pointer(serving_dir, ref)
    return ref


def fill_store(path: Path | str, rows: pa.Table) -> None:
    """An online store that holds, for each entity of the rows, the features of its first row."""
    writer = open_writer(path)
    for view, table in domain().feature_tables.items():
        layout = ViewLayout(
            entities=tuple((name, "string") for name in table.entities),
            features=tuple((name, str(kind)) for name, kind in table.features.items()),
            ttl_us=table.ttl_hours * 3_600_000_000,
        )
        first = rows.group_by(table.entities, use_threads=False).aggregate([("key", "first")])
        kept = rows.filter(pa.compute.is_in(rows.column("key"), first.column("key_first")))
        columns = {name: kept.column(name) for name in table.entities}
        for name, _ in layout.features:
            there = name in kept.column_names
            columns[name] = kept.column(name) if there else pa.nulls(kept.num_rows, pa.float64())
        when = pa.array([MARK - timedelta(minutes=1)] * kept.num_rows, pa.timestamp("us", "UTC"))
        batches = pa.table({**columns, EVENT_TIMESTAMP: when, KNOWN_AT: when}).to_batches()
        writer.write(view, layout, batches, high_water_mark=int(MARK.timestamp() * 1e6))
    writer.close()


def v2_inputs(spec: UseCaseSpec, rows: pa.Table, names: list[str]) -> list[dict[str, Any]]:
    texts = {*spec.features.categories, *VOCABULARY}
    return [
        {
            "name": name,
            "shape": [rows.num_rows],
            "datatype": "BYTES" if name in texts else "FP64",
            "data": rows.column(name).to_pylist(),
        }
        for name in names
    ]


def key_names(package: Package) -> list[str]:
    features = package.features
    return list(dict.fromkeys([*(column.name for column in features.request), *features.entities]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A service process of a test."""

    process: subprocess.Popen[str]
    url: str
    log: Path


@contextlib.contextmanager
def live_service(
    folder: Path, *, online_store: Path | None = None, log: Path, environ: dict[str, str] | None = None
) -> Iterator[Live]:
    """The real process on a free port of the loopback, stopped at the end by its id."""
    argv = [sys.executable, "-m", "millrace.serving", "--port", "0", "--dir", str(folder)]
    argv += [] if online_store is None else ["--online-store", str(online_store)]
    path = os.pathsep.join([str(ROOT / "include"), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "MILLRACE_SERVING_TOKEN": "", **(environ or {})}
    with log.open("w") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, text=True, env=env)
    try:
        yield Live(process=process, url=_wait(process, log), log=log)
    finally:
        process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[str], log: Path) -> str:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"online service on (http://\S+), ", log.read_text()):
            url = found.group(1)
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/v2/health/live", trust_env=False, timeout=1).is_success:
                    return url
        time.sleep(0.02)
    raise AssertionError(f"the service did not start:\n{log.read_text()}")
