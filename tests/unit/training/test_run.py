from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from millrace.errors import TrainingError
from millrace.training.run import Checkpoint, FolderRun, LooseRun, StopFitError, sweep_runs


def report(run: FolderRun, first: int, last: int) -> None:
    for step in range(first, last):
        run.report(step, {"loss": 1 / (step + 1), "recent_loss": math.nan if step == 1 else float(step)})


def test_a_run_goes_on_from_its_last_checkpoint_with_the_curves_up_to_it(tmp_path: Path) -> None:
    first = FolderRun(folder=tmp_path / "run")
    assert first.restore() is None
    report(first, 0, 3)
    first.save(Checkpoint(done=3, content=b"three"))
    report(first, 3, 5)
    second = FolderRun(folder=tmp_path / "run")
    assert second.restore() == Checkpoint(done=3, content=b"three")
    assert [step for step, _ in second.curves["loss"]] == [0, 1, 2]
    assert math.isnan(second.curves["recent_loss"][1][1])
    report(second, 3, 6)
    assert second.curves["loss"] == [(step, 1 / (step + 1)) for step in range(6)]


def test_a_step_that_is_done_again_replaces_what_was_reported(tmp_path: Path) -> None:
    run = LooseRun(folder=tmp_path)
    for step, value in [(0, 1.0), (1, 2.0), (2, 3.0), (1, 4.0)]:
        run.report(step, {"loss": value})
    assert run.curves == {"loss": [(0, 1.0), (1, 4.0)]}


def test_a_checkpoint_holds_no_curve_of_what_comes_after_it(tmp_path: Path) -> None:
    run = FolderRun(folder=tmp_path / "run")
    report(run, 0, 9)
    run.save(Checkpoint(done=4, content=b""))
    again = FolderRun(folder=tmp_path / "run")
    again.restore()
    assert [step for step, _ in again.curves["loss"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_is_left_aside(tmp_path: Path, harm: str) -> None:
    run = FolderRun(folder=tmp_path / "run")
    run.save(Checkpoint(done=2, content=b"two"))
    good = next(run.folder.glob("*.checkpoint")).read_bytes()
    run.save(Checkpoint(done=4, content=b"four" * 50))
    path = next(run.folder.glob("*.checkpoint"))
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-1], "flip": content[:-1] + b"?", "empty": b""}[harm])
    assert FolderRun(folder=run.folder).restore() is None
    (run.folder / "00000002.checkpoint").write_bytes(good)
    assert FolderRun(folder=run.folder).restore() == Checkpoint(done=2, content=b"two")


def test_only_the_last_checkpoint_is_kept(tmp_path: Path) -> None:
    run = FolderRun(folder=tmp_path / "run")
    for done in (1, 2, 3):
        run.save(Checkpoint(done=done, content=b"x"))
    assert [path.name for path in run.folder.iterdir()] == ["00000003.checkpoint"]
    run.discard()
    assert not run.folder.exists()


def test_a_full_disk_is_told_with_the_remedy_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no device that is always full")
    run = FolderRun(folder=tmp_path / "run")
    run.save(Checkpoint(done=1, content=b"one"))
    (run.folder / f".00000002.checkpoint.{os.getpid()}").symlink_to(full)
    with pytest.raises(TrainingError, match="after 2 rounds or epochs cannot be written: No space left") as caught:
        run.save(Checkpoint(done=2, content=b"two"))
    assert caught.value.where == str(run.folder)
    assert [path.name for path in run.folder.iterdir()] == ["00000001.checkpoint"]
    assert FolderRun(folder=run.folder).restore() == Checkpoint(done=1, content=b"one")


def test_a_run_that_is_asked_to_stop_keeps_the_checkpoint_and_ends(tmp_path: Path) -> None:
    asked = []
    run = FolderRun(folder=tmp_path / "run", stop=lambda: bool(asked))
    report(run, 0, 2)
    asked.append(True)
    with pytest.raises(StopFitError):
        run.report(2, {"loss": 0.0})
    with pytest.raises(StopFitError):
        run.save(Checkpoint(done=2, content=b"two"))
    assert FolderRun(folder=run.folder).restore() == Checkpoint(done=2, content=b"two")
    with pytest.raises(StopFitError):
        LooseRun(folder=tmp_path, stop=lambda: True).report(0, {})


def test_folders_that_nobody_writes_to_are_swept(tmp_path: Path) -> None:
    for name, age in (("old", 900), ("new", 10), ("used", 900)):
        folder = tmp_path / name
        (folder / "fit").mkdir(parents=True)
        (folder / "fit" / "file").write_bytes(b"")
        for path in (folder / "fit" / "file", folder / "fit", folder):
            os.utime(path, (10_000 - age, 10_000 - age))
    os.utime(tmp_path / "used" / "fit" / "file", (9_995, 9_995))
    assert sweep_runs(tmp_path, older_than_s=600, now=10_000) == [tmp_path / "old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "used"]
    assert sweep_runs(tmp_path / "nowhere", older_than_s=1) == []
