"""What `millrace check` says of the engine of a use case."""

from __future__ import annotations

import sys

import pytest
from tests.unit.training.synthetic import make_use_case

from millrace.spec import ComputeSpec
from millrace.step.check import _engine_faults


def test_ray_that_is_not_installed_is_a_finding_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    use_case = make_use_case().model_copy(update={"compute": ComputeSpec(engine="ray")})
    assert _engine_faults(use_case) == []
    monkeypatch.setitem(sys.modules, "ray", None)
    (fault,) = _engine_faults(use_case)
    assert "not installed" in fault
    assert "use_cases/sold.yaml: compute.engine" in fault
    assert 'pip install -c constraints.txt -e ".[ray]"' in fault


def test_workers_without_ray_are_a_finding() -> None:
    together = make_use_case(one={"trainer": "xgboost"}, two={"trainer": "xgboost", "workers": 2})
    (fault,) = _engine_faults(together)
    assert "candidates.two.workers" in fault
    assert "compute.engine: ray" in fault
