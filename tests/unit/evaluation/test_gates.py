"""Each gate: what it passes, what it fails, and when it has too little to answer."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.errors import EvaluationError, SpecError
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Comparison, Estimate, Sufficiency
from millrace.evaluation.gate import Answer, check_policy, gate_kinds, load_gates
from millrace.evaluation.gates.beats_baseline import BeatsBaseline
from millrace.evaluation.gates.better_than_champion import BetterThanChampion
from millrace.evaluation.gates.calibration import Calibration
from millrace.evaluation.gates.maximum_metric import MaximumMetric
from millrace.evaluation.gates.minimum_metric import MinimumMetric
from millrace.evaluation.gates.no_leak import NoLeak
from millrace.evaluation.gates.not_worse_than import NotWorseThan
from millrace.evaluation.gates.package_size import PackageSize
from millrace.evaluation.gates.slices_hold import SlicesHold
from millrace.evaluation.gates.time_ordered import TimeOrdered
from millrace.evaluation.verdict import answer_gates, conclude
from millrace.settings import Settings
from millrace.spec import GateSpec, PolicySpec, UseCaseSpec, load_policy, load_use_case


def spoil(evidence: Evidence, **parts: Any) -> Evidence:
    """The bundle with some parts changed; a dict changes fields of a part."""
    changed = {}
    for name, value in parts.items():
        part = getattr(evidence, name)
        is_part = isinstance(value, dict) and hasattr(part, "model_copy")
        changed[name] = part.model_copy(update=value) if is_part else value
    return evidence.model_copy(update=changed)


def with_challenger(evidence: Evidence, **changes: Any) -> Evidence:
    models = [
        item.model_copy(update=changes) if item.name == evidence.challenger else item for item in evidence.candidates
    ]
    return evidence.model_copy(update={"candidates": models})


def with_metric(evidence: Evidence, name: str, value: float | None) -> Evidence:
    found = Estimate() if value is None else Estimate(value=value, low=value - 0.01, high=value + 0.01)
    return with_challenger(evidence, metrics={**evidence.challenger_score.metrics, name: found})


def test_the_challenger_must_be_better_beyond_chance(evidence: Evidence) -> None:
    assert BetterThanChampion(min_gain=0.005).answer(evidence).outcome == "pass"
    answer = BetterThanChampion(min_gain=0.01).answer(evidence)
    assert answer.outcome == "fail"
    assert answer.numbers == {"gain": 0.02, "low": 0.01, "high": 0.03, "min_gain": 0.01}
    assert "release 3" in answer.sentence


def test_without_a_champion_there_is_none_to_beat_but_one_that_cannot_be_compared_blocks(evidence: Evidence) -> None:
    free = spoil(evidence, champion=None, versus_champion=Comparison(against="champion"))
    assert BetterThanChampion().answer(free).outcome == "pass"
    other = Comparison(against="champion", release=3, reason="release 3 reads other features")
    blocked = BetterThanChampion().answer(spoil(evidence, champion=None, versus_champion=other))
    assert blocked.outcome == "insufficient_data"
    assert "other features" in blocked.sentence


def test_a_gain_without_an_interval_is_no_proof(evidence: Evidence) -> None:
    bare = spoil(evidence, versus_champion={"gain": Estimate(value=0.5)})
    assert BetterThanChampion().answer(bare).outcome == "insufficient_data"


@pytest.mark.parametrize(
    ("problem", "metric", "days", "gain", "why"),
    [
        ("regression", "rmse", 1, 3.0, "the holdout has 1 day; an interval needs several"),
        ("regression", "mape", 9, 3.0, "undefined in too many resamples of the holdout's 9 days"),
        ("binary", "auc", 1, 0.1, "the holdout has 1 day; an interval needs several"),
        ("binary", "auc", 9, 0.1, "too few of the holdout's 9 days hold both classes"),
        ("multiclass", "auc", 9, 0.1, "too few of the holdout's 9 days hold every class"),
        ("regression", "mape", 9, None, "is undefined on the holdout"),
    ],
)
def test_a_gain_without_an_interval_says_why_in_words_of_its_problem(
    evidence: Evidence, problem: str, metric: str, days: int, gain: float | None, why: str
) -> None:
    found = Comparison(against="baseline", gain=Estimate(value=gain))
    bare = spoil(evidence, problem=problem, metric=metric, data={"holdout_days": days}, versus_baseline=found)
    bare = spoil(bare, versus_champion={"gain": found.gain})
    answer = BeatsBaseline().answer(bare)
    assert answer.outcome == "insufficient_data"
    assert answer.sentence.startswith("There is no comparison with the baseline: ")
    assert why in answer.sentence
    assert why in NotWorseThan(margin=0.1, slice_margin=0.1).answer(bare).sentence


def test_a_run_without_a_baseline_has_nothing_to_beat(evidence: Evidence) -> None:
    assert BeatsBaseline().answer(evidence).outcome == "pass"
    none = spoil(evidence, versus_baseline=Comparison(against="baseline", reason="no baseline was trained"))
    assert BeatsBaseline().answer(none).outcome == "insufficient_data"
    level = spoil(evidence, versus_baseline={"gain": Estimate(value=0.0, low=0.0, high=0.0)})
    assert BeatsBaseline().answer(level).outcome == "fail"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"training_partitions": ["2013-01", "2013-03"]}, "2013-03"),
        ({"training_last_event": "2013-03-01T05:00:00Z"}, "holdout begins"),
        ({"training_last_event": "2013-03-31T05:00:00Z"}, "random split"),
        ({"rows_in_both": 4}, "4 rows are in training and holdout"),
        ({"last_label_known_at": "2013-04-01T04:00:00.5Z"}, "after the cut"),
    ],
)
def test_order_in_time_is_broken_by(evidence: Evidence, change: dict[str, Any], says: str) -> None:
    assert TimeOrdered().answer(evidence).outcome == "pass"
    answer = TimeOrdered().answer(spoil(evidence, time=change))
    assert answer.outcome == "fail"
    assert says in answer.sentence


def test_without_training_rows_order_cannot_be_judged(evidence: Evidence) -> None:
    empty = spoil(evidence, time={"training_partitions": []})
    assert TimeOrdered().answer(empty).outcome == "insufficient_data"


def test_leaks_are_found_by_declaration_by_availability_and_by_strength(evidence: Evidence) -> None:
    assert NoLeak().answer(evidence).outcome == "pass"
    features = evidence.challenger_score.features
    for name, says in (("arr_delay", "declared leaks"), ("brand_new", "not known when predicting")):
        answer = NoLeak().answer(with_challenger(evidence, features=[*features, name]))
        assert answer.outcome == "fail"
        assert name in answer.sentence
        assert says in answer.sentence
    strong = spoil(evidence, sufficiency=[Sufficiency(feature="dest", score=0.951)])
    assert "dest alone" in NoLeak().answer(strong).sentence
    assert NoLeak(max_auc=0.96).answer(strong).outcome == "pass"
    assert NoLeak().answer(spoil(evidence, problem="regression", sufficiency=strong.sufficiency)).outcome == "pass"
    assert NoLeak().answer(spoil(evidence, sufficiency=[])).outcome == "insufficient_data"


def test_limits_on_size_metrics_and_calibration(evidence: Evidence) -> None:
    assert PackageSize(max_megabytes=2).answer(evidence).outcome == "pass"
    assert PackageSize(max_megabytes=1.9).answer(evidence).outcome == "fail"
    assert MinimumMetric(metric="auc", at_least=0.72).answer(evidence).outcome == "pass"
    assert MinimumMetric(metric="auc", at_least=0.721).answer(evidence).outcome == "fail"
    assert MaximumMetric(metric="log_loss", at_most=0.4).answer(evidence).outcome == "fail"
    assert Calibration(max_error=0.02).answer(evidence).outcome == "pass"
    assert Calibration(max_error=0.01).answer(evidence).outcome == "fail"
    for gate, metric in (
        (MinimumMetric(metric="auc", at_least=0.1), "auc"),
        (MaximumMetric(metric="brier", at_most=1), "brier"),
        (Calibration(max_error=0.5), "ece"),
    ):
        assert gate.answer(with_metric(evidence, metric, None)).outcome == "insufficient_data"


def test_a_ceiling_on_the_bias_counts_both_ways(evidence: Evidence) -> None:
    assert MaximumMetric(metric="bias", at_most=1).answer(with_metric(evidence, "bias", -3.0)).outcome == "fail"


def test_a_slice_fails_against_the_champion_and_small_ones_are_only_named(evidence: Evidence) -> None:
    answer = SlicesHold(max_drop=0.03, min_rows=200).answer(evidence)
    assert answer.outcome == "pass"
    assert "origin LGA" in answer.sentence
    answer = SlicesHold(max_drop=0.01, min_rows=200).answer(evidence)
    assert answer.outcome == "fail"
    assert answer.sentence.startswith("AUC on origin JFK is 0.0200 worse than the champion there")
    assert answer.numbers["worst_drop"] == pytest.approx(0.02)


def test_without_a_champion_slices_are_held_against_all_rows(evidence: Evidence) -> None:
    alone = [item.model_copy(update={"champion": None}) for item in evidence.slices]
    answer = SlicesHold(max_drop=0.03, min_rows=200).answer(spoil(evidence, slices=alone))
    assert answer.outcome == "fail"
    assert "JFK is 0.0400 worse than over all rows" in answer.sentence


def test_where_no_slice_has_enough_rows_there_is_no_answer(evidence: Evidence) -> None:
    assert SlicesHold(max_drop=0.5, min_rows=10_000).answer(evidence).outcome == "insufficient_data"
    assert SlicesHold(max_drop=0.5).answer(spoil(evidence, slices=[])).outcome == "insufficient_data"


def test_an_error_that_grows_is_a_drop_too(evidence: Evidence) -> None:
    slices = [
        item.model_copy(update={"score": Estimate(value=30.0), "champion": Estimate(value=20.0)})
        for item in evidence.slices
    ]
    worse = with_metric(spoil(evidence, metric="rmse", slices=slices), "rmse", 20.0)
    assert SlicesHold(max_drop=5.0).answer(worse).outcome == "fail"
    better = [item.model_copy(update={"score": Estimate(value=10.0)}) for item in slices]
    assert SlicesHold(max_drop=0.0).answer(spoil(worse, slices=better)).outcome == "pass"


def test_every_gate_of_the_shipped_policies_is_found_and_fits(settings: Settings) -> None:
    for name in ("flight_delay", "flight_duration"):
        plain = load_use_case(settings.dags, name)
        evaluation = plain.evaluation.model_copy(update={"sensitive": ["carrier"]})
        use_case = plain.model_copy(update={"evaluation": evaluation})
        for tier in ("low", "medium", "high"):
            policy = load_policy(settings.dags, tier)
            assert check_policy(policy, use_case) == []
            assert len(load_gates(policy, use_case)) == len(policy.gates_for(use_case.problem))
    assert {spec.kind for spec in policy.gates_for("binary")} < set(gate_kinds())


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"kind": "better_than_champoin"}, ["no gate of kind", "gates.all.0.kind", "better_than_champion"]),
        ({"kind": "package_size"}, ["needs the argument 'max_megabytes'", "gates.all.0.args.max_megabytes"]),
        ({"kind": "package_size", "args": {"max_megabytes": "ten"}}, ["'ten'", "gates.all.0.args.max_megabytes"]),
        ({"kind": "calibration", "args": {"max_eror": 0.1}}, ["no argument 'max_eror'", "did you mean 'max_error'"]),
        ({"kind": "minimum_metric", "args": {"metric": "rmse", "at_least": 1}}, ["does not fit", "regression"]),
        ({"kind": "minimum_metric", "args": {"metric": "auk", "at_least": 1}}, ["args.metric", "'auk'"]),
        ({"kind": "beats_baseline", "args": {"min_gain": -1}}, ["args.min_gain"]),
        ({"kind": "beats_baseline", "args": {"min_gain": float("inf")}}, ["finite", "args.min_gain"]),
        ({"kind": "minimum_metric", "args": {"metric": "auc", "at_least": float("nan")}}, ["finite", "args.at_least"]),
        ({"kind": "package_size", "args": {"max_megabytes": float("inf")}}, ["finite", "args.max_megabytes"]),
        ({"kind": "minimum_metric", "args": {"metric": "log_loss", "at_least": 0.1}}, ["less of log_loss is better"]),
        ({"kind": "maximum_metric", "args": {"metric": "auc", "at_most": 0.9}}, ["more of auc is better"]),
    ],
)
def test_a_wrong_gate_is_named_with_file_key_and_remedy(
    use_case: UseCaseSpec, gate: dict[str, Any], says: list[str]
) -> None:
    policy = PolicySpec(tier="low", description="", gates={"all": [GateSpec(**gate)]})
    faults = check_policy(policy, use_case)
    assert any(all(word in fault for word in [*says[:2], "policies/low.yaml", "remedy"]) for fault in faults)
    with pytest.raises(SpecError) as error:
        load_gates(policy, use_case)
    assert all(word in str(error.value) for word in says)


def test_training_partitions_need_no_order_to_be_held_against_the_holdout(plain: dict[str, Any]) -> None:
    time = {**plain["time"], "training_partitions": ["2013-04", "2013-02"]}
    answer = TimeOrdered().answer(Evidence.model_validate({**plain, "time": time}))
    assert (answer.outcome, "training reaches into 2013-04" in answer.sentence) == ("fail", True)


@pytest.mark.parametrize(("rows", "says"), [(900, "Rows enough, but not of every class"), (3, "Too few rows to judge")])
def test_a_slice_without_a_metric_is_named_by_what_it_lacks(plain: dict[str, Any], rows: int, says: str) -> None:
    lacking = {**plain["slices"][2], "rows": rows, "score": {}, "champion": {}}
    evidence = Evidence.model_validate({**plain, "slices": [*plain["slices"][:2], lacking]})
    answer = SlicesHold(max_drop=0.1).answer(evidence)
    assert answer.outcome == "pass"
    assert f"{says}: origin LGA." in answer.sentence


def test_a_use_case_may_add_gates_but_not_under_a_name_of_the_policy(use_case: UseCaseSpec, policy: PolicySpec) -> None:
    more = use_case.model_copy(update={"gates": [GateSpec(kind="calibration", id="tight", args={"max_error": 0.01})]})
    assert [spec.name for spec, _ in load_gates(policy, more)][-1] == "tight"
    same = use_case.model_copy(update={"gates": [GateSpec(kind="calibration", args={"max_error": 0.01})]})
    with pytest.raises(SpecError, match="a second gate 'calibration'"):
        load_gates(policy, same)
    assert len(check_policy(policy, same)) == 1


def test_only_unanimous_gates_are_a_pass(evidence: Evidence) -> None:
    good = Answer(gate="a", outcome="pass", sentence="fine")
    bad = Answer(gate="b", outcome="fail", sentence="x" * 500)
    unsure = Answer(gate="c", outcome="insufficient_data", sentence="few rows")
    assert conclude(evidence, "e", [good]).passed
    assert conclude(evidence, "e", [good, unsure]).outcome == "insufficient_data"
    verdict = conclude(evidence, "e", [good, unsure, bad])
    assert verdict.outcome == "fail"
    assert [item[:2] for item in verdict.reasons] == ["b:", "c:", "a:"]
    assert conclude(evidence, "e", []).outcome == "insufficient_data"
    assert verdict.numbers["champion"] == 0.7


def test_gates_answer_in_the_policys_order_and_for_its_version_alone(
    evidence: Evidence, policy: PolicySpec, use_case: UseCaseSpec
) -> None:
    answers = answer_gates(policy, use_case, evidence)
    assert [item.gate for item in answers] == [item.name for item in policy.gates_for("binary")]
    assert all(item.outcome == "pass" for item in answers)
    with pytest.raises(EvaluationError, match="another version of policy"):
        answer_gates(policy.model_copy(update={"min_candidates": 9}), use_case, evidence)
    with pytest.raises(EvaluationError, match="another version of use case"):
        answer_gates(policy, use_case.model_copy(update={"seed": 8}), evidence)
