"""One installation, started for real, for all system tests of a session; stopped and removed at its end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from millrace.local import stack
from millrace.local.airflow_client import AirflowClient
from millrace.local.layout import Layout
from millrace.local.prepare import Installation, read_password
from millrace.settings import Settings
from tests.conftest import ROOT

_NOT_OURS = ("MILLRACE_", "AIRFLOW", "MLFLOW_TRACKING")


@dataclass(frozen=True, slots=True)
class Running:
    """A started installation.

    Attributes:
        layout: where it lives.
        installation: its addresses and users.
        settings: its settings.
        environ: environment of commands that speak to it.
    """

    layout: Layout
    installation: Installation
    settings: Settings
    environ: dict[str, str]

    def client(self, user: str = "admin") -> AirflowClient:
        """Airflow's REST API as one of its users."""
        return AirflowClient(self.installation.addresses["airflow"], user, read_password(self.layout, user))


def strict_twin(folder: Path) -> None:
    """Put a second duration use case under policy `medium` beside the first, to try the human step on."""
    text = (folder / "use_cases" / "flight_duration.yaml").read_text(encoding="utf-8")
    text = text.replace("name: flight_duration\n", "name: duration_reviewed\n").replace("tier: low", "tier: medium")
    text = text.replace("flight_duration_v2", "duration_reviewed_v1")
    (folder / "use_cases" / "duration_reviewed.yaml").write_text(text, encoding="utf-8")
    dag = (folder / "flight_duration.py").read_text(encoding="utf-8")
    (folder / "duration_reviewed.py").write_text(dag.replace("flight_duration", "duration_reviewed"), encoding="utf-8")


_IMPORT = '''
"""Flight duration by a model from elsewhere, under four eyes."""

from millrace_airflow.groups import UseCaseDags

bought = UseCaseDags("duration_bought")

with bought.import_dag():
    training_set = bought.build_training_set()
    candidates = [bought.import_model(training_set), *bought.train_beside(training_set)]
    evaluation = bought.evaluate_candidates(training_set, candidates)
    verdict = bought.check_gates(evaluation)
    registered = bought.register_model(evaluation, verdict)
    approval = bought.approve_release(evaluation, verdict, registered, again=False)
    release = bought.release_model(evaluation, verdict, registered, approval, again=False)
    bought.deploy_release(release) >> bought.verify_deployment()
'''


def bought_twin(folder: Path) -> None:
    """Put a third one beside them, whose models all come from elsewhere."""
    text = (folder / "use_cases" / "duration_reviewed.yaml").read_text(encoding="utf-8")
    text = text.replace("duration_reviewed", "duration_bought")
    (folder / "use_cases" / "duration_bought.yaml").write_text(text, encoding="utf-8")
    (folder / "duration_bought.py").write_text(_IMPORT, encoding="utf-8")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """PostgreSQL, Airflow, MLflow and the online service, on free ports, under a path with a space in it."""
    base = Path(os.environ.get("MILLRACE_TEST_VAR") or tmp_path_factory.mktemp("system")) / "system test"
    shutil.rmtree(base / "dags", ignore_errors=True)
    shutil.copytree(ROOT / "dags", base / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    strict_twin(base / "dags")
    bought_twin(base / "dags")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
    environ |= {"MILLRACE_ROOT": str(ROOT), "MILLRACE_VAR": str(base / "var"), "MILLRACE_DAGS": str(base / "dags")}
    layout = Layout(root=ROOT, var=base / "var", dags=base / "dags")
    stack.clean(layout)
    try:
        installation, _ = stack.up(layout, environ, dag_ids=("flights_data", "flight_delay_train"))
        yield Running(layout, installation, Settings.load(environ), environ)
    finally:
        stack.down(layout)
    stack.clean(layout)
