"""Work in processes of its own, which come from a clean one and share no thread, lock or connection with the test's.

What a child runs pickles: a function of a module, or a `partial` of one. What is changed in this process (a patched
function, the environment) is not changed there: the child's function does it itself.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

_LOADED = (
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "tests.unit.governance.proposal",
    "tests.children",
)
"""Imported once, in the process that all children come from."""


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit status, what its function returned, and the traceback of what it raised."""

    status: int
    answer: Any = None
    error: str = ""


class Child:
    """A process that runs one function."""

    def __init__(self, work: Callable[[], Any]) -> None:
        context = clean_context()
        self._answer, told = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(work, told), daemon=True)
        self._process.start()
        told.close()

    @property
    def runs(self) -> bool:
        """Whether it is not over yet."""
        return self._process.is_alive()

    def end(self) -> Ended:
        """Wait until it is over."""
        try:
            answer, error = self._answer.recv()
        except EOFError:
            answer, error = None, "it ended without a word"
        self._process.join()
        assert self._process.exitcode is not None
        return Ended(self._process.exitcode, answer, error)


def clean_context() -> ForkServerContext:
    """Where children come from; its events and queues can be given to them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    return context


def in_children(*works: Callable[[], Any]) -> list[Ended]:
    """Run all of them at once."""
    return [child.end() for child in [Child(work) for work in works]]


def statuses(*works: Callable[[], Any]) -> list[int]:
    """Run all of them at once; their exit statuses: 0 what returned, 1 what raised, else what it ended itself with."""
    ended = in_children(*works)
    for child in ended:
        print(child.error)
    return [child.status for child in ended]


def answer(work: Callable[[], Any]) -> Any:
    """Run it in a child; what it returned.

    Raises:
        AssertionError: it raised or was killed.
    """
    (ended,) = in_children(work)
    assert ended.status == 0, ended.error
    return ended.answer


def _run(work: Callable[[], Any], told: Connection) -> None:
    try:
        found = work()
    except BaseException:
        told.send((None, traceback.format_exc()))
        raise SystemExit(1) from None
    told.send((found, ""))
