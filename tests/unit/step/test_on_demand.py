"""One function, every path: training set, batch, online service and Feast's SDK hold the same bits."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from tests.unit.deployment.conftest import record, release_of
from tests.unit.features import clean
from tests.unit.serving import sample

from millrace.artifact import DatasetRef
from millrace.errors import FeatureError, PackageError, TrainingError
from millrace.features.on_demand import on_demand_faults
from millrace.lake import Table
from millrace.online.address import open_reader
from millrace.package import FeatureSpec, OnDemandFunctions, Package
from millrace.package.golden import same_values
from millrace.serving.app import InferenceApp
from millrace.serving.assembly import assemble
from millrace.serving.base import InferenceRequest, RequestError
from millrace.serving.repository import Repository
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain
from millrace.step.feature_registry import apply_features
from millrace.step.features import build_features, check_features
from millrace.step.materialization import materialize_features
from millrace.step.retrieval import entity_rows, historical_features, load_functions, online_features
from millrace.step.scoring import score_partition
from millrace.step.training import build_training_set
from millrace.training import Trained, TrainingJob, train_package
from millrace.training.data.training_set import load_training_set

pytestmark = pytest.mark.integration
SOURCE = '''
"""What a cabin, the weather and the month make of a flight."""

import numpy as np

LARGE = 180.0


def trial(columns):
    """Odd on purpose: powers, sines and texts are what differs first where two paths are not one."""
    seats, wind = columns["plane_seats"], columns["wind_speed"]
    size = np.where(seats > LARGE, "large", "small").astype(object)
    size[np.isnan(seats)] = None
    home = np.array([carrier == "UA" for carrier in columns["carrier"]], float)
    return {
        "seat_miles": seats * columns["distance"] / (seats - 170),
        "chill": 13.12 + 0.6215 * columns["temp"] - 11.37 * np.abs(wind) ** 0.16,
        "season": np.sin(columns["month"]) * np.exp(-home),
        "plane_size": size,
    }
'''
VIEW = {
    "function": "flights/trial.py:trial",
    "inputs": {"planes": ["plane_seats"], "origin_weather": ["wind_speed", "temp"]},
    "request": {"distance": "number", "month": "number", "carrier": "category"},
    "features": {"seat_miles": "number", "chill": "number", "season": "number", "plane_size": "category"},
    "tags": {"subject": "trial"},
    "description": "What a cabin, the weather and the month make of a flight.",
}
COMPUTED = ["seat_miles", "chill", "season", "plane_size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """An installation with a use case whose features are looked up and computed, up to the end of February."""

    settings: Settings
    spec: UseCaseSpec
    domain: DomainSpec
    training_set: DatasetRef
    package: Package

    def at_the_mark(self, count: int = 200) -> pa.Table:
        """Entity rows of February, asked as of the end of it, which the online store stands at."""
        rows = entity_rows(self.spec, self.domain, "2013-02", self.settings).slice(100, count)
        end = pa.array([self.domain.partition("2013-02").end] * count, pa.timestamp("us", "UTC"))
        return rows.set_column(rows.column_names.index("event_timestamp"), "event_timestamp", end)


def make_use_case(**changes: Any) -> UseCaseSpec:
    spec = sample.use_case()
    features = spec.features.model_copy(
        update={
            "name": "trial_v1",
            "row": {"distance": "number", "carrier": "category", "origin": "category"},
            "views": {"origin_weather": ["temp", "visib"]},
            "on_demand": {"trial": ["plane_size", "seat_miles", "chill", "season"]},
            "categorical": ["plane_size"],
            **changes,
        }
    )
    changed = spec.model_copy(update={"features": features, "min_training_partitions": 1})
    return UseCaseSpec.model_validate(changed.model_dump())


def add_view(dags: Path, source: str = SOURCE, **changes: Any) -> DomainSpec:
    (dags / "domains" / "flights" / "trial.py").write_text(source, encoding="utf-8")
    domain = load_domain(dags, "flights")
    plain = domain.model_dump()
    tables = {name: plain["feature_tables"][name] for name in ("origin_weather", "planes")}
    trial = {"trial": {**VIEW, **changes}}
    return DomainSpec.model_validate({**plain, "feature_tables": tables, "on_demand": trial})


def train(house_settings: Settings, spec: UseCaseSpec, domain: DomainSpec, ref: DatasetRef) -> Trained:
    functions = load_functions(spec_features(spec, domain), settings=house_settings)
    hidden = spec_features(spec, domain).hidden
    rows = load_training_set(spec, ref, lake=house_settings.lake, through="2013-01", hidden=hidden)
    job = TrainingJob(
        use_case=spec,
        domain=domain,
        candidate="xgboost",
        table=ref.table,
        holdout="2013-02",
        known_until="2013-02-01T05:00:00Z",
        functions=functions.sources,
    )
    return train_package(job, rows, store=house_settings.packages)


def spec_features(spec: UseCaseSpec, domain: DomainSpec) -> FeatureSpec:
    return FeatureSpec.of(spec, domain)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    base = tmp_path_factory.mktemp("on_demand")
    shutil.copytree(sample.ROOT / "dags", base / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    settings = Settings.load(
        {"MILLRACE_ROOT": str(sample.ROOT), "MILLRACE_VAR": str(base / "var"), "MILLRACE_DAGS": str(base / "dags")}
    )
    domain, spec = add_view(settings.dags), make_use_case()
    clean.write_clean(domain, settings.lake, clean.raw_all(), clean.PARTITIONS[:2])
    for partition in clean.PARTITIONS[:2]:
        build_features(domain, partition, settings=settings)
    apply_features(domain, [spec], settings=settings)
    materialize_features(domain, "2013-02", settings=settings)
    ref = build_training_set(spec, domain, "2013-02", settings=settings)
    package = train(settings, spec, domain, ref).package
    return House(settings=settings, spec=spec, domain=domain, training_set=ref, package=package)


def expected(row: dict[str, Any]) -> dict[str, Any]:
    """The same in plain Python, within rounding."""
    seats, wind, temp = row["plane_seats"], row["wind_speed"], row["temp"]
    miles = None if seats is None or seats == 170 else seats * row["distance"] / (seats - 170)
    home = math.exp(-float(row["carrier"] == "UA"))
    chill = None if temp is None or wind is None else 13.12 + 0.6215 * temp - 11.37 * abs(wind) ** 0.16
    size = None if seats is None else "large" if seats > 180 else "small"
    return {"seat_miles": miles, "chill": chill, "season": math.sin(row["month"]) * home, "plane_size": size}


def test_the_training_set_holds_what_the_function_gives_and_what_it_reads(house: House) -> None:
    hidden = house.package.features.hidden
    assert [column.name for column in hidden] == ["month", "wind_speed", "plane_seats"]
    rows = load_training_set(house.spec, house.training_set, lake=house.settings.lake, hidden=hidden)
    assert rows.num_rows > 1000
    missing = 0
    for row in rows.to_pylist():
        for name, value in expected(row).items():
            missing += value is None
            assert row[name] == (value if isinstance(value, str | None) else pytest.approx(value, rel=1e-12)), name
    assert missing > 50


def test_training_batch_online_and_feast_hold_the_same_bits(house: House) -> None:
    rows = house.at_the_mark()
    sealed = historical_features(
        house.spec, house.domain, rows, settings=house.settings, functions=house.package.functions
    )
    offline = historical_features(house.spec, house.domain, rows, settings=house.settings)
    assert sealed.equals(offline), "the package computes what the file beside the YAML does"
    features = house.package.features
    sent = dict.fromkeys([*(column.name for column in features.request), *features.entities])
    columns = {name: rows.column(name).to_pylist() for name in sent}
    reader = open_reader(house.settings.online_store)
    request = InferenceRequest(columns=columns, rows=rows.num_rows)
    by_key = assemble(features, request, reader, house.package.functions)
    assert by_key.source == "online"
    through_sdk = online_features(house.spec, house.domain, rows.drop("event_timestamp"), settings=house.settings)
    theirs = feast_history(house, rows)
    theirs_online = feast_online(house, rows)
    for name in [*COMPUTED, "temp", "visib", "wind_speed", "plane_seats"]:
        found = offline.column(name)
        assert found.null_count < rows.num_rows
        for way, other in {
            "online service": by_key.columns[name],
            "online features": through_sdk.column(name),
            "Feast's historical features": theirs.column(name),
        }.items():
            assert same_values(other, found), (way, name)
        if name in features.columns:
            assert same_values(theirs_online[name], found), name
    one_by_one = [alone(house, columns, place, reader) for place in range(40)]
    for name in COMPUTED:
        assert same_values([row[name][0] for row in one_by_one], offline.column(name).slice(0, 40)), name


def alone(house: House, columns: dict[str, list[Any]], place: int, reader: Any) -> Any:
    """The features of one row, asked alone."""
    request = InferenceRequest(columns={name: [values[place]] for name, values in columns.items()}, rows=1)
    return assemble(house.package.features, request, reader, house.package.functions).columns


def feast_history(house: House, rows: pa.Table) -> pa.Table:
    from millrace.features.feast_registry import open_store

    store = open_store(house.settings, revision="history")
    service = store.get_feature_service("trial_v1")
    assert {view.name for view in service.feature_view_projections} == {"origin_weather", "trial"}
    return store.get_historical_features(entity_df=rows.drop_columns(["label"]), features=service).to_arrow()


def feast_online(house: House, rows: pa.Table) -> dict[str, list[Any]]:
    from millrace.features.feast_registry import open_store

    store = open_store(house.settings, revision="online")
    asked = {name: rows.column(name).to_pylist() for name in ("origin", "tailnum", "distance", "month", "carrier")}
    asked["tailnum"] = [value or "" for value in asked["tailnum"]]
    found: dict[str, list[Any]] = store.get_online_features(
        features=store.get_feature_service("trial_v1"), entity_rows=asked
    ).to_dict()
    return found


def test_feast_gives_the_same_for_a_pandas_frame_and_for_single_features(house: House) -> None:
    from millrace.features.feast_registry import open_store

    rows = house.at_the_mark(50)
    offline = historical_features(house.spec, house.domain, rows, settings=house.settings)
    store = open_store(house.settings, revision="pandas")
    frame = rows.drop_columns(["label", "label_known_at"]).to_pandas()
    found = store.get_historical_features(entity_df=frame, features=["trial:chill", "trial:plane_size"]).to_df()
    assert same_values(found["chill"].tolist(), offline.column("chill"))
    assert same_values(found["plane_size"].tolist(), offline.column("plane_size"))
    assert "season" not in found
    full = store.get_historical_features(frame, ["trial:season"], full_feature_names=True).to_df()
    assert same_values(full["trial__season"].tolist(), offline.column("season"))
    asked = {name: rows.column(name).to_pylist() for name in ("origin", "tailnum", "distance", "month", "carrier")}
    asked["tailnum"] = [value or "" for value in asked["tailnum"]]
    names = ["origin_weather:visib", "trial:chill", "trial:plane_size"]
    online = store.get_online_features(features=names, entity_rows=asked, full_feature_names=True).to_dict()
    assert same_values(online["trial__chill"], offline.column("chill"))
    assert same_values(online["trial__plane_size"], offline.column("plane_size"))
    nowhere = {**asked, "tailnum": ["N0"] * 50}
    unknown = store.get_online_features(features=["trial:plane_size"], entity_rows=nowhere).to_dict()
    assert unknown["plane_size"] == [None] * 50
    lost = rows.set_column(rows.column_names.index("tailnum"), "tailnum", pa.array(["N0"] * 50))
    empty = store.get_historical_features(entity_df=lost, features=["trial:plane_size"]).to_arrow()
    assert (empty.schema.field("plane_size").type, empty.column("plane_size").null_count) == (pa.string(), 50)


def test_the_service_computes_what_is_not_sent_and_takes_what_is(house: House, tmp_path: Path) -> None:
    rows, package = house.at_the_mark(40), house.package
    offline = historical_features(house.spec, house.domain, rows, settings=house.settings)
    predicted = package.predictor().predict({name: offline.column(name) for name in package.features.columns})
    by_key = sample.key_names(package)
    assert "month" in by_key
    inputs = [column.name for column in package.features.inputs]
    answers = ask(house, offline, {"key": by_key, "inputs": inputs, "full": package.features.columns}, tmp_path)
    for way, source in {"key": "online", "inputs": "request", "full": "request"}.items():
        found, told = answers[way]
        assert found == predicted.tolist(), way
        assert told["feature_source"] == source
    metadata = answers["metadata"]
    assert metadata["parameters"]["by_key"] == by_key
    assert metadata["parameters"]["computed"] == ["plane_size", "seat_miles", "chill", "season"]


def ask(house: House, rows: pa.Table, ways: dict[str, list[str]], folder: Path) -> dict[str, Any]:
    """Real requests through the application, one with all rows for each way of asking."""
    sample.point(folder, house.package, release=1)
    repository = Repository(folder, house.settings.online_store)
    repository.load("flight_delay")

    async def send() -> dict[str, Any]:
        transport = httpx.ASGITransport(app=InferenceApp(repository))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            found: dict[str, Any] = {"metadata": (await client.get("/v2/models/flight_delay")).json()}
            for way, names in ways.items():
                body = {"inputs": [tensor(rows, name) for name in names]}
                answer = (await client.post("/v2/models/flight_delay/infer", json=body)).json()
                found[way] = (answer["outputs"][0]["data"], answer["parameters"])
            return found

    return asyncio.run(send())


def tensor(rows: pa.Table, name: str) -> dict[str, Any]:
    text = pa.types.is_string(rows.schema.field(name).type)
    values = rows.column(name).to_pylist()
    return {"name": name, "shape": [len(values)], "datatype": "BYTES" if text else "FP64", "data": values}


def test_a_request_with_some_of_it_is_refused_with_all_ways_named(house: House) -> None:
    features = house.package.features
    columns = {column.name: [None] for column in features.inputs if column.name != "plane_seats"}
    with pytest.raises(RequestError) as caught:
        assemble(features, InferenceRequest(columns=columns, rows=1), None, house.package.functions)
    told = str(caught.value)
    assert "or without plane_size, seat_miles, chill, season all of: distance, carrier, origin, month" in told
    assert "by key, tailnum is missing" in told


def test_a_batch_is_scored_with_the_sealed_function(house: House, settings: Settings) -> None:
    mine = dataclasses.replace(house.settings, state_url=settings.state_url)
    record(mine, release_of(house.package, 1, "2013-02-01T05:00:00Z"))
    entities = entity_rows(house.spec, house.domain, "2013-02", mine)
    rows = historical_features(house.spec, house.domain, entities, settings=mine).sort_by("key")
    report = score_partition(house.spec, house.domain, "2013-02", settings=mine)
    assert report.features is not None
    scored = Table(mine.lake, report.features.table).read(partitions=["2013-02"]).sort_by("key")
    assert all(same_values(scored.column(name), rows.column(name)) for name in COMPUTED)
    other = OnDemandFunctions(house.package.features, {"trial": SOURCE.replace("0.16", "0.17")})
    changed = historical_features(house.spec, house.domain, entities, settings=mine, functions=other).sort_by("key")
    assert not same_values(changed.column("chill"), rows.column("chill"))
    assert same_values(changed.column("season"), rows.column("season"))


def test_golden_rows_prove_the_function_and_a_package_without_its_bytes_is_refused(
    house: House, tmp_path: Path
) -> None:
    package = house.package
    assert package.probe() == 0.0
    assert set(package.golden.columns) == {*package.features.columns, "month", "wind_speed", "plane_seats"}
    name = "on_demand_trial.py"
    assert package.content[name].decode() == SOURCE
    off = {**package.golden.columns, "chill": [1.0] * len(package.golden)}
    wrong = dataclasses.replace(package, golden=dataclasses.replace(package.golden, columns=off))
    with pytest.raises(PackageError, match="on-demand feature 'chill' come out otherwise"):
        wrong.probe()
    copied = tmp_path / package.digest
    copied.mkdir()
    for file, content in {**package.content, "manifest.json": package.manifest.to_bytes()}.items():
        (copied / file).write_bytes(content)
    Package.open(copied, package.digest)
    (copied / name).write_text(SOURCE.replace("0.16", "0.17"), encoding="utf-8")
    with pytest.raises(PackageError, match=f"{name} is not the file that was sealed"):
        Package.open(copied, package.digest)


def test_equal_inputs_give_the_same_package_and_another_function_is_refused(house: House) -> None:
    again = train(house.settings, house.spec, house.domain, house.training_set)
    assert again.package.digest == house.package.digest
    file = house.settings.dags / "domains" / "flights" / "trial.py"
    try:
        file.write_text(SOURCE.replace("0.16", "0.17"), encoding="utf-8")
        with pytest.raises(TrainingError, match="'chill' is not what its function gives now"):
            train(house.settings, house.spec, house.domain, house.training_set)
    finally:
        file.write_text(SOURCE, encoding="utf-8")


def test_a_function_that_fails_online_is_the_services_fault(house: House) -> None:
    broken = OnDemandFunctions(house.package.features, {"trial": "def trial(columns):\n    return 1 / 0\n"})
    columns = {column.name: [None] for column in house.package.features.inputs}
    with pytest.raises(RequestError, match="trial raises ZeroDivisionError") as caught:
        assemble(house.package.features, InferenceRequest(columns=columns, rows=1), None, broken)
    assert caught.value.status == 500
    assert "flights/trial.py, line 2" in str(caught.value)


def test_entity_rows_without_what_a_function_reads_are_refused_before_any_work(house: House) -> None:
    rows = house.at_the_mark(5)
    with pytest.raises(FeatureError, match="'month' are missing"):
        historical_features(house.spec, house.domain, rows.drop("month"), settings=house.settings)
    with pytest.raises(FeatureError, match="'tailnum' are missing"):
        historical_features(house.spec, house.domain, rows.drop("tailnum"), settings=house.settings)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("columns['temp'] - np.nanmean(columns['temp'])", "when called with one row"),
        ("np.cumsum(np.nan_to_num(columns['temp']))", "when called with the rows in another order"),
        ("np.random.default_rng().normal(size=len(columns['temp']))", "when called a second time"),
        ("columns['temp'] / {}['EWR']", "raises KeyError"),
        ("columns['temp'][:1]", "returns 1 values of 'chill' for 257 rows"),
    ],
)
def test_check_finds_a_function_that_looks_beyond_its_row(dags: Path, body: str, fault: str) -> None:
    source = f"import numpy as np\n\ndef trial(columns):\n    return {{'chill': {body}}}\n"
    domain = add_view(dags, source, features={"chill": "number"})
    (found,) = on_demand_faults(domain, dags / "domains")
    assert fault in str(found)
    assert "flights/trial.py" in found.where


def test_check_finds_what_a_use_case_cannot_have(house: House) -> None:
    def faults(spec: UseCaseSpec, domain: DomainSpec = house.domain) -> list[str]:
        return [str(fault) for fault in check_features(domain, spec, settings=house.settings)]

    assert faults(house.spec) == []
    (unknown,) = faults(make_use_case(on_demand={"trail": ["chill"]}, categorical=[]))
    assert "did you mean 'trial'" in unknown
    (feature,) = faults(make_use_case(on_demand={"trial": ["chil"]}, categorical=[]))
    assert "did you mean 'chill'" in feature
    view = house.domain.on_demand["trial"].model_copy(update={"request": {"mnth": "number"}})
    wrong = house.domain.model_copy(update={"on_demand": {**house.domain.on_demand, "trial": view}})
    assert any(
        "no clean column 'mnth'" in told and "did you mean 'month'" in told for told in faults(house.spec, wrong)
    )
