"""A training set in the lake that is several times larger than a candidate's memory is trained on all the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from tests.memory import READY, needs_proc, take

from millrace.artifact import DatasetRef, iso
from millrace.lake import Table
from millrace.spec import UseCaseSpec
from millrace.training import sample
from millrace.training.data.training_set import assemble_partition

pytestmark = [
    pytest.mark.integration,
    pytest.mark.full,
    pytest.mark.timeout(900),
    needs_proc,
]
PARTITIONS, HOLDOUT = ["2020-01", "2020-02", "2020-03", "2020-04"], "2020-05"
ROWS, WIDTH, LEVELS = 90_000, 100, 200
MATRIX = 4 * len(PARTITIONS) * ROWS * WIDTH
BUDGET, PLENTY = 16_000_000, 4_000_000_000
BLOCK = 4_096
"""Rows that are read at once under that budget."""
SHARE = {"xgboost": 0.4, "lightgbm": 1.1, "torch": 0.4}
"""Of what the matrix grows by, the most that memory may grow by. Labels, scores and gradients are a part of it, and
lightgbm's bins: two bytes a value, which at first take no more than reading took before. xgboost's sketch of each
column, out of which it makes bins, grows with the logarithm of the rows, and with `max_bin`, which is few here."""
PARAMS: dict[str, dict[str, Any]] = {
    "xgboost": {"rounds": 6, "max_depth": 4, "max_bin": 64, "checkpoint_every": 3, "early_stopping": 3},
    "lightgbm": {"rounds": 6, "num_leaves": 15, "checkpoint_every": 3, "early_stopping": 3},
    "torch": {"epochs": 1, "hidden": [16], "batch_size": 4096, "early_stopping": 1},
}
WORKER = """
import dataclasses, sys
from pathlib import Path
import numpy as np, orjson
from millrace.artifact import DatasetRef
from millrace.spec import UseCaseSpec
from millrace.training import LooseRun, sample, train_package
from millrace.training.candidate import prepare_training, seal_candidate
from millrace.training.data.training_set import open_training_set

given = orjson.loads(sys.argv[1])
folder, memory = Path(given["folder"]), given["memory"]
use_case = UseCaseSpec.model_validate(given["use_case"])
job = sample.make_job(use_case, given["candidate"], holdout=given["holdout"])
known, partitions = job.known_until, given["partitions"]
rows = open_training_set(
    use_case, DatasetRef(**given["ref"]), lake=given["lake"], known_until=known, partitions=partitions
)
run, store = LooseRun(folder=folder), folder / "packages"

def blocked_in_memory():
    prepared = prepare_training(job, rows, folder=folder)
    data = dataclasses.replace(prepared.data, block_rows=given["block_rows"])
    prepared = dataclasses.replace(prepared, data=data)
    fit = prepared.trainer.fit(data, seed=job.use_case.seed, run=run)
    return seal_candidate(job, prepared, fit, store=store, seconds=0.0)

