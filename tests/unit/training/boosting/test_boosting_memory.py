"""Rows that do not fit into the memory they may take are trained on all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.memory import READY, needs_proc, take
from tests.unit.training.boosting.boosted import LIBRARIES

ROWS, WIDTH, BLOCK = 1_500_000, 40, 50_000
SHARE = {"xgboost": 0.58, "lightgbm": 1.3}
"""Of the matrix, all in all: xgboost reads pages of a file; lightgbm holds two bytes a value, by column and by row."""

WORKER = """
import dataclasses, json, sys
from pathlib import Path
import numpy as np
from millrace.package import Encoder
from millrace.package.encoder import ColumnEncoder
from millrace.training.base import TrainingData
from millrace.training.registry import build_trainer
from millrace.training.run import LooseRun

library, folder, rows, width, block = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
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
    matrix=matrix, target=target, recent=np.zeros(rows, bool), encoder=Encoder(columns), problem="binary", classes=2,
    block_rows=block,
)
few = {"matrix": np.array(matrix[:999]), "target": target[:999], "recent": data.recent[:999], "block_rows": 0}
trainer.fit(dataclasses.replace(data, **few), seed=1, run=LooseRun(folder=folder))
%READY%
fit = trainer.fit(data, seed=1, run=LooseRun(folder=folder))
print(json.dumps({"loss": fit.metrics["train_loss"], "left": len(list(folder.iterdir()))}))
""".replace("%READY%", READY)


@pytest.mark.full
@needs_proc
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_mapped_matrix_is_trained_on_in_a_part_of_its_size(library: str, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    found = take(WORKER, library, str(given), *map(str, (ROWS, WIDTH, BLOCK)), folder=tmp_path)
    print(f"{library}: {found.peak_mb:.0f} MB of {4 * ROWS * WIDTH / 1e6:.0f} MB")
    assert found.peak < SHARE[library] * 4 * ROWS * WIDTH
    assert found.told["loss"] < 0.6
    assert found.told["left"] == 1
