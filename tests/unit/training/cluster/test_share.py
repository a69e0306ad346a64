"""Shares of training rows: every row goes to one worker, and each has rows of all times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import TrainingError
from millrace.package import Encoder
from millrace.training.base import TrainingData
from millrace.training.cluster.share import cut_share, share_rows


@given(kept=st.integers(8, 200), recent=st.integers(0, 50), workers=st.integers(1, 8), even=st.booleans())
def test_all_rows_are_shared_and_none_is_left_out(kept: int, recent: int, workers: int, even: bool) -> None:
    late = np.arange(kept + recent) >= kept
    shares = [share_rows(late, worker, workers, watched=False, even=even) for worker in range(workers)]
    assert set(np.concatenate(shares).tolist()) == set(range(kept + recent))
    sizes = {len(share) for share in shares}
    assert max(sizes) - min(sizes) <= (0 if even else 1)
    assert all((np.diff(share) >= 0).all() for share in shares)
    if not even:
        assert sum(map(len, shares)) == kept + recent


@given(kept=st.integers(8, 200), recent=st.integers(1, 50), workers=st.integers(1, 8))
def test_rows_that_are_watched_are_the_same_for_every_worker(kept: int, recent: int, workers: int) -> None:
    late = np.arange(kept + recent) >= kept
    shares = [share_rows(late, worker, workers, watched=True, even=False) for worker in range(workers)]
    assert all(share[late[share]].tolist() == list(range(kept, kept + recent)) for share in shares)
    trained = np.concatenate([share[~late[share]] for share in shares])
    assert sorted(trained.tolist()) == list(range(kept))


def test_fewer_rows_than_workers_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"3 rows[\s\S]*4 workers[\s\S]*fewer workers"):
        share_rows(np.zeros(3, bool), 0, 4, watched=False, even=False)


@pytest.mark.parametrize("block_rows", [0, 7])
def test_a_share_of_a_file_is_that_of_the_same_rows_in_memory(block_rows: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    numbers = rng.normal(size=(50, 3)).astype(np.float32)
    data = TrainingData(
        matrix=numbers,
        target=rng.random(50).astype(np.float32),
        weight=rng.random(50).astype(np.float32),
        recent=np.arange(50) >= 40,
        encoder=Encoder.learn(dict.fromkeys("abc", numbers[:, 0]), dict.fromkeys("abc", "number"), scaled=False),
        problem="regression",
        block_rows=block_rows,
        cache={},
    )
    rows = share_rows(data.recent, 1, 3, watched=True, even=True)
    with cut_share(data, rows, tmp_path) as share:
        assert np.array_equal(share.matrix, numbers[rows])
        assert np.array_equal(share.target, data.target[rows])
        assert share.weight is not None
        assert data.weight is not None
        assert np.array_equal(share.weight, data.weight[rows])
        assert np.array_equal(share.recent, data.recent[rows])
        assert (share.block_rows, share.cache) == (block_rows, None)
    assert not list(tmp_path.iterdir())
