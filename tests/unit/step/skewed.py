"""An installation whose online store stands at the end of March, and a service that is asked by key during April."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
from tests.unit.features import clean
from tests.unit.serving import sample

from millrace.online.address import open_reader, open_writer
from millrace.online.layout import RowCodec, encode_key
from millrace.package import Package
from millrace.serving.app import InferenceApp
from millrace.serving.repository import Repository
from millrace.serving.request_log import RequestLog
from millrace.serving.sampled_row import FOLDER
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.features import build_features
from millrace.step.materialization import materialize_features
from millrace.step.retrieval import entity_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Skewed:
    """Settings, specs and a sealed package; clean rows of four months, features and store through March."""

    settings: Settings
    spec: UseCaseSpec
    domain: DomainSpec
    package: Package

    @classmethod
    def make(cls, var: Path, dags: Path) -> Skewed:
        settings = _settings(var, dags)
        spec, domain = sample.use_case(rounds=5), sample.domain()
        clean.write_clean(domain, settings.lake, clean.raw_all())
        for partition in clean.PARTITIONS[:3]:
            build_features(domain, partition, settings=settings)
        materialize_features(domain, "2013-03", settings=settings)
        package = sample.seal(settings.packages, spec)
        sample.point(settings.serving_dir, package, release=1, request_sample=1.0)
        return cls(settings=settings, spec=spec, domain=domain, package=package)

    def copy(self, var: Path) -> Skewed:
        """The same in a folder of its own, for a test that changes it."""
        shutil.copytree(self.settings.var, var)
        return dataclasses.replace(self, settings=_settings(var, self.settings.dags))

    def rows(self, partition: str = "2013-04", count: int = 80) -> pa.Table:
        return entity_rows(self.spec, self.domain, partition, self.settings).slice(0, count)

    def ask(self, rows: pa.Table, *, at_once: int = 7) -> list[dict[str, Any]]:
        """Ask the service for the rows by key, a few at once."""
        repository = Repository(self.settings.serving_dir, self.settings.online_store)
        repository.load("flight_delay")
        log = RequestLog(self.settings.serving_dir / FOLDER)
        app = InferenceApp(repository, requests=log)
        features = self.package.features
        names = list(dict.fromkeys([*(column.name for column in features.request), *features.entities]))

        async def ask_all() -> list[dict[str, Any]]:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                found = []
                for place in range(0, rows.num_rows, at_once):
                    body = {"inputs": sample.v2_inputs(self.spec, rows.slice(place, at_once), names)}
                    answer = await client.post("/v2/models/flight_delay/infer", json=body)
                    assert answer.status_code == 200, answer.text
                    found.append(answer.json())
                return found

        try:
            return asyncio.run(ask_all())
        finally:
            writer = log._thread
            log.close()
            if writer is not None:
                writer.join()  # a busy machine may be slower than a service waits when it stops
            repository.close()

    def end_april(self) -> None:
        """What the data DAG of April does."""
        build_features(self.domain, "2013-04", settings=self.settings)
        materialize_features(self.domain, "2013-04", settings=self.settings)

    def plant(self, view: str, key: str, feature: str, value: float) -> Any:
        """Change one value in the online store behind everybody's back; what it was before."""
        url = str(self.settings.online_store)
        reader, writer = open_reader(url), open_writer(url)
        layout, mark = reader.layout(view), reader.high_water_mark(view)
        found = reader.read_rows(view, [(key,)])[0]
        assert found is not None
        assert mark is not None
        event, values = found
        place = [name for name, _ in layout.features].index(feature)
        before, values[place] = values[place], value
        happened, known = (int(moment.timestamp() * 1_000_000) for moment in (event, mark))
        packed = (encode_key(layout, (key,)) or b"", happened, known, RowCodec(layout).pack(values))
        writer.write(view, layout, [[packed]], high_water_mark=known)
        reader.close()
        writer.close()
        return before


def _settings(var: Path, dags: Path) -> Settings:
    environ = {"MILLRACE_ROOT": str(sample.ROOT), "MILLRACE_VAR": str(var), "MILLRACE_DAGS": str(dags)}
    return Settings.load(environ)