# What a first training loads and starts is no part of the rows' memory.
few = open_training_set(use_case, DatasetRef(**given["few"]), lake=given["lake"], known_until=known)
train_package(job, few, store=store, run=LooseRun(folder=folder))
%READY%
found = blocked_in_memory() if given["block_rows"] else train_package(job, rows, store=store, run=run)
first = next(rows.batches(use_case.features.columns))
score = found.package.predictor().predict(dict(zip(first.schema.names, first.columns, strict=True)))
print(orjson.dumps({
    "digest": found.package.digest,
    "scores": np.asarray(score).tolist(),
    "loss": found.metrics["recent_loss"],
    "left": sorted(path.name for path in folder.iterdir()),
}).decode(), flush=True)
""".replace("%READY%", READY)


@dataclass(frozen=True)
class Lake:
    """Where the training set lies: all of it, and one of a few rows."""

    folder: Path
    large: DatasetRef
    few: DatasetRef


@dataclass(frozen=True)
class Outcome:
    """What a process that trained came to, and the most memory it took beyond what it had before."""

    peak: int
    digest: str
    scores: np.ndarray[Any, np.dtype[np.float64]]
    loss: float
    left: list[str]


def make_use_case(candidate: str, memory: int) -> UseCaseSpec:
    numbers = {f"n{place:03d}": "number" for place in range(WIDTH - 1)}
    spec = {
        "trainer": candidate,
        "params": {**PARAMS[candidate], "threads": 2},
        "resources": {"memory": f"{memory // 1_000_000}MB"},
    }
    return sample.make_use_case(
        "binary",
        {candidate: spec},
        features={"name": "wide_v1", "row": {"kind": "category", **numbers}, "views": {}, "categorical": []},
    )


def make_partition(use_case: UseCaseSpec, key: str, count: int) -> pa.Table:
    """Numbers of few values, so that bins made of blocks are those made of all rows."""
    rng = np.random.default_rng([*key.encode()])
    start = sample.make_domain().partition(key).start
    at = pa.array([start + timedelta(seconds=place) for place in range(count)], pa.timestamp("us", tz="UTC"))
    values = rng.integers(0, LEVELS, (WIDTH - 1, count), np.int16)
    return assemble_partition(
        use_case,
        pa.table(
            {
                "key": [f"{key}-{place:07d}" for place in range(count)],
                "event_timestamp": at,
                "label": (values[0] + values[1] > values[2] + LEVELS / 2).astype(np.float64),
                "label_known_at": at,
                "kind": np.array(["chair", "lamp", "table"])[values[3] % 3].tolist(),
                **{f"n{place:03d}": column.astype(np.float64) for place, column in enumerate(values)},
            }
        ),
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder, use_case = tmp_path_factory.mktemp("lake"), make_use_case("xgboost", BUDGET)
    table = Table(str(folder), use_case.service_table("training_set"))

    def write(count: int) -> DatasetRef:
        versions = [table.replace(make_partition(use_case, key, count), partition=key).version for key in PARTITIONS]
        return DatasetRef(
            table=table.name,
            version=versions[-1],
            rows=count * len(PARTITIONS),
            digest="0" * 64,
            known_until=iso(sample.make_domain().partition(PARTITIONS[-1]).end),
        )

    return Lake(folder, few=write(200), large=write(ROWS))


def train(
    lake: Lake,
    candidate: str,
    folder: Path,
    *,
    memory: int,
    block_rows: int = 0,
    partitions: Sequence[str] = PARTITIONS,
) -> Outcome:
    """In a process of its own, whose memory is looked at from here."""
    folder.mkdir()
    given = {
        "folder": str(folder),
        "lake": str(lake.folder),
        "memory": memory,
        "use_case": make_use_case(candidate, memory).model_dump(mode="json"),
        "candidate": candidate,
        "holdout": HOLDOUT,
        "ref": lake.large.to_dict(),
        "few": lake.few.to_dict(),
        "block_rows": block_rows,
        "partitions": list(partitions),
    }
    taken = take(WORKER, orjson.dumps(given).decode(), folder=folder.parent)
    return Outcome(**{**taken.told, "peak": taken.peak, "scores": np.array(taken.told["scores"])})


@pytest.mark.parametrize("candidate", list(PARAMS))
def test_rows_of_many_times_the_memory_are_trained_on_within_it(lake: Lake, candidate: str, tmp_path: Path) -> None:
    assert MATRIX > 8 * BUDGET
    mapped = train(lake, candidate, tmp_path / "mapped", memory=BUDGET)
    half = train(lake, candidate, tmp_path / "half", memory=BUDGET, partitions=PARTITIONS[:2])
    # In memory; a network's batches hang on the blocks, lightgbm's draw of rows that bins are made of does, too.
    block = 0 if candidate == "xgboost" else BLOCK
    held = train(lake, candidate, tmp_path / "held", memory=PLENTY, block_rows=block)
    print(f"{candidate}: {mapped.peak / 1e6:.0f} MB, half {half.peak / 1e6:.0f} MB, held {held.peak / 1e6:.0f} MB")
    assert mapped.peak - half.peak < SHARE[candidate] * MATRIX / 2
    assert held.peak > MATRIX
    assert mapped.peak < 0.6 * held.peak
    assert mapped.digest == held.digest
    assert mapped.digest != half.digest
    assert mapped.left == ["packages"]


def test_bins_made_of_blocks_give_the_trees_of_all_rows_at_once(lake: Lake, tmp_path: Path) -> None:
    mapped = train(lake, "lightgbm", tmp_path / "mapped", memory=BUDGET, partitions=PARTITIONS[:2])
    held = train(lake, "lightgbm", tmp_path / "held", memory=PLENTY, partitions=PARTITIONS[:2])
    np.testing.assert_allclose(mapped.scores, held.scores, atol=1e-9)
    assert mapped.loss == pytest.approx(held.loss, abs=1e-9)
