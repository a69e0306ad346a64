"""A Ray cluster that runs by itself: work of a use case there is that done here, and a training outlives its task."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from tests.ray_cluster import TOKEN, Cluster, serve
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.training.synthetic import make_domain, make_rows, make_use_case, write_training_set

from millrace.artifact import DatasetRef, ModelRef
from millrace.engine.ray_jobs import RayJobs, _Lines
from millrace.errors import EngineError, TrainingError
from millrace.lake import Table
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import ComputeSpec, UseCaseSpec
from millrace.step.candidate import folder_of, open_job
from millrace.step.candidate_job import CandidateJob
from millrace.training import train_package
from millrace.training.run import StopFitError, alone

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(1200)]
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300
LIBRARIES = ("xgboost", "lightgbm", "torch")
DAG_FILE = """
import json
from pathlib import Path

from airflow.sdk import DAG
from millrace_airflow.operators.training import TrainModelOperator

given = json.loads(Path(__file__).with_name("training_set.json").read_text())
with DAG("there", schedule=None) as dag:
    TrainModelOperator(
        task_id="train", use_case="sold", partition="2020-03", candidate="boosted", training_set=given
    )
"""
SCRIPT = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.sdk.definitions.dag import _run_task
from airflow.utils.session import create_session

bag = DagBag(sys.argv[1], bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
dag = bag.dags["there"]
if sys.argv[2] == "1":
    dag.test()
else:
    with create_session() as session:
        (task,) = session.query(TaskInstance).all()
        task.try_number, task.state = int(sys.argv[2]), None
    _run_task(ti=task, task=dag.get_task("train"))
with create_session() as session:
    (task,) = session.query(TaskInstance).all()
    kept = session.query(XComModel).filter(XComModel.key == "return_value")
    print("RESULT " + json.dumps({"state": str(task.state), "models": [XComModel.deserialize_value(x) for x in kept]}))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Ray started from the command line."""
    if " " in sys.prefix:
        pytest.skip("Ray's own client server does not start from a path with a space")
    with serve() as found:
        yield found


@pytest.fixture
def house(settings: Settings, cluster: Cluster) -> House:
    """A use case whose candidates train by jobs of the cluster."""
    lay_mlflow(settings)
    boosted = {"trainer": "lightgbm", "params": {"rounds": 20, "checkpoint_every": 10, "threads": 1}}
    compute = ComputeSpec(engine="ray", threads=1, memory_limit="300MB", connection="cluster")
    use_case = make_use_case(boosted=boosted).model_copy(update={"compute": compute})
    ref = write_training_set(use_case, settings.lake, ["2020-01", "2020-02", "2020-03"], 400)
    return House(settings=settings, cluster=cluster, use_case=use_case, ref=ref)


@dataclass(frozen=True, kw_only=True)
class House:
    """An installation that shares its folders with the cluster."""

    settings: Settings
    cluster: Cluster
    use_case: UseCaseSpec
    ref: DatasetRef

    @property
    def jobs(self) -> RayJobs:
        return RayJobs(address=f"http://127.0.0.1:{self.cluster.dashboard}", token=TOKEN)

    def job(self, candidate: str = "boosted", **changes: Any) -> CandidateJob:
        return CandidateJob(
            **{
                "use_case": self.use_case,
                "domain": make_domain(),
                "candidate": candidate,
                "training_set": self.ref,
                "jobs": self.jobs,
                "settings": self.settings,
                **changes,
            }
        )

    def trained_here(self, store: Path) -> str:
        job, rows = open_job(self.use_case, make_domain(), "boosted", self.ref, settings=self.settings)
        return train_package(job, rows, store=store).package.digest

    @contextlib.contextmanager
    def held(self, ref: DatasetRef | None = None) -> Iterator[None]:
        """No training on these rows goes on meanwhile: each waits for the one that it takes this for."""
        job, rows = open_job(self.use_case, make_domain(), "boosted", ref or self.ref, settings=self.settings)
        folder = folder_of(job, rows, settings=self.settings)
        with alone(folder.with_name(f".{folder.name}.lock")):
            yield

    def running(self) -> str:
        """The name of the job that goes on, once there is one and its interpreter said something."""
        found = wait_for(lambda: [name for name in self.names() if self.jobs.status(name) == "RUNNING"])
        return str(found[0])

    def names(self) -> list[str]:
        """All jobs of the cluster that this installation asked for."""
        known = self.jobs._client().list_jobs()
        return sorted(item.submission_id or "" for item in known if str(self.settings.var) in item.entrypoint)

    def task(self, number: int, log: Path) -> subprocess.Popen[bytes]:
        """A try of the task by Airflow, in a process of its own."""
        home = self.settings.var / "airflow"
        given = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MILLRACE_"))}
        variables = {
            **given,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.settings.dags),
            "AIRFLOW_CONN_CLUSTER": self.cluster.connection("jobs"),
            "MILLRACE_ROOT": str(self.settings.root),
            "MILLRACE_VAR": str(self.settings.var),
            "MILLRACE_DAGS": str(self.settings.dags),
        }
        if not home.exists():
            airflow = str(Path(sys.executable).with_name("airflow"))
            subprocess.run([airflow, "db", "migrate"], env=variables, check=True, capture_output=True, timeout=300)
        command = [sys.executable, "-c", SCRIPT, str(self.settings.dags), str(number)]
        with log.open("wb") as told:
            return subprocess.Popen(command, env=variables, cwd=ROOT, stdout=told, stderr=told)

    def lay_dag(self) -> None:
        """The use case in YAML with a DAG file of its training alone."""
        for folder, spec in (("domains", make_domain()), ("use_cases", self.use_case)):
            text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)
            (self.settings.dags / folder / f"{spec.name}.yaml").write_text(text, encoding="utf-8")
        (self.settings.dags / "domains" / "x.sql").write_text("SELECT 1", encoding="utf-8")
        (self.settings.dags / "training_set.json").write_text(json.dumps(self.ref.to_dict()), encoding="utf-8")
        (self.settings.dags / "there.py").write_text(DAG_FILE, encoding="utf-8")


