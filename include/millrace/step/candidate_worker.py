"""Trains a candidate where a job of a Ray cluster runs: `python -m millrace.step.candidate_worker FOLDER`.

FOLDER is the training's own and holds what `CandidateJob` laid there; it gets checkpoints and the outcome, or
`failure.json`.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import orjson

from millrace.artifact import DatasetRef
from millrace.engine.ray_session import own_head
from millrace.errors import MillraceError
from millrace.ingestion import Connection
from millrace.step.candidate import hold, train_outcome
from millrace.step.candidate_job import FAILURE, JOB, REQUEST, settings_of
from millrace.step.candidate_means import CandidatePlace
from millrace.training import TrainingJob
from millrace.training.data.training_set import open_training_set
from millrace.training.run import go_on

log = logging.getLogger("millrace.step.candidate_worker")


def main(folder: Path) -> int:
    """Train what a folder holds; 0 where a package was sealed."""
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("millrace").setLevel(logging.INFO)
    try:
        train(folder)
    except MillraceError as error:
        told = {"kind": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}
        (folder / FAILURE).write_bytes(orjson.dumps(told))
        log.warning("not trained: %s", error)
        return 1
    return 0


def train(folder: Path) -> None:
    """Train the job of a folder, unless that was done.

    Raises:
        MillraceError: as for `train_candidate`.
    """
    asked = orjson.loads((folder / REQUEST).read_bytes())
    settings, training_set = settings_of(asked["settings"]), DatasetRef.from_dict(asked["training_set"])
    job = TrainingJob.from_bytes((folder / JOB).read_bytes(), where=folder / JOB)
    rows = open_training_set(
        job.use_case,
        training_set,
        lake=settings.lake,
        through=job.held_out[0].shift(-1).key,
        known_until=job.known_until,
        hidden=job.features.hidden,
    )
    place = CandidatePlace(folder=folder, settings=settings, connections=this_cluster, stop=go_on)
    with hold(place):
        outcome = train_outcome(job, rows, training_set, place)
    log.info("package %s is sealed", outcome.package)


def this_cluster(name: str) -> Connection:
    """The connection of the cluster that this job is of, whatever name it has elsewhere."""
    return Connection(name=name, kind="ray", extra={"address": own_head()})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
