"""What runs at the moment, as the supervisor wrote it down."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson
import psutil

from millrace.local.layout import Layout
from millrace.local.process import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """One service: its state (`waiting`, `starting`, `running`, `done`, `died`, `stopped`) and where to look."""

    state: str
    pid: int | None
    started: float | None
    port: int | None
    restarts: int
    log: str
    ready_after_s: float | None = None

    @property
    def identity(self) -> Identity | None:
        """The process, safe against a pid that was given to another one."""
        return Identity(pid=self.pid, started=self.started) if self.pid and self.started else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The supervisor and its services. `state` is `running`, `stopping`, `stopped` or `failed`."""

    state: str
    fault: str
    supervisor: Identity
    services: dict[str, ServiceRecord]

    @classmethod
    def of_this_process(cls, *, state: str, fault: str, services: dict[str, ServiceRecord]) -> Record:
        """A record whose supervisor is the calling process."""
        identity = Identity(pid=os.getpid(), started=psutil.Process().create_time())
        return cls(state=state, fault=fault, supervisor=identity, services=services)

    def identities(self) -> list[Identity]:
        """The services that were running, last started first."""
        found = [service.identity for service in self.services.values()]
        return [identity for identity in reversed(found) if identity is not None]


def write_record(layout: Layout, record: Record, *, keep_services: bool = False) -> None:
    """Replace the record in one step, where it says something new."""
    if keep_services and (known := read_record(layout)) is not None:
        record = replace(record, services=known.services)
    content = orjson.dumps(asdict(record), option=orjson.OPT_INDENT_2)
    if layout.state.is_file() and layout.state.read_bytes() == content:
        return
    draft = layout.state.with_suffix(".draft")
    draft.write_bytes(content)
    draft.replace(layout.state)


def read_record(layout: Layout) -> Record | None:
    """The last record; None where nothing was ever started, or the record is damaged."""
    try:
        found: dict[str, Any] = orjson.loads(layout.state.read_bytes())
        return Record(
            state=found["state"],
            fault=found["fault"],
            supervisor=Identity(**found["supervisor"]),
            services={name: ServiceRecord(**service) for name, service in found["services"].items()},
        )
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return None