def wait_for(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.3)
    return found


def text_of(log: Path) -> str:
    """What it holds so far, though it may end within a character."""
    return log.read_text(encoding="utf-8", errors="replace")


def result_of(log: Path) -> dict[str, Any]:
    text = text_of(log)
    told = [line for line in text.splitlines() if line.startswith("RESULT ")]
    assert told, text[-4000:]
    found: dict[str, Any] = json.loads(told[-1].removeprefix("RESULT "))
    return found


def test_work_there_is_that_done_here(settings: Settings, cluster: Cluster) -> None:
    found = {}
    for way in ("local", "here", "head", "client"):
        var = settings.var / way
        variables = {
            **os.environ,
            "HOME": str(settings.var),
            "AIRFLOW_CONN_CLUSTER": cluster.connection(way if way in {"head", "client"} else "head"),
            "MILLRACE_VAR": str(var),
            "MILLRACE_DAGS": str(settings.dags),
        }
        (var / "mlflow").mkdir(parents=True)
        command = [sys.executable, "-m", "tests.integration.ray_life", way]
        done = subprocess.run(command, cwd=ROOT, env=variables, timeout=500, check=True, stdout=subprocess.PIPE)
        found[way] = json.loads(done.stdout.splitlines()[-1])
    local, here, head, client = found.values()
    for name in LIBRARIES:
        assert head[name] == here[name]
        assert head[name]["facts"]["workers"] == 2
    assert client["xgboost"] == here["xgboost"]
    assert head["tuned"]["params"]["max_depth"] in range(2, 7)
    assert "as a client" in client["tuned"]["refused"]
    for name in ("features", "training_set", "scores"):
        assert local[name] == head[name] == client[name]


def test_a_cluster_that_does_not_know_the_token_is_said(tmp_path: Path, cluster: Cluster) -> None:
    code = (
        "import sys\n"
        "from millrace.engine import open_engine\n"
        "from millrace.errors import EngineError\n"
        "from millrace.spec import ComputeSpec\n"
        "try:\n"
        "    with open_engine(ComputeSpec(engine='ray'), address=sys.argv[1], token='f' * 64) as engine:\n"
        "        list(engine.map(abs, [1, 2]))\n"
        "except EngineError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, f"ray://127.0.0.1:{cluster.client}"]
    variables = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=variables, timeout=300, check=True, capture_output=True, text=True)
    assert "the connection's password its token" in done.stdout
    assert "f" * 64 not in done.stdout + done.stderr


