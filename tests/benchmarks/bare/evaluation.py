"""Candidates and champion on the same holdout rows: metrics, day-block bootstrap, slices, the gates of the policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn import metrics

from tests.benchmarks.bare.models import Floats, Model
from tests.benchmarks.bare.spec import Json, Plan


@dataclass
class Draws:
    """Day of each row, and how often each day is drawn in each round."""

    day: Any
    weights: Floats

    @classmethod
    def of(cls, event_timestamp: Any, plan: Plan) -> Draws:
        zone = str(ZoneInfo(plan.domain["timezone"]))
        local = pc.local_timestamp(event_timestamp.cast(pa.timestamp("us", zone))).cast(pa.date32())
        _, day = np.unique(local.to_numpy(zero_copy_only=False), return_inverse=True)
        days, rounds = int(day.max()) + 1, plan.use_case["evaluation"]["bootstrap"]
        generator = np.random.default_rng(plan.use_case["seed"])
        return cls(day, generator.multinomial(days, np.full(days, 1 / days), size=rounds).astype(np.float64))

    def auc(self, label: Floats, score: Floats) -> Floats:
        """AUC of each round, from how many pairs of a late flight and one on time are in right order, day by day.

        Equal scores count half. Rounds only weigh days, so the pairs are counted once for all of them.
        """
        late, days = label == 1, self.weights.shape[1]
        right = np.zeros((days, days))
        for other in range(days):
            against = np.sort(score[~late & (self.day == other)])
            below = np.searchsorted(against, score[late], "left") + np.searchsorted(against, score[late], "right")
            right[:, other] = np.bincount(self.day[late], weights=below / 2, minlength=days)
        pairs = np.outer(np.bincount(self.day[late], minlength=days), np.bincount(self.day[~late], minlength=days))
        w = self.weights
        return ((w @ right) * w).sum(axis=1) / ((w @ pairs) * w).sum(axis=1)


@dataclass
class Score:
    """One model on the holdout."""

    model: Model
    prediction: Floats
    metrics: dict[str, float]
    rounds: Floats

    @property
    def auc(self) -> float:
        return self.metrics["auc"]


@dataclass
class Outcome:
    """What an evaluation came to."""

    challenger: Score
    champion: Score | None
    scores: list[Score]
    faults: list[str]
    evidence: Json = field(default_factory=dict)


def evaluate(plan: Plan, models: list[Model], champion: Model | None, training: pa.Table, holdout: pa.Table) -> Outcome:
    """Score everybody, choose the challenger, hold it against the gates."""
    label = holdout["label"].to_numpy()
    draws = Draws.of(holdout["event_timestamp"], plan)
    scores = [_score(model, holdout, label, draws) for model in models]
    learned = [score for score in scores if score.model.trainer != "baseline"]
    challenger = max(learned, key=lambda score: score.auc)
    baseline = next(score for score in scores if score.model.trainer == "baseline")
    current = _score(champion, holdout, label, draws) if champion else None
    gains = {"baseline": _interval(challenger.rounds - baseline.rounds)}
    if current:
        gains["champion"] = _interval(challenger.rounds - current.rounds)
    slices = _slices(plan, holdout, label, challenger, current)
    alone = _alone(plan, training, holdout, label)
    evidence = {
        "scores": {score.model.candidate: score.metrics | {"ci": _interval(score.rounds)} for score in scores},
        "gains": gains,
        "slices": slices,
        "alone": alone,
        "explanation": _explain(plan, challenger.model, holdout, label),
    }
    faults = _gates(plan, evidence, challenger, training, holdout)
    return Outcome(challenger, current, scores, faults, evidence)


def measure(label: Floats, prediction: Floats) -> dict[str, float]:
    """Metrics of a binary model."""
    bins = np.minimum((prediction * 10).astype(np.int64), 9)
    return {
        "auc": float(metrics.roc_auc_score(label, prediction)),
        "average_precision": float(metrics.average_precision_score(label, prediction)),
        "log_loss": float(metrics.log_loss(label, prediction)),
        "brier": float(metrics.brier_score_loss(label, prediction)),
        "ece": float(np.abs(np.bincount(bins, weights=label - prediction)).sum() / len(label)),
    }


def _score(model: Model, holdout: pa.Table, label: Floats, draws: Draws) -> Score:
    prediction = model.predict(model.encoder.encode(holdout))
    return Score(model, prediction, measure(label, prediction), draws.auc(label, prediction))


def _interval(rounds: Floats) -> tuple[float, float]:
    low, high = np.percentile(rounds, [2.5, 97.5])
    return float(low), float(high)


def _slices(plan: Plan, holdout: pa.Table, label: Floats, challenger: Score, champion: Score | None) -> list[Json]:
    found = []
    for column in plan.use_case["evaluation"]["slices"]:
        values = holdout[column].to_numpy()
        for value in np.unique(values):
            rows = values == value
            if rows.sum() < 200 or len(np.unique(label[rows])) < 2:
                continue
            other = metrics.roc_auc_score(label[rows], champion.prediction[rows]) if champion else challenger.auc
            ours = metrics.roc_auc_score(label[rows], challenger.prediction[rows])
            found.append({"column": column, "value": str(value), "auc": float(ours), "other": float(other)})
    return found


def _alone(plan: Plan, training: pa.Table, holdout: pa.Table, label: Floats) -> dict[str, float]:
    """AUC of each feature alone: the mean training label of its bin or category."""
    sample = training.take(np.arange(0, training.num_rows, max(1, training.num_rows // 50_000)))
    target, found = sample["label"].to_numpy(), {}
    for name in plan.features:
        seen, new = (rows[name].combine_chunks() for rows in (sample, holdout))
        if name in plan.categories:
            words = {word: code for code, word in enumerate(pc.unique(seen).to_pylist())}
            of_seen, of_new = (
                np.array([words.get(word, len(words)) for word in coded.dictionary.to_pylist()])[coded.indices]
                for coded in (seen.dictionary_encode(), new.dictionary_encode())
            )
        else:
            a, b = (values.to_numpy(zero_copy_only=False) for values in (seen, new))
            cuts = np.unique(np.nanquantile(a, np.linspace(0, 1, 65)[1:-1]))
            of_seen, of_new = (np.where(np.isnan(x), len(cuts) + 1, np.searchsorted(cuts, x)) for x in (a, b))
        size = int(max(of_seen.max(), of_new.max())) + 1
        rows = np.bincount(of_seen, minlength=size)
        means = np.where(
            rows, np.bincount(of_seen, weights=target, minlength=size) / np.maximum(rows, 1), target.mean()
        )
        area = float(metrics.roc_auc_score(label, means[of_new]))
        found[name] = max(area, 1 - area)
    return found


def _explain(plan: Plan, model: Model, holdout: pa.Table, label: Floats) -> dict[str, float]:
    """Mean contribution of each feature; for a network, what shuffling it costs."""
    wanted = 400 if model.contribute else 2_000
    places = np.linspace(0, holdout.num_rows - 1, wanted).astype(np.int64)
    matrix = model.encoder.encode(holdout.take(places))
    if model.contribute:
        return dict(zip(model.encoder.names, np.abs(model.contribute(matrix)).mean(axis=0).tolist(), strict=True))
    sampled = label[places]
    whole = metrics.roc_auc_score(sampled, model.predict(matrix))
    order = np.random.default_rng(plan.use_case["seed"]).permutation(wanted)
    found = {}
    for place, name in enumerate(model.encoder.names):
        shuffled = matrix.copy()
        shuffled[:, place] = matrix[order, place]
        found[name] = float(whole - metrics.roc_auc_score(sampled, model.predict(shuffled)))
    return found


def _gates(plan: Plan, evidence: Json, challenger: Score, training: pa.Table, holdout: pa.Table) -> list[str]:
    """Why the challenger is refused; empty where it is not."""
    args = {item["kind"]: item.get("args", {}) for group in ("all", "binary") for item in plan.policy["gates"][group]}
    worst = max((item["other"] - item["auc"] for item in evidence["slices"]), default=0.0)
    champion = evidence["gains"].get("champion")
    checks = {
        "beats_baseline": evidence["gains"]["baseline"][0] > 0,
        "better_than_champion": champion is None or champion[0] > args["better_than_champion"]["min_gain"],
        "time_ordered": pc.max(training["event_timestamp"]).as_py() < pc.min(holdout["event_timestamp"]).as_py(),
        "no_leak": max(evidence["alone"].values()) <= 0.95 and not set(plan.features) & set(plan.use_case["leaks"]),
        "package_size": len(challenger.model.content) <= args["package_size"]["max_megabytes"] * 1e6,
        "minimum_metric": challenger.auc >= args["minimum_metric"]["at_least"],
        "calibration": challenger.metrics["ece"] <= args["calibration"]["max_error"],
        "slices_hold": worst <= args["slices_hold"]["max_drop"],
    }
    return [name for name, passed in checks.items() if not passed]
