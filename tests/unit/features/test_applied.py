from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

from millrace.features.applied import applied_digests, apply_lock, record_digests


def _hold(url: str, log: str) -> None:
    with apply_lock(url):
        with Path(log).open("a") as handle:
            handle.write("in\n")
            handle.flush()
            time.sleep(0.15)
            handle.write("out\n")


def test_digests_are_empty_before_anything_was_applied_and_read_back_after(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'deep' / 'registry.db'}"
    assert applied_digests(url) == {}
    record_digests(url, {"domain:flights": "a", "service:one": "b"})
    record_digests(url, {"domain:flights": "c"})
    assert applied_digests(url) == {"domain:flights": "c", "service:one": "b"}


def test_only_one_process_at_a_time_applies(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path / 'registry.db'}", tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_hold, args=(url, str(log))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert log.read_text().split() == ["in", "out"] * 3
