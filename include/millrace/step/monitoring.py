"""Monitoring: labels joined, drift and performance measured, and the decision whether to train again."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import digest_of
from millrace.governance.ledger import Ledger
from millrace.governance.monitor_result import MonitorResults
from millrace.governance.release import Release, Releases
from millrace.governance.state import writing
from millrace.lake.digest import content_digest
from millrace.lake.table import Table
from millrace.monitoring.decision import NO_RELEASE, Decision, decide
from millrace.monitoring.drift import DriftReport, measure_columns, measure_predictions, summarise
from millrace.monitoring.performance import LabelReport, LiveGain, PerformanceReport, RolePerformance, judge_role
from millrace.monitoring.prediction_log import (
    LIVE,
    SHADOW,
    join_first_scores,
    logged_predictions,
    main_release,
    of_role,
    read_first_scores,
    read_labelled,
)
from millrace.monitoring.reference import (
    PREDICTION,
    Reference,
    load_reference,
    load_sample,
    shown_predictions,
    spread,
)
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain
from millrace.step.live_window import read_live_rows
from millrace.step.released import released_spec, require_same_question

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


def join_labels(use_case: UseCaseSpec, domain: DomainSpec, partition: str, *, settings: Settings) -> LabelReport:
    """Write `<uc>/labelled` of a partition: first scores with the labels that were known by its end.

    A row's first score of each role counts, so that scoring again after the outcome changes nothing. Labels that
    became known later are not taken: a repeated run finds what the first one found.

    Args:
        use_case: its use case.
        domain: the domain of that.
        partition: key of the partition.
        settings: this installation.

    Raises:
        SpecError: a release that scored tells other classes apart than the use case names by now.
    """
    from millrace.step.retrieval import entity_rows

    scores = read_first_scores(use_case, partition, lake=settings.lake)
    if scores is None:
        return LabelReport(use_case=use_case.name, partition=partition, reason=NO_RELEASE)
    _require_classes(use_case, scores, settings)
    labels = entity_rows(use_case, domain, partition, settings=settings).select(["key", "label", "label_known_at"])
    joined = join_first_scores(scores, labels, cut=domain.partition(partition).end)
    ref = Table(settings.lake, use_case.table("labelled")).replace(joined, partition=partition)
    rows, labelled = of_role(scores, LIVE).num_rows, of_role(joined, LIVE).num_rows
    report = LabelReport(
        use_case=use_case.name,
        partition=partition,
        rows=rows,
        labelled=labelled,
        unlabelled=rows - labelled,
        ref=ref,
    )
    stored = {"rows": rows, "labelled": labelled, "unlabelled": rows - labelled, "digest": ref.digest}
    MonitorResults(settings).put(use_case.name, partition, "labels", stored)
    return report


def measure_drift(use_case: UseCaseSpec, domain: DomainSpec, partition: str, *, settings: Settings) -> DriftReport:
    """Compare a partition's features and predictions with the reference of the release that scored it.

    Writes Evidently's report of a fixed sample of the rows to `<reports>/<uc>/drift/<partition>.html`.

    Args:
        use_case: its use case.
        domain: the domain of that.
        partition: key of the partition.
        settings: this installation.

    Raises:
        DocumentError: the release's reference is gone or was changed.
    """
    live, release = _live(use_case, partition, settings)
    if release is None:
        return DriftReport(use_case=use_case.name, partition=partition, reason=NO_RELEASE)
    reference = load_reference(release.reference, settings=settings)
    use_case = released_spec(use_case, release, settings=settings)
    rows = Table(settings.lake, use_case.service_table("scored_features")).read(partitions=[partition])
    rows = rows.sort_by([("event_timestamp", "ascending"), ("key", "ascending")])
    columns = measure_columns(reference, {name: rows.column(name) for name in reference.features})
    predictions = logged_predictions(live)
    shown = shown_predictions(use_case, predictions)
    moved = measure_predictions(reference, shown, predictions, use_case.classes)
    drifted, number, share, psi = summarise(columns, use_case.monitoring.drift_psi)
    report = DriftReport(
        use_case=use_case.name,
        partition=partition,
        release=release.version,
        reference=release.reference,
        rows=rows.num_rows,
        features=len(columns),
        drifted=drifted,
        drifted_features=number,
        share=share,
        psi=psi,
        prediction_psi=moved[0].psi,
        report=_write_report(use_case, reference, rows, shown, partition, digest=release.reference, settings=settings),
    )
    found = {**report.to_dict(), "columns": [item.to_dict() for item in [*columns, *moved]]}
    MonitorResults(settings).put(use_case.name, partition, "drift", found)
    return report


def measure_performance(
    use_case: UseCaseSpec, domain: DomainSpec, partition: str, *, settings: Settings
) -> PerformanceReport:
    """Measure what scored a partition on the labels joined to it, each release beside its own holdout.

    With `monitoring.window_partitions` above 1 the rows are those of the last partitions through it that what was
    live in it scored, with the labels known by its end.

    Where the first release itself is live, it stands for the shadow too.

    Args:
        use_case: its use case.
        domain: the domain of that.
        partition: key of the partition.
        settings: this installation.
    """
    base = PerformanceReport(use_case=use_case.name, partition=partition, metric=use_case.evaluation.metric)
    _, release = _live(use_case, partition, settings)
    if release is None:
        return dataclasses.replace(base, reason=NO_RELEASE)
    joined, window = read_live_rows(use_case, domain, partition, release, settings=settings)
    least = window.least_days if window else 0
    rows = of_role(joined, LIVE)
    live = _measure_role(use_case, domain, rows, LIVE, release, settings=settings, least_days=least)
    shadow = None
    if _first_is_live(use_case, release, settings):
        shadow = dataclasses.replace(live, role=SHADOW)
    elif (rows := of_role(joined, SHADOW)).num_rows:
        first = Releases(settings).get(use_case, main_release(rows) or 0)
        shadow = _measure_role(use_case, domain, rows, SHADOW, first, settings=settings, least_days=least)
    reason = "" if joined.num_rows else "no_labels"
    report = dataclasses.replace(base, live=live, shadow=shadow, reason=reason, window=window)
    MonitorResults(settings).put(use_case.name, partition, "performance", report.to_dict())
    return report


def decide_retraining(
    use_case: UseCaseSpec,
    partition: str,
    drift: DriftReport,
    performance: PerformanceReport,
    *,
    settings: Settings,
    beside: Sequence[str] = (),
    actor: str = "system",
) -> Decision:
    """Decide whether to train again, and write it to the ledger once, effective at the partition's end.

    Where nothing scored the partition the answer is no with the reason `no_release`, and nothing is written.

    Args:
        use_case: its use case.
        partition: key of the partition.
        drift: of the partition.
        performance: of the partition.
        settings: this installation.
        beside: sentences on what else was measured. They decide nothing and stand after the reasons, not in the
            ledger: they follow the online store and are others when it has caught up.
        actor: who asked.
    """
    from millrace.evaluation.metric import METRICS

    domain = load_domain(settings.dags, use_case.domain)
    ledger, age = Ledger(settings), 0
    if performance.live is not None:
        release = Releases(settings).get(use_case, performance.live.release)
        age = _distance(domain, release.holdout, partition)
    decision = decide(
        use_case.monitoring,
        drift,
        performance,
        age=age,
        since_retrain=_since_retrain(ledger, use_case, domain, partition),
        title=METRICS[performance.metric].title,
    )
    told = dataclasses.replace(decision, reasons=[*decision.reasons, *beside])
    if decision.cause != NO_RELEASE:
        with writing(settings) as connection:
            MonitorResults(settings).put(use_case.name, partition, "decision", told.to_dict(), connection=connection)
            ledger.append(
                "retrain_decided",
                use_case=use_case.name,
                subject=partition,
                effective_at=domain.partition(partition).end,
                actor=actor,
                payload={**decision.to_dict(), "reference": drift.reference},
                connection=connection,
            )
    asked = "train again" if decision.retrain else "keep"
    log.info("%s %s: %s (%s): %s", use_case.name, partition, asked, decision.cause, "; ".join(told.reasons))
    return told


def measure_live_gain(
    use_case: UseCaseSpec, domain: DomainSpec, partitions: Sequence[str], *, settings: Settings
) -> LiveGain:
    """Mean over partitions of how much better what was live did than the first release on the same rows.

    The interval is of a bootstrap that draws days within each partition, the same days for both. A partition in which
    the first release was live counts as no gain.
    """
    from millrace.evaluation.metric import direction_of
    from millrace.evaluation.score import estimate

    metric, way = use_case.evaluation.metric, direction_of(use_case.evaluation.metric)
    values, rounds, found, days = [], [], [], 0
    for partition in partitions:
        joined = read_labelled(use_case, partition, lake=settings.lake)
        live = _score_rows(use_case, domain, of_role(joined, LIVE))
        release = main_release(of_role(joined, LIVE))
        if live is None or release is None:
            continue
        shadow = live
        if not _first_is_live(use_case, Releases(settings).get(use_case, release), settings):
            shadow = _score_rows(use_case, domain, of_role(joined, SHADOW))  # type: ignore[assignment]
        if shadow is None:
            continue
        values.append(way * (live[0] - shadow[0]))
        rounds.append(way * (live[1] - shadow[1]))
        found.append(partition)
        days += live[2]
    if not values:
        return LiveGain(metric=metric, partitions=[])
    mean = estimate(float(np.mean(values)), np.mean(np.stack(rounds), axis=0), days=days)
    return LiveGain(metric=metric, gain=mean.value, low=mean.low, high=mean.high, partitions=found)


def _measure_role(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    rows: pa.Table,
    role: str,
    release: Release,
    *,
    settings: Settings,
    least_days: int,
) -> RolePerformance:
    from millrace.evaluation.evidence import load_evidence
    from millrace.evaluation.finding import Estimate
    from millrace.evaluation.metric import direction_of
    from millrace.evaluation.score import estimate

    metric = use_case.evaluation.metric
    scored = _score_rows(use_case, domain, rows)
    found = Estimate() if scored is None else estimate(scored[0], scored[1], days=scored[2])
    return judge_role(
        role,
        release.version,
        rows=rows.num_rows,
        days=0 if scored is None else scored[2],
        value=found.value,
        low=found.low,
        high=found.high,
        holdout=load_evidence(release.evidence, settings).challenger_score.metrics[metric].value,
        direction=direction_of(metric),
        least_days=least_days,
    )


def _score_rows(
    use_case: UseCaseSpec, domain: DomainSpec, rows: pa.Table
) -> tuple[float, NDArray[np.float64], int] | None:
    """The metric on labelled scores, the same in every round, and their days; None where it is undefined."""
    from millrace.evaluation.block import day_blocks
    from millrace.evaluation.bootstrap import resample_metric
    from millrace.evaluation.holdout import instants, numbers
    from millrace.evaluation.sklearn_metric import has_metrics, measure

    label = numbers(rows.column("label"))
    if not has_metrics(use_case.problem, label):
        return None
    prediction = logged_predictions(rows)
    blocks = day_blocks(
        instants(rows.column("event_timestamp")),
        domain.timezone,
        rounds=use_case.evaluation.bootstrap,
        seed=use_case.seed,
    )
    metric = use_case.evaluation.metric
    value = measure(use_case.problem, label, prediction)[metric]
    if not np.isfinite(value):
        return None
    return value, resample_metric(use_case.problem, metric, label, prediction, blocks), len(blocks.days)


def _require_classes(use_case: UseCaseSpec, scores: pa.Table, settings: Settings) -> None:
    """Places of classes are compared with places of labels: both must be of the same list."""
    if use_case.problem != "multiclass":
        return
    for version in pc.unique(scores.column("release")).to_pylist():
        digest = Releases(settings).get(use_case, version).package
        require_same_question(use_case, Package.open(settings.packages / digest, digest))


def _live(use_case: UseCaseSpec, partition: str, settings: Settings) -> tuple[pa.Table, Release | None]:
    """The first live scores of a partition, and the release that most of them are from."""
    scores = read_first_scores(use_case, partition, lake=settings.lake)
    live = None if scores is None else of_role(scores, LIVE)
    version = None if live is None else main_release(live)
    return live, None if version is None else Releases(settings).get(use_case, version)


def _first_is_live(use_case: UseCaseSpec, live: Release, settings: Settings) -> bool:
    first = Releases(settings).first(use_case) if use_case.monitoring.shadow_first else None
    return first is not None and first.version == live.version


def _write_report(
    use_case: UseCaseSpec,
    reference: Reference,
    rows: pa.Table,
    shown: pa.Array,
    partition: str,
    *,
    digest: str,
    settings: Settings,
) -> str:
    from millrace.monitoring.evidently_report import write_report

    wanted = use_case.monitoring.report_rows
    before = load_sample(digest, reference, settings=settings)
    now = rows.select(list(reference.features)).take(pa.array(spread(rows.num_rows, wanted)))
    of_rows = shown.take(pa.array(np.resize(spread(len(shown), wanted), now.num_rows)))
    now = now.append_column(PREDICTION, of_rows).combine_chunks()
    limit, share = use_case.monitoring.drift_psi, use_case.monitoring.drift_share
    path = settings.reports / use_case.name / "drift" / f"{partition}.html"
    inputs = digest_of({"reference": digest, "rows": content_digest(now), "limit": limit, "share": share})
    categories = [*use_case.features.categories, *([PREDICTION] if use_case.classes else [])]
    write_report(path, before, now, categories=categories, limit=limit, share=share, inputs=inputs)
    return str(path)


def _since_retrain(ledger: Ledger, use_case: UseCaseSpec, domain: DomainSpec, partition: str) -> int | None:
    """Partitions since the last earlier one whose (last) decision was to retrain."""
    last: dict[str, bool] = {}
    for entry in ledger.entries(use_case.name, kinds=("retrain_decided",)):
        last[entry.subject] = bool(entry.payload.get("retrain"))
    earlier = [key for key, retrain in last.items() if retrain and key < partition]
    return _distance(domain, max(earlier), partition) if earlier else None


def _distance(domain: DomainSpec, earlier: str, later: str) -> int:
    """Partitions from one to another; 0 where the second is not after the first."""
    return max(0, len(domain.partition(earlier).until(domain.partition(later))) - 1)
