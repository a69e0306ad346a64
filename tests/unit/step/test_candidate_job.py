"""What a job of a cluster is given of an installation, and when a candidate trains by one."""

from __future__ import annotations

import dataclasses
import stat

import orjson
import pytest
from tests.unit.training.synthetic import QUICK, make_domain, make_use_case, write_training_set

from millrace.engine.ray_jobs import RayJobs
from millrace.ingestion import Connection
from millrace.settings import Settings
from millrace.spec import ComputeSpec
from millrace.step.candidate_job import JOB, REQUEST, CandidateJob, open_jobs, settings_of
from millrace.training import TrainingJob

SECRETS = ("serving_token", "privacy_key", "airflow_token", "online_store", "registry_url", "mlflow_url")
TUNED = {
    "trainer": "lightgbm",
    "params": {"rounds": 5},
    "tuning": {"space": {"num_leaves": {"type": "int", "low": 4, "high": 8}}, "trials": 2, "folds": 1},
}


@pytest.mark.parametrize("extra", [{}, {"address": "head:6379"}, {"jobs": ""}, {"jobs": "http://head:8265/"}])
def test_a_candidate_trains_by_a_job_where_the_connection_names_where_they_are_asked_for(extra: dict[str, str]) -> None:
    def connections(name: str) -> Connection:
        return Connection(name=name, kind="ray", password="a token", extra=extra)

    jobs = open_jobs(ComputeSpec(engine="ray", connection="cluster"), connections=connections)
    assert (jobs is None) == (not extra.get("jobs"))
    if jobs is not None:
        assert (jobs.address, jobs.token) == ("http://head:8265", "a token")
        assert "a token" not in repr(jobs)
    assert open_jobs(ComputeSpec(engine="ray"), connections=connections) is None
    assert open_jobs(ComputeSpec(connection="cluster"), connections=connections) is None


@pytest.mark.parametrize(("candidate", "knows"), [("plain", ""), ("tuned", "sqlite:///studies.db")])
def test_a_job_reads_its_candidate_and_no_secret_but_the_one_that_tuning_needs(
    settings: Settings, candidate: str, knows: str
) -> None:
    given = dict.fromkeys(SECRETS, "a-secret")
    house = dataclasses.replace(settings, state_url="sqlite:///studies.db", **given)
    use_case = make_use_case(plain={"trainer": "lightgbm", "params": QUICK["lightgbm"]}, tuned=TUNED)
    ref = write_training_set(use_case, settings.lake, ["2020-01", "2020-02", "2020-03"], 100)
    job = CandidateJob(
        use_case=use_case,
        domain=make_domain(),
        candidate=candidate,
        training_set=ref,
        jobs=RayJobs(address="http://nowhere"),
        settings=house,
    )
    job._lay()
    laid = job.folder / REQUEST
    assert stat.S_IMODE(laid.stat().st_mode) == 0o600
    assert b"a-secret" not in laid.read_bytes()
    seen = settings_of(orjson.loads(laid.read_bytes())["settings"])
    assert (seen.var, seen.packages, seen.lake, seen.lock) == (house.var, house.packages, house.lake, house.lock)
    assert seen.state_url == knows
    assert TrainingJob.from_bytes((job.folder / JOB).read_bytes()).candidate == candidate
