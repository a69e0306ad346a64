"""Judges trials in another interpreter: `python -m millrace.training.tuning.judge_worker FOLDER`.

FOLDER holds `job.json`, `rows.arrow` and `search.json`. Once the folds are encoded it says `ready`, and then judges
what standard input asks for, several trials at once if asked. Trials are proposed, pruned and scored by whoever
started it: it asks for the pruner's word and for the metric, and needs no more libraries than a training does.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.errors import MillraceError
from millrace.training.data.rows import as_rows, open_rows
from millrace.training.job import TrainingJob
from millrace.training.run import StopFitError
from millrace.training.tuning.fold import Fold
from millrace.training.tuning.judge import Judge, JudgeSetup, prepare_judge
from millrace.training.worker import JOB, ROWS

log = logging.getLogger(__name__)
SEARCH = "search.json"
_ABANDONED = 3
_AT_ONCE = 64
Told = dict[str, Any]


class Channel:
    """Lines of JSON to whoever started this, from several threads; what libraries print goes where errors go."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._turn = threading.Lock()

    def tell(self, document: Mapping[str, Any]) -> None:
        """Say it; numbers that are none (NaN, infinity) arrive as they are."""
        line = json.dumps(document).encode() + b"\n"
        with self._turn:
            self._out.write(line)
            self._out.flush()


class Trial:
    """One trial: what it reports is answered by whoever asked for it."""

    def __init__(self, number: int, folder: Path, channel: Channel) -> None:
        self.number, self._folder, self._channel = number, folder, channel
        self.answers: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self.ended = threading.Event()

    def run(self, judge: Judge, asked: Told) -> None:
        """Judge it, and say what came of it, whatever that is: somebody waits."""
        try:
            judged = judge(
                asked["params"],
                report=self._report,
                threads=asked["threads"],
                stop=self.ended.is_set,
                score=self._score,
            )
            self._tell(judged=judged.value, curves=judged.curves)
        except StopFitError:
            self._tell(ended=True)
        except BaseException as error:  # Rust's panics, say, are no `Exception`
            log.exception("a trial failed")
            self._tell(failed=described(error, where=f"{judge.job.where}.tuning"))

    def _report(self, step: int, loss: float) -> None:
        if self._ask(step=step, loss=loss)["end"]:
            raise StopFitError("the trial is given up")

    def _score(self, fold: int, target: NDArray[np.float32], prediction: NDArray[np.float64], *, classes: int) -> float:
        names = {part: f"{part}-{self.number}-{fold}.npy" for part in ("target", "prediction")}
        np.save(self._folder / names["target"], target, allow_pickle=False)
        np.save(self._folder / names["prediction"], prediction, allow_pickle=False)
        answer = self._ask(classes=classes, **names)
        if answer["end"]:
            raise StopFitError("the trial is given up")
        return float(answer["value"])

    def _ask(self, **told: Any) -> Told:
        self._tell(**told)
        return self.answers.get()

    def _tell(self, **told: Any) -> None:
        self._channel.tell({"trial": self.number, **told})


def main(arguments: Sequence[str]) -> int:
    """Judge until standard input ends; 1 where the folds cannot be encoded."""
    (folder,) = map(Path, arguments)
    channel = Channel()
    trials: dict[int, Trial] = {}
    wanted: queue.SimpleQueue[tuple[Trial, Told]] = queue.SimpleQueue()

    def begin(asked: Told) -> None:
        trials[asked["trial"]] = trial = Trial(asked["trial"], folder, channel)
        wanted.put((trial, asked))

    threading.Thread(target=_listen, args=(trials, begin), daemon=True).start()
    try:
        judge = _prepare(folder)
    except (Exception, SystemExit) as error:
        if not isinstance(error, MillraceError):
            log.exception("the folds cannot be encoded")
        channel.tell({"failed": described(error, where=str(folder))})
        return 1
    channel.tell({"ready": True})
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while True:
            trial, asked = wanted.get()
            pool.submit(trial.run, judge, asked).add_done_callback(_require_told)


def described(error: BaseException, *, where: str) -> dict[str, str]:
    """An error as it is told."""
    if isinstance(error, MillraceError):
        return {"kind": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}
    what = str(error).partition("\n")[0] or type(error).__name__
    return {"kind": "TrainingError", "what": what, "where": where, "remedy": "see the worker's log"}


def _prepare(folder: Path) -> Judge:
    job = TrainingJob.from_bytes((folder / JOB).read_bytes(), where=folder / JOB)
    search = json.loads((folder / SEARCH).read_bytes())
    folds = [Fold.of(plain) for plain in search["folds"]]
    rows = as_rows(open_rows(folder / ROWS).table)
    setup = JudgeSetup(
        job=job, rows=rows, folds=folds, folder=folder / "folds", seed=search["seed"], prunes=search["prunes"]
    )
    return prepare_judge(setup)


def _listen(trials: Mapping[int, Trial], begin: Callable[[Told], None]) -> None:
    """Pass on what is said; when whoever started this is gone, so is this."""
    try:
        for line in sys.stdin.buffer:
            told = json.loads(line)
            if "params" in told:
                begin(told)
            elif "answer" in told:
                trials[told["answer"]].answers.put(told)
            elif found := trials.get(told["end"]):
                found.ended.set()
                found.answers.put({"end": True})
    finally:
        os._exit(_ABANDONED)


def _require_told(done: Future[None]) -> None:
    """Whoever waits for a trial of which nothing can be said learns it by the end of this process."""
    if done.exception() is not None:
        log.error("nothing can be told of a trial", exc_info=done.exception())
        os._exit(_ABANDONED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
