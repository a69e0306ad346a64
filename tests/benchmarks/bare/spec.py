"""Values of domain, use case and policy, as plain dictionaries out of their YAML, and the months with their bounds."""

from __future__ import annotations

import importlib.util
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

Json = dict[str, Any]


@dataclass
class Month:
    """One partition."""

    key: str
    start: datetime
    end: datetime

    @property
    def next_key(self) -> str:
        """Key of the month after it."""
        year, month = divmod(int(self.key[:4]) * 12 + int(self.key[5:]), 12)
        return f"{year:04d}-{month + 1:02d}"


@dataclass
class Plan:
    """All that is fixed before the first row is read."""

    dags: Path
    out: Path
    domain: Json
    use_case: Json
    policy: Json
    months: dict[str, Month]
    clock: Clock

    @property
    def features(self) -> list[str]:
        """The model's columns in order."""
        service = self.use_case["features"]
        groups = [*service["views"].values(), *service.get("on_demand", {}).values()]
        return [*service["row"], *(name for names in groups for name in names)]

    @property
    def categories(self) -> list[str]:
        """Those of them that are categories."""
        return [name for name, kind in self.use_case["features"]["row"].items() if kind == "category"]

    def before(self, key: str, days: int) -> list[str]:
        """Keys of the months that a look-back of some days from a month's start reaches, itself the last."""
        reach = self.months[key].start - timedelta(days=days)
        return [item.key for item in self.months.values() if item.key <= key and item.end > reach]


@dataclass
class Clock:
    """Wall and CPU seconds by stage."""

    wall: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what passes inside to a stage."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall[name] += time.perf_counter() - wall
            self.cpu[name] += time.process_time() - cpu


def load_plan(dags: Path, out: Path, use_case: str, last: str) -> Plan:
    """Read the YAML files."""
    case = _yaml(dags / "use_cases" / f"{use_case}.yaml")
    domain = _yaml(dags / "domains" / f"{case['domain']}.yaml")
    policy = _yaml(dags / "policies" / f"{case['tier']}.yaml")
    zone = ZoneInfo(domain["timezone"])
    months: dict[str, Month] = {}
    year, month = (int(part) for part in domain["first"].split("-"))
    while (key := f"{year:04d}-{month:02d}") <= last:
        start = datetime(year, month, 1, tzinfo=zone).astimezone(UTC)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
        months[key] = Month(key, start, datetime(year, month, 1, tzinfo=zone).astimezone(UTC))
    return Plan(dags=dags, out=out, domain=domain, use_case=case, policy=policy, months=months, clock=Clock())


def _yaml(path: Path) -> Json:
    found: Json = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return found


def load_function(folder: Path, name: str) -> Any:
    """The function behind `<file>:<function>`, relative to a folder."""
    file, _, function = name.partition(":")
    found = importlib.util.spec_from_file_location(Path(file).stem, folder / file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return getattr(module, function)
