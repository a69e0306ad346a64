"""The story as it happens: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

_STAGES = ("data", "score", "decide", "train")
LEGEND = (
    "no_release: nothing is in force yet, so nothing is scored; v1: scored with, or released as, release 1; "
    "keep, retrain: what monitoring decided; refused: the gates did not let the new model pass"
)
"""What the words of the story mean."""


class Progress:
    """A table of partitions by stages that fills while the DAGs run.

    Args:
        partitions: keys, in order; one row each.
        console: where it is shown.
    """

    def __init__(self, partitions: list[str], console: Console) -> None:
        self._cells: dict[str, dict[str, str]] = {key: {} for key in partitions}
        self._console = console
        self._start = time.monotonic()
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.__exit__(kind, error, trace)

    def tell(self, partition: str, stage: str, text: str) -> None:
        """Something happened at a stage of a partition."""
        self._cells.setdefault(partition, {})[stage] = text
        if self._live:
            self._live.update(self._table())
        elif text != "…":
            seconds = time.monotonic() - self._start
            self._console.print(f"{seconds:7.1f} s  {partition}  {stage:<7} {text}", markup=False, highlight=False)

    def _table(self) -> Table:
        table = Table(title=f"the story, {time.monotonic() - self._start:.0f} s")
        table.add_column("partition")
        for stage in _STAGES:
            table.add_column(stage)
        for key, cells in self._cells.items():
            table.add_row(key, *(cells.get(stage, "") for stage in _STAGES))
        return table
