"""Source → raw → contract → clean and quarantine."""

from __future__ import annotations

import importlib.util
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

logging.getLogger("great_expectations").setLevel(logging.WARNING)

import great_expectations as gx  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
from deltalake import write_deltalake  # noqa: E402
from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema  # noqa: E402
from great_expectations.data_context.types.base import (  # noqa: E402
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.registry import get_expectation_impl  # noqa: E402
from great_expectations.render.renderer import ValidationResultsPageRenderer  # noqa: E402
from great_expectations.render.view import DefaultJinjaPageView  # noqa: E402
from pyarrow import csv  # noqa: E402

from tests.benchmarks.bare.spec import Json, Plan  # noqa: E402

_TYPES = {
    "int32": pa.int32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
}


def write_delta(plan: Plan, name: str, rows: pa.Table, month: str = "", mode: str = "overwrite") -> None:
    """Replace one month of a Delta table (or all of it), or append to it."""
    uri = plan.out / "lake" / name
    uri.mkdir(parents=True, exist_ok=True)
    if not month:
        write_deltalake(str(uri), rows, mode="overwrite")
        return
    rows = rows.append_column("partition", pa.repeat(pa.scalar(month), rows.num_rows))
    predicate = f"partition = '{month}'" if mode == "overwrite" else None
    write_deltalake(str(uri), rows, mode=mode, partition_by=["partition"], predicate=predicate)


class Sources:
    """The sources of the domain, read once, cut into months once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.raw: dict[str, dict[str, pa.Table]] = {}
        for name, source in plan.domain["sources"].items():
            rows = _read_csv(source)
            if not source.get("partition_columns"):
                self.raw[name] = {"": rows}
                continue
            month = pc.cast(rows["month"], pa.int32())
            self.raw[name] = {key: rows.filter(pc.equal(month, int(key[-2:]))).combine_chunks() for key in plan.months}

    def ingest(self, source: str, month: str) -> None:
        """Into the raw table."""
        write_delta(self.plan, f"raw/{source}", self.raw[source][month], month)


class Validator:
    """One Great Expectations context for all, one suite a source."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.context = gx.get_context(
            mode="ephemeral",
            project_config=DataContextConfig(
                store_backend_defaults=InMemoryStoreBackendDefaults(),
                analytics_enabled=False,
                progress_bars=ProgressBarsConfig(globally=False),
            ),
        )
        pandas = self.context.data_sources.add_pandas("bare")
        self.suites, self.batches, self.columns = {}, {}, {}
        for name, source in plan.domain["sources"].items():
            self.suites[name] = gx.ExpectationSuite(
                name=name, expectations=[_expectation(item) for item in source["contract"]]
            )
            asset = pandas.add_dataframe_asset(name)
            self.batches[name] = asset.add_batch_definition_whole_dataframe("month")
            named = (item["kwargs"].get("column") for item in source["contract"])
            self.columns[name] = list(dict.fromkeys(column for column in named if column))

    def validate(self, name: str, month: str, rows: pa.Table) -> tuple[pa.Table, int]:
        """Clean rows, and how many went to quarantine; leaves tables, result and page behind."""
        spec, plan = self.plan.domain["sources"][name], self.plan
        frame = rows.select(self.columns[name]).to_pandas()
        batch = self.batches[name].get_batch({"dataframe": frame})
        result = batch.validate(self.suites[name], result_format={"result_format": "COMPLETE"})
        reasons = _duplicates(rows, spec["key"])
        for item in result.results:
            config = item.expectation_config
            if item.success or config.meta["on_failure"] == "warn":
                continue
            failing = item.result.get("unexpected_index_list")
            if config.meta["on_failure"] != "quarantine" or failing is None:
                raise RuntimeError(f"{name} {month}: {config.type} does not hold")
            for row in failing:
                reasons.setdefault(row, []).append(f"{config.type}.{config.kwargs.get('column')}")
        if len(reasons) > spec.get("max_quarantined_share", 0.02) * rows.num_rows:
            raise RuntimeError(f"{name} {month}: {len(reasons)} rows would be quarantined")
        self._write_page(name, month, result)
        aside = pa.array(sorted(reasons), pa.int64())
        keep = pc.invert(pc.is_in(pa.array(range(rows.num_rows), pa.int64()), aside))
        clean = rows.filter(keep).combine_chunks()
        write_delta(plan, f"clean/{name}", clean, month)
        if len(aside):
            told = pa.array(["; ".join(reasons[row]) for row in sorted(reasons)])
            write_delta(plan, f"quarantine/{name}", rows.take(aside).append_column("reasons", told), month)
        return clean, len(aside)

    def _write_page(self, name: str, month: str, result: Any) -> None:
        for item in result.results:
            for field in ("unexpected_list", "unexpected_index_list", "unexpected_index_query"):
                item.result.pop(field, None)
        folder = self.plan.out / "reports" / name
        folder.mkdir(parents=True, exist_ok=True)
        document = json.dumps(result.to_json_dict(), default=float)
        (folder / f"{month or 'all'}.json").write_text(document)
        result = expectationSuiteValidationResultSchema.load(json.loads(document))  # plain numbers, which it can format
        html = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(result))
        (folder / f"{month or 'all'}.html").write_text(html)


def derive(connection: Any, raw: pa.Table, spec: Json) -> pa.Table:
    """Raw rows with the derived columns, in the order of their key."""
    connection.register("raw", raw)
    query = "SELECT * FROM raw"
    steps = spec.get("cleanup", [])
    for column, expression in ((name, sql) for step in steps for name, sql in step["derive"].items()):
        query = f"SELECT *, ({expression}\n) AS {column} FROM ({query})"
    rows = connection.sql(f"{query} ORDER BY {', '.join(spec['key'])}").to_arrow_table()
    return rows.combine_chunks()


def _duplicates(rows: pa.Table, key: list[str]) -> dict[int, list[str]]:
    """Rows whose key stands more than once, after the first."""
    numbered = rows.select(key).append_column("row", pa.array(range(rows.num_rows), pa.int64()))
    first = numbered.group_by(key).aggregate([("row", "min")])["row_min"]
    if len(first) == rows.num_rows:
        return {}
    again = pc.invert(pc.is_in(numbered["row"], first))
    return {row: ["duplicate"] for row in numbered["row"].filter(again).to_pylist()}


def _expectation(item: Json) -> Any:
    found = get_expectation_impl(item["type"])(**item.get("kwargs", {}))
    found.meta = {"on_failure": item.get("on_failure", "block")}
    return found


def _read_csv(source: Json) -> pa.Table:
    package, _, inner = source["uri"].removeprefix("package://").partition("/")
    found = importlib.util.find_spec(package)
    path = Path(next(iter(found.submodule_search_locations))) / inner  # type: ignore[union-attr,arg-type]
    types = {name: _TYPES[kind] for name, kind in source["columns"].items()}
    options = csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=["", "NA"], strings_can_be_null=True
    )
    if path.suffix != ".zip":
        return csv.read_csv(path, convert_options=options)
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as stream:
        return csv.read_csv(stream, convert_options=options)
