"""The engine that works on several pieces at once, each in a process of Ray's."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.engine.base import Piece, Result, RowWork
from millrace.engine.local import LocalEngine
from millrace.engine.ray_rows import SLICE_ROWS, run_rows, slices_of
from millrace.engine.ray_session import session
from millrace.errors import EngineError, MillraceError
from millrace.spec import ComputeSpec

log = logging.getLogger(__name__)
_TRIES_MORE = 3
_UNITS = {"MB": 10**6, "GB": 10**9}
Said = list[tuple[str, int, str]]
"""What work logged: logger, level, message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """What one piece of work takes of the cluster.

    Attributes:
        cores: of one node.
        memory: of the same node, in bytes.
        width: how many such pieces the cluster takes at once.
    """

    cores: int
    memory: int
    width: int


@dataclass(slots=True, kw_only=True)
class RayEngine:
    """Ray, started or connected to when the first piece is worked on.

    In a piece of work this engine is the local one: what pickles of it is no more than that.

    Attributes:
        compute: cores and memory of one piece of work.
        address: of a cluster; "" starts one on this machine.
        token: that the cluster asks for.
    """

    compute: ComputeSpec
    address: str = ""
    token: str = field(default="", repr=False)
    _open: ExitStack = field(init=False, default_factory=ExitStack)
    _share: _Share | None = field(init=False, default=None)

    @property
    def width(self) -> int:
        """How many pieces the cluster has room for; asking starts it."""
        return self._start().width

    @property
    def cores(self) -> int:
        """Cores of one piece of work; asking starts it."""
        return self._start().cores

    def map(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[Result]:
        """Results in the order of the pieces; twice as many as there is room for are handed out ahead.

        A piece whose worker died is tried again, three times. A single piece on a cluster of one's own would only pay
        for its start, so it is worked on here.
        """
        if not pieces or (len(pieces) == 1 and not self.address):
            yield from map(work, pieces)
            return
        share = self._start()
        import ray

        run = ray.remote(_work_on).options(num_cpus=share.cores, memory=share.memory, max_retries=_TRIES_MORE)
        handed, left = ray.put(work), iter(pieces)
        waiting = deque(run.remote(handed, piece) for piece in islice(left, 2 * share.width))
        done = 0
        try:
            while waiting:
                result, said = _result_of(ray, waiting.popleft())
                done += 1
                _say(said)
                log.info("%d of %d pieces of work are done", done, len(pieces))
                waiting.extend(run.remote(handed, piece) for piece in islice(left, 1))
                yield result
        finally:
            for reference in waiting:
                ray.cancel(reference)

    def map_rows(self, open_work: Callable[[], RowWork], rows: pa.Table) -> np.ndarray:
        """What work gives for each row, in the order of the rows, by Ray Data.

        Few rows on a cluster of one's own would only pay for its start, so they are worked on here.
        """
        if rows.num_rows <= SLICE_ROWS and not self.address:
            return open_work()(rows)
        share = self._start()
        import ray

        slices = [ray.put(part) for part in slices_of(rows)]
        run = ray.remote(run_rows).options(num_cpus=0, max_retries=0)
        reference = run.remote(open_work, slices, cores=share.cores, width=min(share.width, len(slices)))
        found = _result_of(ray, reference)
        if isinstance(found, MillraceError):
            raise found
        return found

    def start(self) -> None:
        """Start or connect, where that was not done yet, for work that has processes of its own (Train, Tune).

        Raises:
            EngineError: the cluster does not answer, or such processes cannot be started here: Ray puts their command
                together without quotes, and then waits for them for ever.
        """
        if not self.address and " " in sys.executable:
            raise EngineError(
                "Ray cannot start workers of an interpreter whose path holds a space",
                where=sys.executable,
                remedy="move the installation to a folder without one, name a cluster in compute.connection, or set "
                "`workers: 1` and `tuning.parallel: 1`",
            )
        self._start()

    def close(self) -> None:
        """Stop what was started."""
        self._share = None
        self._open.close()

    def __reduce__(self) -> tuple[type[LocalEngine], tuple[()]]:
        return LocalEngine, ()

    def _start(self) -> _Share:
        if self._share is None:
            self._open.enter_context(session(self.address, self.token))
            self._share = _share_of(self.compute, _nodes())
        return self._share


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _share_of(compute: ComputeSpec, nodes: Sequence[dict[str, float]]) -> _Share:
    """What a piece may take where it can run at all: no more than the largest node has."""
    able = [node for node in nodes if node.get("CPU", 0) >= 1]
    if not able:
        raise EngineError(
            "the Ray cluster has no node with a core",
            where="compute.connection",
            remedy="let it start workers, then run the task again",
        )
    wanted = int(compute.memory_limit[:-2]) * _UNITS[compute.memory_limit[-2:]]
    cores = min(compute.threads, int(max(node["CPU"] for node in able)))
    memory = min(wanted, int(max(node.get("memory", 0) for node in able if node["CPU"] >= cores)))
    room = (min(node["CPU"] // cores, node.get("memory", 0) // memory if memory else node["CPU"]) for node in able)
    return _Share(cores=cores, memory=memory, width=max(1, int(sum(room))))


def _work_on(work: Callable[[Any], Any], piece: Any) -> tuple[Any, Said]:
    """One piece in a worker, with what it logged: a worker's own log is gone with the cluster."""
    kept = _Kept()
    logger = logging.getLogger("millrace")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(kept)
    try:
        return work(piece), kept.said
    finally:
        logger.removeHandler(kept)
        logger.setLevel(level)


class _Kept(logging.Handler):
    """Keeps the records of a piece of work."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said: Said = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.said.append((record.name, record.levelno, record.getMessage()))


def _say(said: Said) -> None:
    for name, level, message in said:
        logging.getLogger(name).log(level, "%s", message)


def _result_of(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MillraceError):
            raise error.cause from error
        raise
    except (ray.exceptions.RayError, ConnectionError) as error:
        lines = str(error).strip().splitlines()
        raise EngineError(
            f"a piece of work was lost {_TRIES_MORE + 1} times: {lines[0] if lines else type(error).__name__}",
            where=f"Ray, {type(error).__name__}",
            remedy="workers die mostly for want of memory: lower compute.memory_limit or compute.threads, or add "
            "nodes; then run the task again",
        ) from error
