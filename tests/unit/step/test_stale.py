"""Which partitions' features rest on clean rows that changed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from tests.drops import write_drops

from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec, load_domain
from millrace.step.stale import stale_features


def _domain(settings: Settings, tmp_path: Path, *, look_back_days: int, built: list[str]) -> DomainSpec:
    write_drops(settings.dags, tmp_path / "in")
    path = settings.dags / "domains" / "drops.yaml"
    text = path.read_text(encoding="utf-8").replace("look_back_days: 2", f"look_back_days: {look_back_days}")
    path.write_text(text, encoding="utf-8")
    domain = load_domain(settings.dags, "drops")
    for key in built:
        Table(settings.lake, domain.feature_table("device_level")).replace(pa.table({"x": [key]}), partition=key)
    return domain


BUILT = ["2024-01", "2024-02", "2024-03", "2024-04"]


@pytest.mark.parametrize(
    ("look_back_days", "changed", "found"),
    [
        (0, ["2024-02"], ["2024-02"]),
        (1, ["2024-02"], ["2024-02", "2024-03"]),
        (30, ["2024-02"], ["2024-02", "2024-03"]),
        (32, ["2024-02"], ["2024-02", "2024-03", "2024-04"]),
        (1, ["2024-01", "2024-03"], BUILT),
        (1, ["2024-04"], ["2024-04"]),
        (1, ["2024-05"], ["2024-05"]),
        (0, [""], BUILT),
        (0, ["", "2024-06"], [*BUILT, "2024-06"]),
        (9, [], []),
    ],
)
def test_what_looks_back_on_a_changed_partition_is_stale_too(
    settings: Settings, tmp_path: Path, look_back_days: int, changed: list[str], found: list[str]
) -> None:
    domain = _domain(settings, tmp_path, look_back_days=look_back_days, built=BUILT)
    assert stale_features(domain, changed, settings=settings) == found


def test_nothing_was_built_yet(settings: Settings, tmp_path: Path) -> None:
    domain = _domain(settings, tmp_path, look_back_days=9, built=[])
    assert stale_features(domain, ["", "2024-02"], settings=settings) == ["2024-02"]
