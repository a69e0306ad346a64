"""A use case from its files to a prediction by the operators' own code, and lineage over what that left behind."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.serde import Serde
from tests.unit import parcels
from tests.unit.governance.proposal import lay_mlflow
from typer.testing import CliRunner

from millrace.cli.main import _app
from millrace.errors import ContractError
from millrace.governance.release import Releases
from millrace.lake import Table
from millrace.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.full]
RUN = "01995d8a-3a0f-7c8e-8a8e-0123456789ab"
HOLDOUT, SCORED = parcels.MONTHS[2], parcels.MONTHS[3]
ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Life:
    """What the operators left, and the events of each."""

    settings: Settings
    events: dict[str, list[dict[str, Any]]]
    files: Path


class Events(dict[Any, Any]):
    """Stands in for Airflow's outlet events: takes whatever is added."""

    def __missing__(self, key: Any) -> Any:
        return SimpleNamespace(add=lambda *_, **__: None, add_partitions=lambda *_: None, extra={})


def context() -> dict[str, Any]:
    ti = SimpleNamespace(xcom_push=lambda **_: None, try_number=1)
    run = SimpleNamespace(dag_id="post", run_id="manual", triggering_user_name=None)
    return {"ti": ti, "dag_run": run, "outlet_events": Events()}


def emit(operator: Any) -> dict[str, Any]:
    """The event that the provider would send, made by its own extractor and written by OpenLineage's own writer."""
    from airflow.providers.openlineage.extractors.base import DefaultExtractor

    found = DefaultExtractor(operator).extract_on_complete(None)
    assert found is not None
    event = RunEvent(
        eventType=RunState.COMPLETE,
        eventTime="2021-05-01T00:00:00Z",
        run=Run(runId=RUN),
        job=Job(namespace="millrace", name=operator.task_id),
        inputs=found.inputs,
        outputs=found.outputs,
    )
    written: dict[str, Any] = json.loads(Serde.to_json(event))
    return written


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("life")
    parcels.write_files(folder / "files")
    parcels.write_specs(folder / "dags", folder / "files")
    settings = Settings.load(
        {"MILLRACE_ROOT": str(ROOT), "MILLRACE_VAR": str(folder / "var"), "MILLRACE_DAGS": str(folder / "dags")}
    )
    (folder / "var" / "mlflow").mkdir(parents=True)
    lay_mlflow(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("millrace_airflow.operators.base.settings", lambda: settings)
        patch.setattr("millrace_airflow.operators.approval.settings", lambda: settings)
        events = live(settings)
        for name in ("VAR", "DAGS"):
            patch.setenv(f"MILLRACE_{name}", str(getattr(settings, name.lower())))
        patch.setenv("COLUMNS", "80")
        yield Life(settings=settings, events=events, files=folder / "files")


def live(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """From files to predictions; operator class → its events."""
    from millrace_airflow.operators.approval import ApproveReleaseOperator
    from millrace_airflow.operators.evaluation import CheckGatesOperator, EvaluateCandidatesOperator
    from millrace_airflow.operators.features import AnnounceFeaturesOperator, BuildFeaturesOperator
    from millrace_airflow.operators.governance import RegisterModelOperator, ReleaseModelOperator
    from millrace_airflow.operators.ingestion import IngestPartitionOperator
    from millrace_airflow.operators.monitoring import JoinLabelsOperator, MeasurePerformanceOperator
    from millrace_airflow.operators.scoring import ScorePartitionOperator
    from millrace_airflow.operators.training import BuildTrainingSetOperator, TrainModelOperator
    from millrace_airflow.operators.validation import ValidatePartitionOperator

    events: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def run(kind: Any, **arguments: Any) -> Any:
        operator = kind(task_id=kind.__name__.lower(), **arguments)
        result = operator.execute(context())
        events[kind.__name__].append(emit(operator))
        return result

    for month in parcels.MONTHS:
        data = {"domain": "post", "partition": month}
        run(IngestPartitionOperator, source="parcels", **data)
        run(ValidatePartitionOperator, source="parcels", **data)
        run(BuildFeaturesOperator, **data)
        run(AnnounceFeaturesOperator, **data)
    train = {"use_case": "parcel_late", "partition": HOLDOUT}
    training_set = run(BuildTrainingSetOperator, **train)
    models = [
        run(TrainModelOperator, candidate=name, training_set=training_set, **train) for name in ("xgboost", "baseline")
    ]
    evaluation = run(EvaluateCandidatesOperator, training_set=training_set, candidates=[models], **train)
    verdict = run(CheckGatesOperator, evaluation=evaluation, **train)
    registered = run(RegisterModelOperator, evaluation=evaluation, verdict=verdict, **train)
    judged = {"evaluation": evaluation, "verdict": verdict, **train}
    approval = run(ApproveReleaseOperator, **judged)
    run(ReleaseModelOperator, registered=registered, approval=approval, **judged)
    score = {"use_case": "parcel_late", "partition": SCORED}
    run(ScorePartitionOperator, **score)
    run(JoinLabelsOperator, **score)
    run(MeasurePerformanceOperator, **score)
    return events


def names(event: dict[str, Any], side: str) -> dict[str, dict[str, Any]]:
    return {f"{item['namespace']}:{item['name']}": item for item in event[side]}


def ask(*argv: str, code: int = 0) -> str:
    result = CliRunner().invoke(_app, ["lineage", *argv])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def test_every_event_has_datasets_and_every_table_its_version_columns_and_location(life: Life) -> None:
    for kind, events in life.events.items():
        for event in events:
            datasets = [*event["inputs"], *event["outputs"]]
            assert event["inputs"], kind
            for item in datasets:
                every = {**item["facets"], **item.get("inputFacets", {}), **item.get("outputFacets", {})}
                assert all(facet["_schemaURL"] and facet["_producer"] for facet in every.values()), kind
                if item["namespace"].endswith("/lake"):
                    assert {"version", "schema", "storage", "symlinks"} <= set(item["facets"]), (kind, item["name"])
                    assert item["facets"]["symlinks"]["identifiers"][0]["name"].endswith(item["name"])


def test_tables_models_and_documents_are_linked_from_files_to_predictions(life: Life) -> None:
    written = {item["name"] for events in life.events.values() for event in events for item in event["outputs"]}
    assert {"post/raw/parcels", "post/clean/parcels", "post/quarantine/parcels", "post/features/depot_pace"} <= written
    assert {"parcel_late/training_set/parcel_late_v1", "parcel_late/xgboost", "models/parcel_late"} <= written
    assert {"parcel_late/predictions", "parcel_late/labelled"} <= written
    inner = {item["name"] for events in life.events.values() for event in events for item in event["inputs"]}
    assert inner - written == {str(life.files / f"parcels-{month}.csv") for month in parcels.MONTHS}


def test_rows_partition_and_version_are_those_of_the_snapshot(life: Life) -> None:
    (event,) = life.events["ScorePartitionOperator"]
    predictions = next(item for item in event["outputs"] if item["name"] == "parcel_late/predictions")
    table = Table(life.settings.lake, "parcel_late/predictions")
    assert predictions["facets"]["version"]["datasetVersion"] == str(table.version())
    assert predictions["outputFacets"]["outputStatistics"]["rowCount"] == table.open().count() == 599
    subset = predictions["outputFacets"]["subset"]["outputCondition"]["partitions"]
    assert [item["identifier"] for item in subset] == [SCORED]
    columns = {field["name"]: field["type"] for field in predictions["facets"]["schema"]["fields"]}
    assert (columns["key"], columns["prediction"], columns["recorded_at"]) == ("string", "double", "timestamp")


def test_models_carry_the_digest_of_their_package_from_training_to_release(life: Life) -> None:
    digest = Releases(life.settings).list("parcel_late")[0].package
    trained = life.events["TrainModelOperator"][0]["outputs"][0]
    assert trained["facets"]["version"]["datasetVersion"] == digest
    for kind in ("RegisterModelOperator", "ReleaseModelOperator"):
        assert life.events[kind][0]["outputs"][0]["facets"]["millrace_model"]["facts"]["package"] == digest
    scored_by = names(life.events["ScorePartitionOperator"][0], "inputs")["release:parcel_late"]
    assert scored_by["facets"]["version"]["datasetVersion"] == "1"
    assert scored_by["facets"]["millrace_model"]["facts"]["package"] == digest


def test_expectations_stand_with_the_rows_they_judged_and_gates_with_the_model(life: Life) -> None:
    raw = life.events["ValidatePartitionOperator"][0]["inputs"][0]
    told = {item["name"]: item for item in raw["inputFacets"]["dataQualityAssertions"]["assertions"]}
    assert told["column_values_to_not_be_null.sent_at"]["success"]
    failed = told["column_values_to_be_between.weight"]
    assert (failed["success"], failed["column"], failed["actual"]) == (False, "weight", "1 rows fail")
    assert (failed["severity"], failed["description"]) == ("error", "a failure means: quarantine")
    assert told["column_values_to_be_in_set.colour"]["severity"] == "warn"
    assert "green" not in orjson.dumps(raw).decode()
    judged = life.events["CheckGatesOperator"][0]["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(item["assertion"], item["success"]) for item in judged] == [("gates", True)]


def test_a_prediction_leads_back_to_its_files_and_every_link_is_proven(life: Life) -> None:
    release = Releases(life.settings).list("parcel_late")[0]
    found = json.loads(ask("prediction", f"P{SCORED}-3", "--json"))
    assert found["breaks"] == []
    assert found["prediction"]["id"] == f"parcel_late/1/P{SCORED}-3"
    assert (found["release"]["package"], found["evidence"]["digest"]) == (release.package, release.evidence)
    assert [item["name"] for item in found["approvals"]] == ["policy:low"]
    assert found["evidence"]["gates"] == {"beats_baseline": "pass"}
    assert Path(found["evidence"]["card"]).is_file()
    assert (found["training"]["table"], found["training"]["partitions"]) == (
        "parcel_late/training_set/parcel_late_v1",
        parcels.MONTHS[:2],
    )
    assert [(item["partition"], item["places"]) for item in found["sources"]] == [
        (month, [str(life.files / f"parcels-{month}.csv")]) for month in parcels.MONTHS[:2]
    ]
    assert [(item["clean"]["rows"], item["raw"]["rows"]) for item in found["sources"]] == [(599, 600)] * 2
    assert found["row"]["partition"] == found["scored"]["partition"] == SCORED
    told = ask("prediction", f"P{SCORED}-3")
    assert "whole: every link is there and matches" in told
    assert max(map(len, told.splitlines())) <= 80


def test_a_column_leads_forward_to_training_release_and_predictions(life: Life) -> None:
    found = json.loads(ask("column", "parcels.took", "--from", "2021-02-01", "--to", "2021-02-28", "--json"))
    assert found["clean"]["columns"] == ["took", "known_at"]
    assert found["clean"]["features"][0]["partitions"] == ["2021-02", "2021-03"]
    (case,) = found["use_cases"]
    assert (case["verdict"], case["label"]) == ("leak: never a feature", ["expression", "known_at"])
    assert case["training_partitions"] == ["2021-02", "2021-03"]
    (release,) = case["releases"]
    assert (release["trained_on"], release["evaluated_on"], release["in_force"]) == (["2021-02"], "2021-03", True)
    assert release["predictions"] == [{"partition": SCORED, "role": "live", "rows": 599, "inputs": True}]
    heavy = json.loads(ask("column", "parcels.weight", "--from", "2021-04-02", "--json"))
    (release,) = heavy["use_cases"][0]["releases"]
    assert (release["trained_on"], release["evaluated_on"]) == ([], "")
    assert release["predictions"] == [{"partition": SCORED, "role": "live", "rows": 599, "inputs": True}]


def test_a_changed_bundle_or_a_lost_recipe_breaks_the_way_and_is_named(life: Life) -> None:
    evidence = Path(json.loads(ask("prediction", f"P{SCORED}-3", "--json"))["evidence"]["file"])
    sealed = evidence.read_bytes()
    recipes = life.settings.var / "recipes"
    try:
        evidence.write_bytes(sealed.replace(b'"auc"', b'"auk"', 1))
        recipes.rename(recipes.with_name("gone"))
        told = ask("prediction", f"P{SCORED}-3", code=1)
    finally:
        evidence.write_bytes(sealed)
        recipes.with_name("gone").rename(recipes)
    assert "broken: evidence" in told
    assert "has no recipe" in told
    assert ask("prediction", f"P{SCORED}-3")


def test_a_blocked_partition_says_in_its_failed_event_which_expectation_blocked_it(life: Life) -> None:
    from millrace_airflow.operators.ingestion import IngestPartitionOperator
    from millrace_airflow.operators.validation import ValidatePartitionOperator

    file = life.files / f"parcels-{SCORED}.csv"
    file.write_text(parcels.HEADER + "P1,D1,2.0,,5.0,brown\n")
    arguments = {"domain": "post", "source": "parcels", "partition": SCORED}
    IngestPartitionOperator(task_id="ingest", **arguments).execute(context())
    blocked = ValidatePartitionOperator(task_id="validate", **arguments)
    with pytest.raises(ContractError):
        blocked.execute(context())
    event = emit(blocked)
    (raw,) = event["inputs"]
    told = {item["name"]: item for item in raw["inputFacets"]["dataQualityAssertions"]["assertions"]}
    assert told["column_values_to_not_be_null.sent_at"]["severity"] == "error"
    assert not told["column_values_to_not_be_null.sent_at"]["success"]
    assert (event["outputs"], raw["inputFacets"]["inputStatistics"]["rowCount"]) == ([], 1)
