"""A use case `sold` with a training set, and its DAGs run by an Airflow of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.training.synthetic import make_domain, make_use_case, write_training_set

from millrace.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import json
from pathlib import Path

from millrace_airflow.groups import UseCaseDags
from millrace_airflow.operators.training import BuildTrainingSetOperator


class Built(BuildTrainingSetOperator):
    output = json.loads(Path(__file__).with_name("training_set.json").read_text())


given = Built(task_id="given", use_case="sold")
sold = UseCaseDags("sold")
"""
"""Of a DAG file; `given` stands for the task that builds the training set."""
_SCRIPT = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1], bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
run = bag.dags[sys.argv[2]].test(run_conf=json.loads(sys.argv[3]))
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
with create_session() as session:
    xcoms = [
        {"task": x.task_id, "index": x.map_index, "key": x.key, "value": XComModel.deserialize_value(x)}
        for x in session.query(XComModel).filter(XComModel.run_id == run.run_id)
    ]
    tasks = [
        {"task": t.task_id, "index": t.map_index, "state": str(t.state), "label": t.rendered_map_index}
        for t in run.get_task_instances(session=session)
    ]
print("RESULT " + json.dumps({"run": run.run_id, "state": str(run.state), "tasks": tasks, "xcoms": xcoms}, default=str))
"""


@dataclass(frozen=True)
class Ended:
    """What a run came to."""

    run: str
    state: str
    tasks: list[dict[str, Any]]
    xcoms: list[dict[str, Any]]
    log: str

    def states(self) -> dict[str, str]:
        """Candidate or task → state."""
        return {task["label"] or task["task"]: task["state"] for task in self.tasks}

    def xcom(self, key: str, task: str = "evaluate_candidates") -> Any:
        """The values of a key that a task left, the only one by itself."""
        found = [item["value"] for item in self.xcoms if (item["task"], item["key"]) == (task, key)]
        return found[0] if len(found) == 1 else found


def lay_out(settings: Settings, candidates: dict[str, Any], dag: str) -> None:
    """The use case in YAML, its DAG file, which ends with `dag`, and a training set."""
    lay_mlflow(settings)
    use_case = make_use_case("binary", **candidates)
    measured = use_case.evaluation.model_copy(update={"slices": use_case.features.categories[:1], "bootstrap": 50})
    use_case = use_case.model_copy(update={"evaluation": measured})
    for folder, spec in (("domains", make_domain()), ("use_cases", use_case)):
        text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)
        (settings.dags / folder / f"{spec.name}.yaml").write_text(text, encoding="utf-8")
    (settings.dags / "domains" / "x.sql").write_text("SELECT 1", encoding="utf-8")
    ref = write_training_set(use_case, settings.lake, ["2020-01", "2020-02", "2020-03"], 400)
    (settings.dags / "training_set.json").write_text(json.dumps(ref.to_dict()), encoding="utf-8")
    (settings.dags / "sold.py").write_text(HEAD + dag, encoding="utf-8")


def make_airflow(home: Path) -> dict[str, str]:
    """The environment of an Airflow at home there, its database made."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MILLRACE_"))},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    }
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([str(airflow), "db", "migrate"], env=environ, check=True, capture_output=True, timeout=500)
    return environ


def run_dag(settings: Settings, environ: dict[str, str], dag: str, conf: dict[str, Any]) -> Ended:
    """Run it once, in a process of its own."""
    environ = {
        **environ,
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.dags),
        "MILLRACE_ROOT": str(settings.root),
        "MILLRACE_VAR": str(settings.var),
        "MILLRACE_DAGS": str(settings.dags),
    }
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(settings.dags), dag, json.dumps(conf)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert told, done.stdout[-3000:] + done.stderr[-3000:]
    return Ended(**json.loads(told[-1].removeprefix("RESULT ")), log=done.stdout + done.stderr)