def test_a_killed_task_finds_its_job_again_and_a_stopped_one_ends_it(house: House, tmp_path: Path) -> None:
    house.lay_dag()
    first, second, third, fourth = (tmp_path / f"try-{number}.log" for number in (1, 2, 3, 4))
    with house.held():
        task = house.task(1, first)
        name = house.running()
        wait_for(lambda: "Running entrypoint" in text_of(first))
        task.kill()
        assert task.wait() == -signal.SIGKILL
        assert house.jobs.status(name) == "RUNNING"

        task = house.task(2, second)
        wait_for(lambda: "Reconnecting to existing job" in text_of(second))
        wait_for(lambda: "Running entrypoint" in text_of(second))
        task.terminate()
        wait_for(lambda: house.jobs.status(name) == "STOPPED")
        task.wait(timeout=PATIENCE_S)
        assert result_of(second)["state"] == "up_for_retry"

        task = house.task(3, third)
        again = house.running()
        assert again == f"{name.removesuffix('1')}2"
        wait_for(lambda: "Running entrypoint" in text_of(third))
        task.kill()
        task.wait()

        task = house.task(4, fourth)
        wait_for(lambda: "Reconnecting to existing job" in text_of(fourth))
    task.wait(timeout=PATIENCE_S)
    ended = result_of(fourth)
    assert ended["state"] == "success", text_of(fourth)[-4000:]
    (model,) = ended["models"]
    assert house.names() == [name, again]
    assert "is sealed" in text_of(fourth)
    assert model["digest"] == house.trained_here(tmp_path / "here")
    assert model["run_id"]
    assert not list((house.settings.var / "training").glob("*/"))


def test_a_job_that_is_done_is_only_logged_and_one_whose_package_is_gone_is_lost(house: House, tmp_path: Path) -> None:
    job = house.job()
    name = job.submit()
    assert job.submit() == name
    job.follow(name)
    assert job.is_done(job.status(name))
    model = house.job().finish()
    assert isinstance(model, ModelRef)
    assert model.digest == house.trained_here(tmp_path / "here")
    assert Package.open(house.settings.packages / model.digest, model.digest).probe() == 0
    assert job.status(name) == "LOST"
    with pytest.raises(EngineError, match="left no package"):
        house.job().finish()


def test_what_a_job_fails_with_arrives_as_it_was_and_the_next_try_asks_for_another(house: House) -> None:
    table = Table(house.settings.lake, house.ref.table)
    rows = make_rows(house.use_case, "2020-01", 400)
    label = rows.schema.get_field_index("label")
    same = rows.set_column(label, rows.field(label), pa.array([0] * rows.num_rows).cast(rows.field(label).type))
    for partition in ("2020-01", "2020-02"):
        written = table.replace(same, partition=partition)
    ref = replace(house.ref, version=written.version)
    job = house.job(training_set=ref)
    name = job.submit()
    with pytest.raises(TrainingError) as caught:
        job.follow(name)
    assert type(caught.value) is TrainingError
    assert caught.value.remedy
    assert job.status(name) == "FAILED"
    assert house.jobs.status("nobody-asked-for-this") == "UNKNOWN"
    with house.held(ref):
        again = job.submit()
        house.jobs.stop(again)
        with pytest.raises(StopFitError):
            job.follow(again)
    assert again == f"{name.removesuffix('1')}2"


def test_a_job_that_is_stopped_while_it_waits_for_room_is_not_waited_for_again(house: House) -> None:
    wide = {"trainer": "lightgbm", "params": {"rounds": 20, "checkpoint_every": 10, "threads": 2}}
    whole = make_use_case(boosted=wide).model_copy(update={"compute": house.use_case.compute})
    with house.held():
        first = house.job()
        running = first.submit()
        wait_for(lambda: first.status(running) == "RUNNING")
        waiting = house.job(use_case=whole)
        name = waiting.submit()
        assert waiting.status(name) == "PENDING"
        waiting.stop(name)
        assert house.jobs.status(name) == "PENDING"
        assert not waiting.is_active(waiting.status(name))
        again = waiting.submit()
        assert again == f"{name.removesuffix('1')}2"
        for job, one in ((waiting, again), (first, running)):
            job.stop(one)
    wait_for(lambda: {house.jobs.status(one) for one in (running, name, again)} == {"STOPPED"})


def test_jobs_that_cannot_be_asked_for_are_told_with_the_remedy(house: House) -> None:
    for address, token in ((house.jobs.address, "f" * 64), ("http://127.0.0.1:9", TOKEN), ("nowhere", "")):
        with pytest.raises(EngineError, match="dashboard up") as caught:
            house.job(jobs=RayJobs(address=address, token=token)).submit()
        assert caught.value.retryable
        assert token not in str(caught.value) or not token


def test_a_log_that_is_read_again_is_told_once() -> None:
    told: list[str] = []
    lines = _Lines(told.append)
    for chunk in ("one\ntw", "o\nthr"):
        lines.read(chunk)
    lines.rewind()
    for chunk in ("one\n", "two\nthree\nfo"):
        lines.read(chunk)
    lines.end()
    assert told == ["one", "two", "three", "fo"]
