"""The DAGs of a domain beside its data: replay by form, and the start by new files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.drops import write_drops

from millrace.errors import SpecError
from millrace.settings import Settings, settings
from millrace.spec import FileSourceSpec, list_specs, load_domain

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def drops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The DAGs of a domain that watches a folder."""
    from airflow.dag_processing.dagbag import DagBag

    write_drops(tmp_path / "dags", tmp_path / "in")
    monkeypatch.setenv("MILLRACE_DAGS", str(tmp_path / "dags"))
    settings.cache_clear()
    bag = DagBag(str(tmp_path / "dags"), bundle_name="dags-folder")
    assert bag.import_errors == {}
    yield bag.dags
    settings.cache_clear()


def _core(dag: Any) -> Any:
    """The DAG as the scheduler has it: through its serialised form."""
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))


def test_a_domain_that_watches_has_a_dag_for_arrivals() -> None:
    """A file that sets `watch: true` and has no such DAG would be silently deaf."""
    for name in list_specs(ROOT / "dags", "domains"):
        sources = load_domain(ROOT / "dags", name).sources.values()
        watches = any(isinstance(spec, FileSourceSpec) and spec.watch for spec in sources)
        assert watches == ("arrivals()" in (ROOT / "dags" / f"{name}.py").read_text(encoding="utf-8")), name


def test_a_domain_that_watches_nothing_has_none(dag_bag: Any) -> None:
    from millrace_airflow.groups import DomainDags

    assert "flights_arrivals" not in dag_bag.dags
    with pytest.raises(SpecError, match="watches nothing"):
        DomainDags("flights").arrivals()


def test_every_dag_of_the_domain_tells_who_owns_it_and_what_to_press(drops: Any) -> None:
    assert set(drops) == {"drops_data", "drops_replay", "drops_arrivals"}
    for kind in ("data", "replay", "arrivals"):
        dag = drops[f"drops_{kind}"]
        assert len(dag.doc_md) > 200
        assert dag.tags == {"millrace", "drops", kind}
        assert dag.max_active_runs == 1
        for task in dag.tasks:
            assert task.owner == "admin"
            assert task.retries == 2
            assert task.retry_policy is not None
            assert "Runbook" in {link.name for link in task.operator_extra_links}


def test_the_replay_form_names_the_sources_and_explains_every_field(dag_bag: Any) -> None:
    params = dag_bag.dags["flights_replay"].params
    assert list(params) == ["source", "action", "reasons", "partitions", "ids", "reason", "corrections"]
    assert params.get_param("source").schema["enum"] == ["flights", "weather", "planes"]
    assert set(params.get_param("action").schema["values_display"]) == {"revalidate", "waive", "correct", "reopen"}
    for name in params:
        field = params.get_param(name)
        assert field.schema["title"]
        assert field.description
    params.validate()


def test_replay_recomputes_each_stale_partition_by_itself(dag_bag: Any) -> None:
    dag = dag_bag.dags["flights_replay"]
    assert dag.get_task("replay_quarantine").downstream_task_ids == {"list_stale_partitions"}
    build, bring = dag.get_task("recompute.build_features"), dag.get_task("recompute.materialize_features")
    announce = dag.get_task("recompute.announce_features")
    assert build.downstream_task_ids == {bring.task_id}
    assert bring.downstream_task_ids == {announce.task_id}
    assert build.get_closest_mapped_task_group() is not None
    assert [outlet.name for outlet in announce.outlets] == ["flights/features"]


def test_each_view_is_a_mapped_task_and_the_features_are_announced_once_after_all(dag_bag: Any) -> None:
    dag = dag_bag.dags["flights_data"]
    bring = dag.get_task("materialize_features.materialize_view")
    announce = dag.get_task("materialize_features.announce_features")
    assert bring.is_mapped
    assert bring.partial_kwargs["map_index_template"] == "{{ task.view }}"
    assert bring.expand_input.value == {"view": list(load_domain(ROOT / "dags", "flights").feature_tables)}
    assert bring.upstream_task_ids == {"build_features"}
    assert announce.upstream_task_ids == {bring.task_id}
    assert not announce.is_mapped
    assert [task.task_id for task in dag.tasks if task.outlets] == [announce.task_id]


def test_a_domain_without_views_is_announced_all_the_same(
    tmp_path: Path, drops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import DAG

    from millrace_airflow.groups import DomainDags

    domain = DomainDags("drops")
    assert drops["drops_data"].get_task("materialize_features.announce_features").trigger_rule == "all_success"
    domain.spec = domain.spec.model_copy(update={"feature_tables": {}})
    with DAG("probe", schedule=None) as dag:
        domain.materialize_features()
    assert dag.get_task("materialize_features.announce_features").trigger_rule == "none_failed"


def test_new_files_are_waited_for_in_the_triggerer(drops: Any, tmp_path: Path) -> None:
    dag = _core(drops["drops_arrivals"])
    ((key, asset),) = dag.timetable.asset_condition.iter_assets()
    (watcher,) = asset.watchers
    assert key.name == "drops/arrivals/readings"
    assert watcher.trigger["classpath"] == "millrace_airflow.triggers.arrival.FileArrivalTrigger"
    assert watcher.trigger["kwargs"]["uri"] == f"{tmp_path}/in/{{partition}}.csv"
    assert [outlet.name for outlet in drops["drops_arrivals"].get_task("request_partition").outlets] == [
        "drops/requested"
    ]


def test_the_data_dag_runs_by_schedule_by_backfill_and_by_request(drops: Any) -> None:
    from airflow.timetables.base import TimeRestriction

    timetable = _core(drops["drops_data"]).timetable
    assert timetable.partitioned
    assert timetable.periodic
    assert [key.name for key, _ in timetable.asset_condition.iter_assets()] == ["drops/requested"]
    restriction = TimeRestriction(earliest=datetime(2024, 1, 1, tzinfo=UTC), latest=None, catchup=True)
    first = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction)
    assert first.partition_key == "2023-12"
    infos = timetable.iter_partition_dagrun_infos(
        earliest=datetime(2024, 2, 1, tzinfo=UTC), latest=datetime(2024, 4, 1, tzinfo=UTC)
    )
    assert [info.partition_key for info in infos] == ["2024-02", "2024-03", "2024-04"]


