"""Which partitions are held out, how many may be, and what is said of too few days."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError
from tests.unit.training.synthetic import make_domain, make_job, make_use_case, write_training_set

from millrace.artifact import iso
from millrace.errors import TrainingError
from millrace.package import TrainingRecord
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.spec.holdout import find_odd_windows, find_short_holdout, held_out, span
from millrace.spec.use_case import EvaluationSpec, MonitoringSpec
from millrace.step.candidate import open_job
from millrace.step.column_use import _held_out
from millrace.training import TrainingJob, assemble_training_set

MONTHS = ["2020-01", "2020-02", "2020-03"]


def by_day(zone: str = "UTC") -> DomainSpec:
    return make_domain().model_copy(update={"grain": "day", "first": "2020-03-01", "timezone": zone})


def holding(count: int, **changes: Any) -> UseCaseSpec:
    plain = make_use_case(baseline={"trainer": "baseline"})
    evaluation = plain.evaluation.model_copy(update={"holdout_partitions": count})
    return plain.model_copy(update={"evaluation": evaluation, **changes})


@pytest.mark.parametrize(
    ("count", "holdout", "first", "found"),
    [
        (1, "2020-03-20", "2020-03-20", 1),
        (14, "2020-03-20", "2020-03-07", 14),
        (14, "2020-03-05", "2020-03-01", 5),
        (14, "2020-02-20", "2020-02-20", 1),
    ],
)
def test_the_last_partitions_are_held_out_and_none_before_the_domains_first(
    count: int, holdout: str, first: str, found: int
) -> None:
    held = held_out(holding(count), by_day(), holdout)
    assert (held[0].key, held[-1].key, len(held)) == (first, holdout, found)
    assert span(held) == (first if found == 1 else f"{first} to {holdout}")


def test_the_cut_is_the_start_of_the_first_day_in_the_domains_own_calendar() -> None:
    """A clock that goes forward inside the window moves its start by no hour."""
    held = held_out(holding(14), by_day("America/New_York"), "2020-03-14")
    assert (iso(held[0].start), iso(held[-1].end)) == ("2020-03-01T05:00:00Z", "2020-03-15T04:00:00Z")


@pytest.mark.parametrize("count", [0, -1, 367, True, 1.0, "3"])
def test_a_number_that_none_can_mean_is_refused(count: object) -> None:
    with pytest.raises(ValidationError, match="holdout_partitions"):
        EvaluationSpec.model_validate({"holdout_partitions": count})


def test_a_job_of_one_partition_keeps_its_bytes_and_one_of_several_knows_its_first() -> None:
    job = make_job(holding(1), "baseline", holdout="2020-03")
    assert b'"holdout_partitions":1,' in job.to_bytes()
    assert [item.key for item in job.held_out] == ["2020-03"]
    more = make_job(holding(2), "baseline", holdout="2020-03")
    again = TrainingJob.from_bytes(more.to_bytes())
    assert [item.key for item in again.held_out] == ["2020-02", "2020-03"]
    assert hashlib.sha256(more.to_bytes()).digest() != hashlib.sha256(job.to_bytes()).digest()


@pytest.mark.parametrize(("count", "told"), [(1, "one day, which has no interval"), (6, "is 6 days"), (7, "")])
def test_days_that_are_too_few_are_found_with_key_and_remedy(count: int, told: str) -> None:
    found = find_short_holdout(holding(count), by_day())
    assert [told in str(fault) for fault in found] == ([True] if told else [])
    for fault in found:
        assert fault.where.endswith("evaluation.holdout_partitions")
        assert "7 or more" in fault.remedy
    assert find_short_holdout(holding(count), make_domain()) == []


def test_windows_are_as_long_as_the_holdout_unless_the_use_case_says_otherwise() -> None:
    assert (holding(1).window, holding(1).evaluation.validated) == (1, 1)
    assert (holding(14).window, holding(14).evaluation.validated) == (14, 14)
    said = holding(14, monitoring=MonitoringSpec(window_partitions=28))
    assert (said.window, said.evaluation.validated) == (28, 14)
    assert EvaluationSpec(holdout_partitions=14, validation_partitions=7).validated == 7


def test_a_window_that_nobody_said_stands_in_no_spec_and_one_that_is_said_in_each() -> None:
    """Digests of specs are those of before the keys were known."""
    unsaid = UseCaseSpec.model_validate(holding(14).model_dump(mode="json"))
    assert "validation_partitions" not in unsaid.model_dump_json() + unsaid.evaluation.model_dump_json()
    assert "window_partitions" not in unsaid.model_dump()["monitoring"]
    said = holding(14, monitoring=MonitoringSpec(window_partitions=28))
    again = UseCaseSpec.model_validate(said.model_dump(mode="json"))
    assert (again, again.window) == (said, 28)


@pytest.mark.parametrize("count", [0, 367, True, "3"])
def test_a_window_that_none_can_mean_is_refused(count: object) -> None:
    for model, key in ((EvaluationSpec, "validation_partitions"), (MonitoringSpec, "window_partitions")):
        with pytest.raises(ValidationError, match=key):
            model.model_validate({key: count})


@pytest.mark.parametrize(("count", "told"), [(1, "never asks for training"), (6, "on 6 days"), (7, ""), (None, "")])
def test_a_live_window_of_too_few_days_is_found(count: int | None, told: str) -> None:
    use_case = holding(14, monitoring=MonitoringSpec(window_partitions=count), min_training_partitions=28)
    found = find_odd_windows(use_case, by_day())
    assert [told in str(fault) for fault in found] == ([True] if told else [])
    assert all(fault.where.endswith("monitoring.window_partitions") for fault in found)
    assert find_odd_windows(use_case, make_domain()) == []


SPACE = {"max_depth": {"type": "int", "low": 2, "high": 4}}


@pytest.mark.parametrize(
    ("candidate", "needed", "why"),
    [
        ({}, 1, ""),
        ({"params": {"early_stopping": 3}}, 15, "early stopping keeps 14 back"),
        ({"tuning": {"space": SPACE, "gap": 2}}, 17, "a fold predicts 14, after a gap of 2"),
        (
            {"tuning": {"space": SPACE}, "params": {"early_stopping": 3}},
            29,
            "a fold predicts 14; early stopping keeps 14 back",
        ),
    ],
)
def test_a_candidate_that_a_first_run_would_refuse_is_found(candidate: dict[str, Any], needed: int, why: str) -> None:
    plain = make_use_case(mine={"trainer": "xgboost", **candidate})

    def find(count: int, fewest: int) -> list[str]:
        evaluation = EvaluationSpec(holdout_partitions=count)
        changed = plain.model_copy(update={"evaluation": evaluation, "min_training_partitions": fewest})
        return [str(fault) for fault in find_odd_windows(changed, by_day())]

    assert find(14, needed) == find(1, 1) == []
    if needed > 1:
        (told,) = find(14, needed - 1)
        assert f"candidate 'mine' takes {needed} partitions before the holdout: {why}; a run may have" in told
        assert f"min_training_partitions: {needed}" in told


def test_a_window_that_leaves_too_little_to_train_on_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    def never(key: str) -> pa.Table:
        raise AssertionError(key)

    told = "2020-01 to 2020-03 are 3 partitions; 2 are held out, and 2 must"
    with pytest.raises(TrainingError, match=told) as caught:
        assemble_training_set(holding(2), make_domain(), "2020-03", lake=str(tmp_path), rows_of=never)
    assert caught.value.remedy.startswith("choose 2020-04 or a later holdout")


def test_what_a_package_held_out_is_told_by_the_labels_it_could_know() -> None:
    record = TrainingRecord(
        table="t", digest="d", rows=1, partitions=["2020-03-06"], trained_through="2020-03-06", holdout="2020-03-20",
        known_until="2020-03-07T00:00:00Z",
    )  # fmt: skip
    assert span(_held_out(by_day(), record)) == "2020-03-07 to 2020-03-20"
    month = TrainingRecord(
        table="t", digest="d", rows=1, partitions=["2020-02"], trained_through="2020-02", holdout="2020-03",
        known_until="2020-03-01T00:00:00Z",
    )  # fmt: skip
    assert span(_held_out(make_domain(), month)) == "2020-03"


def test_training_takes_no_label_that_became_known_after_the_first_of_them_began(tmp_path: Path) -> None:
    given = {"MILLRACE_ROOT": tmp_path, "MILLRACE_VAR": tmp_path / "var", "MILLRACE_DAGS": tmp_path}
    settings = Settings.load({name: str(value) for name, value in given.items()})
    ref = write_training_set(holding(1), settings.lake, MONTHS, 60)
    for count, partitions, cut in ((1, MONTHS[:2], "2020-03-01"), (2, MONTHS[:1], "2020-02-01")):
        job, rows = open_job(holding(count), make_domain(), "baseline", ref, settings=settings)
        assert (rows.partitions, job.holdout, job.known_until) == (partitions, "2020-03", f"{cut}T00:00:00Z")
