"""How processes take memory on a machine that hands free memory back to its host.

A virtual machine with a balloon that reports free pages does so in blocks of the size of a huge page. A process that
takes huge pages there gets just those blocks, and pays the host's work for each as CPU time of its own kernel; through
small pages the same join of 3.4 million rows took half the CPU time. Other machines are left as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ALLOW_HUGE = "MIMALLOC_ALLOW_THP"
"""Read by Arrow's allocator as it is loaded; with 0 the process it is in gets no transparent huge pages at all."""
_DEVICES = Path("/sys/bus/virtio/devices")
_BALLOON, _REPORTS_FREE_PAGES = 5, 5  # device id and feature bit, VIRTIO 1.2, sections 5 and 5.5.3


def memory_environment(environ: Mapping[str, str], *, devices: Path = _DEVICES) -> dict[str, str]:
    """What processes of this machine need so that memory costs them little; what `environ` says stays.

    Args:
        environ: the caller's environment.
        devices: where the kernel lists virtio devices.
    """
    if ALLOW_HUGE in environ:
        return {ALLOW_HUGE: environ[ALLOW_HUGE]}
    return {ALLOW_HUGE: "0"} if returns_free_memory(devices) else {}


def returns_free_memory(devices: Path = _DEVICES) -> bool:
    """Whether the machine reports free pages to a host, which takes them back."""
    return any(_reports(device) for device in sorted(devices.glob("*")))


def _reports(device: Path) -> bool:
    try:
        kind = int((device / "device").read_text(encoding="ascii"), 16)
        features = (device / "features").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return False
    return kind == _BALLOON and features[_REPORTS_FREE_PAGES : _REPORTS_FREE_PAGES + 1] == "1"
