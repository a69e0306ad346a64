"""How the machine was used while a candidate trained, sampled by MLflow's own monitors and sent with the rest.

MLflow's thread sends each sample while a run is open, and asks for the run's state between two. Here they are only
collected: training neither waits for a tracking server nor notices that it is away.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

log = logging.getLogger(__name__)
Sample = tuple[int, dict[str, float]]


@contextlib.contextmanager
def sampling(interval_s: float = 5.0) -> Iterator[list[Sample]]:
    """Samples of processor, memory, disk, network and, where there is one, graphics card.

    Args:
        interval_s: seconds between two of them; one more is taken at the end.

    Yields:
        What was sampled so far: milliseconds since the epoch, and name → value. It stays empty without psutil.
    """
    samples: list[Sample] = []
    monitors = _monitors()
    _collect(monitors)  # the first look at a processor tells nothing: there is none before it
    over = threading.Event()

    def watch() -> None:
        while not over.wait(interval_s):
            samples.append(_collect(monitors))

    thread = threading.Thread(target=watch, name="system-metrics", daemon=True)
    if monitors:
        thread.start()
    try:
        yield samples
    finally:
        over.set()
        if monitors:
            thread.join()
            samples.append(_collect(monitors))


def _collect(monitors: list[Any]) -> Sample:
    found: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        found |= {name: float(value) for name, value in monitor.aggregate_metrics().items()}
        monitor.clear_metrics()
    return int(time.time() * 1000), found


def _monitors() -> list[Any]:
    try:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    except ImportError as error:
        log.info("the machine is not sampled: %s", error)
        return []
    monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    # Without the driver or its library MLflow raises whatever these raise; there is no card to sample then.
    with contextlib.suppress(Exception):
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        monitors.append(GPUMonitor())
    return monitors
