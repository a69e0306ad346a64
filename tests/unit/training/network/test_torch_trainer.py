from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.memory import READY, needs_proc, take
from tests.unit.training.synthetic import QUICK, make_job, make_use_case, training_rows

from millrace.errors import PackageError, TrainingError
from millrace.package.predictor import load_model
from millrace.training import Fit, LooseRun, TrainingData, train_package
from millrace.training.base import Watch
from millrace.training.candidate import Prepared, prepare_training
from millrace.training.network.torch_rows import BlockedRows
from millrace.training.params import TorchParams

PARTITIONS = ["2020-01", "2020-02"]


def prepare(problem: str, folder: Path, **params: Any) -> Prepared:
    use_case = make_use_case(problem, mine={"trainer": "torch", "params": {**QUICK["torch"], **params}})
    job = make_job(use_case, "mine", holdout="2020-03")
    return prepare_training(job, training_rows(use_case, PARTITIONS, 300), folder=folder)


def fit(prepared: Prepared, folder: Path, data: TrainingData | None = None) -> tuple[Fit, LooseRun]:
    run = LooseRun(folder=folder)
    return prepared.trainer.fit(data or prepared.data, seed=7, run=run), run


def test_a_network_that_diverges_is_no_model(tmp_path: Path) -> None:
    prepared = prepare("regression", tmp_path, learning_rate=1e20, epochs=20)
    with pytest.raises(TrainingError, match="the network diverged") as raised:
        fit(prepared, tmp_path)
    assert "learning_rate" in raised.value.remedy


@pytest.mark.skipif(torch.cuda.is_available(), reason="a graphics card is here")
def test_a_graphics_card_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    use_case = make_use_case("binary", mine={"trainer": "torch", "resources": {"gpu": 1}})
    with pytest.raises(TrainingError, match="torch finds none here") as raised:
        train_package(
            make_job(use_case, "mine", holdout="2020-03"), training_rows(use_case, PARTITIONS), store=tmp_path
        )
    assert "resources.gpu: 0" in raised.value.remedy


@pytest.mark.parametrize("problem", ["binary", "multiclass", "regression"])
def test_curves_hold_every_epoch_and_what_is_watched_does_not_move_the_model(problem: str, tmp_path: Path) -> None:
    prepared = prepare(problem, tmp_path, early_stopping=20)
    plain, run = fit(prepared, tmp_path)
    assert set(run.curves) == {"train_loss", "recent_loss"}
    assert [step for step, _ in run.curves["train_loss"]] == list(range(QUICK["torch"]["epochs"]))
    recent = prepared.data.recent
    watch = Watch(matrix=prepared.data.matrix[recent], target=prepared.data.target[recent])
    watched, curves = fit(prepared, tmp_path, dataclasses.replace(prepared.data, watch=watch))
    assert watched.content == plain.content
    losses = [value for _, value in run.curves["recent_loss"]]
    assert [value for _, value in curves.curves["watch_loss"]] == pytest.approx(losses)
    assert plain.metrics["recent_loss"] == min(losses)


def test_a_block_at_a_time_gives_every_row_once_an_epoch(tmp_path: Path) -> None:
    data = dataclasses.replace(prepare("regression", tmp_path).data, block_rows=70)
    rows = BlockedRows(data, np.arange(5, 590), data.target, 1.0)
    batches = list(rows.batches(32, torch.Generator().manual_seed(1)))
    assert len(batches) == rows.steps(32)
    assert max(len(batch) for batch in batches) == 32
    found = torch.cat([batch.target for batch in batches]).numpy()
    assert sorted(found) == sorted(data.target[5:590])
    assert list(found) != list(data.target[5:590])


def test_a_network_with_other_outputs_than_classes_is_refused(tmp_path: Path) -> None:
    prepared = prepare("multiclass", tmp_path)
    content = fit(prepared, tmp_path)[0].content
    encoder = prepared.data.encoder
    with pytest.raises(PackageError, match="gives 3 outputs"):
        load_model("network-safetensors", content, encoder=encoder, problem="multiclass", threads=1, classes=4)
    with pytest.raises(PackageError, match="gives 3 outputs"):
        load_model("network-safetensors", content, encoder=encoder, problem="binary", threads=1)


def test_a_linear_network_is_one_without_hidden_layers() -> None:
    assert TorchParams(hidden=()).hidden == ()


_GROUP = """
import json, sys
from pathlib import Path
import numpy as np, torch
from tests.unit.training.network.test_torch_trainer import prepare, fit
import dataclasses, hashlib
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
prepared = prepare("multiclass", folder / str(rank), early_stopping=3, epochs=8, batch_size=128)
data = prepared.data
old = np.flatnonzero(~data.recent)
rows = np.concatenate([old[rank::2], np.flatnonzero(data.recent)])
share = dataclasses.replace(data, matrix=data.matrix[rows], target=data.target[rows], recent=data.recent[rows])
done, run = fit(prepared, folder, share)
print(json.dumps([hashlib.sha256(done.content).hexdigest(), run.curves["recent_loss"]]))
torch.distributed.destroy_process_group()
"""


@pytest.mark.full
def test_two_workers_of_a_group_end_in_one_network(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _GROUP, str(rank), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[4],
        )
        for rank in range(2)
    ]
    try:
        found = [json.loads(worker.communicate(timeout=280)[0].splitlines()[-1]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert found[0] == found[1]
    losses = [value for _, value in found[0][1]]
    assert losses[-1] < losses[0]


_MAPPED = """
import dataclasses, json, sys
from pathlib import Path
import numpy as np
from millrace.package import ColumnEncoder, Encoder
from millrace.training import LooseRun, TrainingData
from millrace.training.params import TorchParams
from millrace.training.network.torch_trainer import TorchTrainer

count, width, folder = 1_000_000, 40, Path(sys.argv[1])
matrix = np.memmap(folder / "matrix", np.float32, "w+", shape=(count, width))
target = np.empty(count, np.float32)
generator = np.random.default_rng(0)
for start in range(0, count, 50_000):
    block = generator.normal(size=(50_000, width)).astype(np.float32)
    matrix[start : start + 50_000], target[start : start + 50_000] = block, block[:, 0] > 0
matrix.flush()
matrix = np.memmap(folder / "matrix", np.float32, "r", shape=(count, width))
encoder = Encoder([ColumnEncoder(name=f"n{i}", kind="number") for i in range(width)], scaled=True)
data = TrainingData(
    matrix=matrix, target=target, recent=np.arange(count) >= 900_000, encoder=encoder, problem="binary", classes=2,
    block_rows=50_000,
)
params = TorchParams(epochs=1, hidden=(8,), early_stopping=2, threads=1, batch_size=16_384, learning_rate=0.01)
few = {"matrix": np.array(matrix[:999]), "target": target[:999], "recent": np.arange(999) > 900, "block_rows": 0}
TorchTrainer(params).fit(dataclasses.replace(data, **few), seed=1, run=LooseRun(folder=folder))
%READY%
fit = TorchTrainer(params).fit(data, seed=1, run=LooseRun(folder=folder))
print(json.dumps(fit.metrics))
""".replace("%READY%", READY)


@pytest.mark.full
@needs_proc
def test_a_mapped_matrix_is_never_held_as_a_whole(tmp_path: Path) -> None:
    found = take(_MAPPED, str(tmp_path), folder=tmp_path)
    print(f"{found.peak_mb:.0f} MB")
    assert found.peak_mb < 100  # the matrix alone is 160, and prepared it would be as much again
    assert found.told["recent_loss"] < 0.69
