"""Airflow's scheduler with its forkserver started first: `python -m millrace.local.scheduler <airflow> <arguments>`.

Airflow starts the forkserver with the first task, which then waits for all imports of the preload (10 s). Here they are
made while the scheduler itself starts.
"""

from __future__ import annotations

import multiprocessing
import runpy
import sys
from multiprocessing import forkserver

from millrace.local.preload import MODULES, WARM_MODULE


def main(argv: list[str]) -> None:
    """Start the forkserver, then be the command `argv[0]` with the arguments after it."""
    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload([WARM_MODULE, *MODULES])
    forkserver.ensure_running()
    sys.argv[:] = argv
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
