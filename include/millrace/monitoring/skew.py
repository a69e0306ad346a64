"""Training/serving skew: how many of the rows answered online would have had other features offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.artifact import PlainValue

NO_REQUESTS = "no_requests"
_NAMED = 10
_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SkewExample(PlainValue):
    """One row whose feature was not the same on both paths.

    Attributes:
        key: join keys of the row; of a function, its inputs.
        as_of: ISO instant as of which it was looked up.
        online: value that was answered with; None where it was missing.
        offline: value that the feature table gives as of that instant.
    """

    key: dict[str, Any]
    as_of: str
    online: Any
    offline: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSkew(PlainValue):
    """The skew of one feature.

    Attributes:
        name: the feature.
        view: the feature view or function that it is of.
        rows: rows compared.
        mismatches: rows with another value offline.
        share: of those compared.
        examples: the first few of them.
    """

    name: str
    view: str
    rows: int
    mismatches: int
    share: float
    examples: list[SkewExample] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkewReport(PlainValue):
    """Whether rows answered online had the features that the lake gives as of the same instant.

    Attributes:
        use_case: its use case.
        partition: key of the partition the requests fall into by the time of their data.
        rows: sampled rows compared.
        mismatched: rows with at least one other feature.
        share: their share.
        releases: versions that answered.
        features: number of features compared.
        skewed: features with mismatches, the worst first; at most ten are named.
        skewed_features: how many there are.
        shares: mismatch share of those named.
        alert: whether one of them is over the limit.
        report: path of the page, "" where there is none.
        reasons: sentences for people.
        reason: why nothing was compared (`no_requests`), else "".
        uncompared: sampled rows that could not be, for the package that answered them is gone or was changed.
        vectors: rows that came as full vectors, as far back as the service's log goes; none of them can be compared.
    """

    use_case: str
    partition: str
    rows: int = 0
    mismatched: int = 0
    share: float = 0.0
    releases: list[int] = field(default_factory=list)
    features: int = 0
    skewed: list[str] = field(default_factory=list)
    skewed_features: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    alert: bool = False
    report: str = ""
    reasons: list[str] = field(default_factory=list)
    reason: str = ""
    uncompared: int = 0
    vectors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCount:
    """What was counted of one feature: rows compared, rows that differ, and the first of those."""

    name: str
    view: str
    rows: int
    mismatches: int
    examples: Sequence[SkewExample] = ()


def rank_features(counts: Sequence[FeatureCount]) -> list[FeatureSkew]:
    """The skew of each feature, the worst first."""
    found = [
        FeatureSkew(
            name=item.name,
            view=item.view,
            rows=item.rows,
            mismatches=item.mismatches,
            share=round(item.mismatches / item.rows, 6) if item.rows else 0.0,
            examples=list(item.examples[:_EXAMPLES]),
        )
        for item in counts
    ]
    return sorted(found, key=lambda item: (-item.share, item.name))


def summarise_skew(
    use_case: str,
    partition: str,
    columns: Sequence[FeatureSkew],
    *,
    rows: int,
    mismatched: int,
    releases: Sequence[int],
    limit: float,
    uncompared: int = 0,
) -> SkewReport:
    """The report of a partition's columns.

    Args:
        use_case: its use case.
        partition: key of the partition.
        columns: the skew of each feature, the worst first.
        rows: rows compared.
        mismatched: rows with at least one mismatch.
        releases: versions that answered.
        limit: mismatch share of a feature over which skew is worth a person's look.
        uncompared: sampled rows that could not be compared.
    """
    skewed = [item for item in columns if item.mismatches]
    shares = {item.name: item.share for item in skewed[:_NAMED]}
    alert = any(item.share > limit for item in skewed)
    reasons = _sentences(shares, rows, mismatched, limit, alert=alert)
    if uncompared:
        reasons.append(
            f"{uncompared} sampled rows could not be compared: the package that answered them is gone or was changed."
        )
    return SkewReport(
        use_case=use_case,
        partition=partition,
        rows=rows,
        mismatched=mismatched,
        share=round(mismatched / rows, 6) if rows else 0.0,
        releases=sorted(set(releases)),
        features=len(columns),
        skewed=list(shares),
        skewed_features=len(skewed),
        shares=shares,
        alert=alert,
        reasons=reasons,
        uncompared=uncompared,
    )


def _sentences(shares: Mapping[str, float], rows: int, mismatched: int, limit: float, *, alert: bool) -> list[str]:
    if not shares:
        return []
    most = ", ".join(f"{name} {share:.3g}" for name, share in list(shares.items())[:3])
    told = f"{mismatched} of {rows} rows asked online had other features than the lake gives as of then (share: {most})"
    return [f"Skew: {told}; more than {limit:g}. See the skew report." if alert else f"{told}."]
