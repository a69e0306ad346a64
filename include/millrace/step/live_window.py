"""What live performance is measured on: labelled scores of one partition, or of the last ones through it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from millrace.governance.release import Release
from millrace.monitoring.performance import LEAST_DAYS, Window
from millrace.monitoring.prediction_log import (
    LIVE,
    SHADOW,
    join_first_scores,
    labelled_schema,
    main_release,
    of_role,
    read_first_scores,
    read_labelled,
)
from millrace.partition import Partition
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.spec.holdout import last_partitions


def read_live_rows(
    use_case: UseCaseSpec, domain: DomainSpec, partition: str, release: Release, *, settings: Settings
) -> tuple[pa.Table, Window | None]:
    """Labelled first scores of a partition, or of the window that ends with it, in the order of partitions.

    A partition alone has all its rows. A window has those that the release scored live, in the shadow the same rows
    as the release that scored most of them; what other releases answered is left out. Its labels are those known by
    the end of the partition looked at, also where they became known after the end of their own.

    Args:
        use_case: says how many partitions.
        domain: its domain.
        partition: key of the one looked at.
        release: what was live in it.
        settings: this installation.

    Returns:
        The rows of both roles, and the window; None for a partition alone.

    Raises:
        FeatureError: a partition that was scored has no clean rows any more.
    """
    if use_case.window == 1:
        return read_labelled(use_case, partition, lake=settings.lake), None
    last = domain.partition(partition)
    kept, elsewhere = [], 0
    for place in last_partitions(domain, last, use_case.window):
        scores = read_first_scores(use_case, place.key, lake=settings.lake)
        if scores is None:
            continue
        own = pc.equal(scores.column("release"), release.version)
        answered = of_role(scores.filter(own), LIVE)
        elsewhere += answered.num_rows < of_role(scores, LIVE).num_rows
        if answered.num_rows:
            labelled = _labelled(use_case, domain, place, scores, last=last, settings=settings)
            if (rows := _of_release(labelled, release.version)).num_rows:
                kept.append((place.key, rows))
    joined = pa.concat_tables([labelled_schema(use_case.problem).empty_table(), *(rows for _, rows in kept)])
    keys = [key for key, _ in kept]
    return _one_shadow(joined), Window(
        partitions=use_case.window,
        measured=len(keys),
        first=keys[0] if keys else "",
        last=keys[-1] if keys else "",
        elsewhere=elsewhere,
        least_days=min(LEAST_DAYS, use_case.window) if domain.grain == "day" else 0,
    )


def _labelled(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    place: Partition,
    scores: pa.Table,
    *,
    last: Partition,
    settings: Settings,
) -> pa.Table:
    """Scores with the labels known by the end of the last partition; those of its own stand in the lake already."""
    from millrace.step.retrieval import entity_rows

    if place.key == last.key:
        return read_labelled(use_case, place.key, lake=settings.lake)
    labels = entity_rows(use_case, domain, place.key, settings=settings).select(["key", "label", "label_known_at"])
    return join_first_scores(scores, labels, cut=last.end)


def _of_release(rows: pa.Table, version: int) -> pa.Table:
    """What a release answered live, and the same rows in the shadow."""
    live = of_role(rows.filter(pc.equal(rows.column("release"), version)), LIVE)
    shadow = of_role(rows, SHADOW)
    same = pc.is_in(shadow.column("key"), value_set=live.column("key").combine_chunks())
    return pa.concat_tables([live, shadow.filter(same)])


def _one_shadow(rows: pa.Table) -> pa.Table:
    """The rows without shadows of another release than most of them."""
    live, shadow = of_role(rows, LIVE), of_role(rows, SHADOW)
    version = main_release(shadow)
    if version is None:
        return live
    return pa.concat_tables([live, shadow.filter(pc.equal(shadow.column("release"), version))])
