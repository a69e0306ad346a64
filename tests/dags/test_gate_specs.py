"""Gates and audited columns that cannot work are import errors of the DAG, and findings of `millrace check`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.errors import SpecError
from millrace.settings import Settings, settings
from millrace.step.check import check_policy_file, check_use_case
from millrace_airflow.groups import UseCaseDags

FAULTS = {
    "use case, unknown gate": (
        "use_cases/flight_delay.yaml",
        "threshold: 0.5",
        "threshold: 0.5\ngates:\n  - {kind: fairnes}",
        ["no gate of kind 'fairnes'", "use_cases/flight_delay.yaml: gates.0.kind", "did you mean 'fairness'"],
    ),
    "policy, unknown gate": (
        "policies/low.yaml",
        "kind: no_leak",
        "kind: no_leaks",
        ["no gate of kind 'no_leaks'", "policies/low.yaml: gates.all.3.kind", "did you mean 'no_leak'"],
    ),
    "threshold of the wrong type": (
        "policies/low.yaml",
        "max_megabytes: 50",
        "max_megabytes: fifty",
        ["max_megabytes", "'fifty'", "policies/low.yaml: gates.all.4.args.max_megabytes", "correct 'max_megabytes'"],
    ),
    "missing sensitive column": (
        "use_cases/flight_delay.yaml",
        "  bootstrap: 200",
        "  bootstrap: 200\n  sensitive: [carier]",
        ["'carier'", "use_cases/flight_delay.yaml: evaluation.sensitive.0", "did you mean 'carrier'"],
    ),
    "fairness required of a use case without sensitive columns": (
        "use_cases/flight_delay.yaml",
        "threshold: 0.5",
        "threshold: 0.5\ngates:\n  - {kind: fairness, args: {required: true}}",
        ["evaluation.sensitive of the use case names no column", "use_cases/flight_delay.yaml: gates.0.args"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_at_parse_and_by_check_with_file_key_and_remedy(
    fault: str, dags: Path, installation: Settings
) -> None:
    file, old, new, says = FAULTS[fault]
    UseCaseDags("flight_delay")
    assert check_use_case("flight_delay", settings=installation) == []
    text = (dags / file).read_text(encoding="utf-8")
    assert old in text
    (dags / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        UseCaseDags("flight_delay")
    (finding,) = check_use_case("flight_delay", settings=installation)
    for word in (*says, "remedy"):
        assert word in str(caught.value)
        assert word in finding


@pytest.fixture
def installation(dags: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The installation whose specs the test changes, also to the DAGs."""
    monkeypatch.setenv("MILLRACE_DAGS", str(dags))
    settings.cache_clear()
    yield settings()
    settings.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kind: no_leak", "kind: no_leaks", ["no gate of kind 'no_leaks'", "policies/high.yaml: gates.all.3.kind"]),
        ("at_least: 0.7", "at_least: good", ["'good'", "policies/high.yaml: gates.binary.0.args.at_least"]),
        ("kind: maximum_metric, args", "kind: calibration, args", ["gates.regression.0.args.metric"]),
        ("{kind: maximum_metric, args: {metric: rmse, at_most: 30}}", "{kind: calibration, args: {max_error: 0.1}}",
         ["answers for binary and multiclass only", "policies/high.yaml: gates.regression.0.kind"]),
    ],
)  # fmt: skip
def test_a_policy_that_no_use_case_is_under_is_checked_too(
    old: str, new: str, says: list[str], dags: Path, installation: Settings
) -> None:
    assert check_policy_file("high", settings=installation) == []
    path = dags / "policies" / "high.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    findings = "\n".join(check_policy_file("high", settings=installation))
    for word in (*says, "remedy"):
        assert word in findings
