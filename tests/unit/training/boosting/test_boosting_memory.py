"""Rows that do not fit into the memory they may take are trained on all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.training.boosting.boosted import LIBRARIES

ROWS, WIDTH, BLOCK = 1_500_000, 40, 50_000
SHARE = {"xgboost": 0.7, "lightgbm": 1.1}
"""Of the matrix, all in all: xgboost reads pages of a file; lightgbm holds two bytes a value, by column and by row."""

WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from millrace.package import Encoder
from millrace.package.encoder import ColumnEncoder
from millrace.training.base import TrainingData
from millrace.training.registry import build_trainer
from millrace.training.run import LooseRun

library, folder, rows, width, block, whole = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
trainer = build_trainer(library, {"threads": 2, "rounds": 6, "checkpoint_every": 3, "max_depth": 4}, where="x")
path, rng, target = folder / f"matrix{rows}.f32", np.random.default_rng(0), np.empty(rows, np.float32)
with path.open("wb") as file:
    for start in range(0, rows, block):
        part = rng.random((block, width), np.float32)
        target[start : start + block] = part[:, 0] > part[:, 1]
        file.write(part.data)
columns = [ColumnEncoder(name=f"n{i}", kind="number") for i in range(width)]
matrix = np.memmap(path, np.float32, "r", shape=(rows, width))
data = TrainingData(
    matrix=np.array(matrix) if whole else matrix, target=target, recent=np.zeros(rows, bool),
    encoder=Encoder(columns), problem="binary", classes=2, block_rows=0 if whole else block,
)

def peak():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024

before = peak()
fit = trainer.fit(data, seed=1, run=LooseRun(folder=folder))
print(json.dumps({"taken": peak() - before, "loss": fit.metrics["train_loss"], "left": len(list(folder.iterdir()))}))
"""


def train(library: str, folder: Path, rows: int, *, whole: bool = False) -> dict[str, float]:
    shape = [str(number) for number in (rows, WIDTH, BLOCK, int(whole))]
    done = subprocess.run(
        [sys.executable, "-c", WORKER, library, str(folder), *shape],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.full
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_mapped_matrix_is_trained_on_in_a_part_of_its_size(library: str, tmp_path: Path) -> None:
    found = train(library, tmp_path, ROWS)
    assert found["taken"] < SHARE[library] * 4 * ROWS * WIDTH
    assert found["loss"] < 0.6
    assert found["left"] == 1