def test_a_requested_key_stays_and_gets_the_date_that_the_schedule_would_give(drops: Any) -> None:
    timetable = _core(drops["drops_data"]).timetable
    mapper = timetable.get_partition_mapper(name="drops/requested", uri="drops/requested")
    assert mapper.to_downstream("2024-03") == "2024-03"
    assert mapper.to_partition_date("2024-03") == datetime(2024, 3, 1, 5, tzinfo=UTC)
    assert timetable.resolve_partition_date("2024-03") == datetime(2024, 3, 1, 5, tzinfo=UTC)


def test_parsing_a_domain_that_watches_loads_no_heavy_library(tmp_path: Path) -> None:
    write_drops(tmp_path, tmp_path / "in")
    heavy = ("pandas", "numpy", "great_expectations", "feast", "duckdb", "deltalake", "pyarrow", "s3fs")
    code = (
        "import sys, json, runpy\n"
        f"runpy.run_path({str(tmp_path / 'drops.py')!r})\n"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
        env={**os.environ, "MILLRACE_DAGS": str(tmp_path)},
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_corrections_are_read_from_their_folder_only(settings: Settings, tmp_path: Path) -> None:
    from millrace_airflow.operators.replay import correction_file

    folder = settings.var / "corrections"
    (folder / "march").mkdir(parents=True)
    wanted = folder / "march" / "rows.csv"
    wanted.write_text("row_id\n", encoding="utf-8")
    outside = tmp_path / "secret.csv"
    outside.write_text("x\n", encoding="utf-8")
    (folder / "link.csv").symlink_to(outside)
    assert correction_file("march/rows.csv", settings) == wanted
    assert correction_file(str(wanted), settings) == wanted
    for name in ("../../secret.csv", "march/../march/rows.csv", str(outside), "link.csv", "/etc/passwd"):
        with pytest.raises(SpecError, match="does not lie in the folder"):
            correction_file(name, settings)
    with pytest.raises(SpecError, match="no file"):
        correction_file("april.csv", settings)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"action": "waive", "reason": "  "}, "a waiver needs a reason"),
        ({"action": "reopen", "reason": ""}, "reopening needs a reason"),
        ({"action": "correct"}, "a correction needs its file"),
        ({"action": "revalidate", "corrections": "a.csv"}, "takes no file"),
    ],
)
def test_a_form_that_cannot_be_meant_is_refused_before_anything_is_touched(
    dag_bag: Any, given: dict[str, str], told: str
) -> None:
    from millrace_airflow.operators.replay import ReplayQuarantineOperator

    operator = ReplayQuarantineOperator(task_id="x", domain="flights", source="flights", **given)
    with pytest.raises(SpecError, match=told):
        operator.execute({})


class Context(dict[str, Any]):
    """As much of a task's context as operators use; remembers what they push and announce."""

    def __init__(self, *, is_paused: bool = False) -> None:
        super().__init__()
        self.paused, self.pushed, self.announced = is_paused, dict[str, Any](), list[str]()
        self["ti"], self["outlet_events"] = self, self

    def get_dag(self, dag_id: str) -> Any:
        return SimpleNamespace(dag_id=dag_id, is_paused=self.paused)

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value

    def __missing__(self, asset: Any) -> Any:
        return SimpleNamespace(add_partitions=lambda key: self.announced.append(f"{asset.name} {key}"))


def test_a_partition_is_asked_for_unless_the_data_dag_is_paused(drops: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from millrace_airflow.operators.arrival import RequestPartitionOperator

    operator = RequestPartitionOperator(task_id="x", domain="drops", partition="2024-03")
    context = Context()
    assert operator.execute(context) == "2024-03"
    assert context.announced == ["drops/requested 2024-03"]
    with pytest.raises(AirflowFailException, match="drops_data is paused"):
        operator.execute(Context(is_paused=True))


def test_features_are_announced_under_the_partition_of_the_task(drops: Any) -> None:
    from millrace_airflow.operators.features import AnnounceFeaturesOperator

    context = Context()
    assert AnnounceFeaturesOperator(task_id="x", domain="drops", partition="2024-03").execute(context) == "2024-03"
    assert context.announced == ["drops/features 2024-03"]


def test_stale_partitions_are_handed_on_and_none_is_a_skip(
    drops: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from millrace_airflow.operators.replay import ListStalePartitionsOperator

    monkeypatch.setenv("MILLRACE_VAR", str(tmp_path / "var"))
    settings.cache_clear()
    keys = ["2024-02", "2024-01", "2024-03"]
    assert ListStalePartitionsOperator(task_id="x", domain="drops", changed=keys).execute(Context()) == sorted(keys)
    with pytest.raises(AirflowSkipException, match="nothing downstream"):
        ListStalePartitionsOperator(task_id="y", domain="drops", changed=[]).execute(Context())
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    with pytest.raises(AirflowFailException, match="start a backfill of drops_data"):
        ListStalePartitionsOperator(task_id="z", domain="drops", changed=keys).execute(Context())
