"""From one prediction back to what answers for it: release, approval, evidence, training rows, and the files of these.

Everything is read from our own records: prediction log, ledger, documents, packages, recipes, and the notes that
writers leave in the lake. Airflow is not asked.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from typing import Any

from millrace.artifact import iso
from millrace.errors import MillraceError, ReleaseRefusedError
from millrace.governance.release import Release, Releases
from millrace.lake import Table
from millrace.lake.commits import Write
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain
from millrace.step.logged_prediction import LoggedPrediction, find_prediction
from millrace.step.release_lineage import ReleaseWalk
from millrace.step.snapshot import SourcePartition, clean_versions, plain

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionLineage:
    """The way back from a prediction.

    Attributes:
        prediction: the prediction.
        others: ids and roles of what else was predicted for the same row.
        release: the release that gave it, with number and time of its ledger entry; empty where there is none.
        approvals: who let it be released, on this evidence.
        evidence: digest, file, card, figures and gates of what it was released on.
        training: package, recipe and the snapshot of the training set; of a model from elsewhere, instead of these,
            under `imported`, what was declared of it.
        scored: the snapshot of the features that were scored, and when it was written.
        row: the clean partition that the row stands in, as it was then.
        sources: the clean and raw partitions, with their files, that the training rows rest on.
        breaks: links that are missing or do not match; empty where the way is whole.
    """

    prediction: LoggedPrediction
    others: list[str]
    release: dict[str, Any] = field(default_factory=dict)
    approvals: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    scored: dict[str, Any] = field(default_factory=dict)
    row: SourcePartition | None = None
    sources: list[SourcePartition] = field(default_factory=list)
    breaks: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON types only, with the prediction's id."""
        told = plain(self)
        return {**told, "prediction": {"id": self.prediction.id, **told["prediction"]}}


def trace_prediction(
    name: str,
    *,
    settings: Settings,
    use_case: str | None = None,
    release: int | None = None,
    role: str | None = None,
) -> PredictionLineage:
    """Walk from a prediction to release, approval, evidence, training snapshot, source partitions and their files.

    Args:
        name: key of the row, or the whole id `<use case>/<release>/<key>`.
        settings: this installation.
        use_case: whose prediction, where several use cases predict the row.
        release: of which release; by default the first that answered.
        role: `live` or `shadow`; by default live before shadow.

    Raises:
        LineageError: no such prediction, or one of several use cases.
        StateUnavailableError: the state database does not answer.
    """
    spec, found = find_prediction(name, settings=settings, use_case=use_case, release=release, role=role)
    walk = _Walk(spec, load_domain(settings.dags, spec.domain), found[0], settings)
    return dataclasses.replace(walk.back(), others=[f"{item.id} ({item.role})" for item in found[1:]])


class _Walk:
    """One way back; what does not match is collected, so that a missing link does not hide the others."""

    def __init__(
        self, use_case: UseCaseSpec, domain: DomainSpec, prediction: LoggedPrediction, settings: Settings
    ) -> None:
        self.use_case = use_case
        self.prediction = prediction
        self.settings = settings
        self.behind = ReleaseWalk(use_case, domain, settings)
        self.snapshots = self.behind.snapshots
        self.breaks = self.behind.breaks

    def back(self) -> PredictionLineage:
        """All there is; no release, no further."""
        try:
            release = Releases(self.settings).get(self.use_case, self.prediction.release)
        except ReleaseRefusedError as error:
            return PredictionLineage(prediction=self.prediction, others=[], breaks=[error.what])
        if release.package != self.prediction.package:
            self.breaks.append(
                f"the log names package {self.prediction.package[:12]}, release {release.version} is of package "
                f"{release.package[:12]}"
            )
        behind = self.behind.back(release)
        scored, row = self._inputs(release)
        return PredictionLineage(
            prediction=self.prediction, others=[], scored=scored, row=row, breaks=self.breaks, **behind
        )

    def _inputs(self, release: Release) -> tuple[dict[str, Any], SourcePartition | None]:
        """The scored features by their digest, and the clean row as it stood when it was scored."""
        prediction = self.prediction
        name = f"{self.use_case.table('scored_features')}/{release.feature_service}"
        try:
            writes = list(Table(self.settings.lake, name).writes())
        except MillraceError as error:
            self.breaks.append(error.what)
            writes = []
        scored = next((item for item in writes if item.ref.digest == prediction.feature_snapshot), None)
        if scored is None:
            self.breaks.append(f"the features that were scored are not in {name}")
        version = self._scored_version(scored)
        row = self.snapshots.source_partition(self.use_case.entity.source, prediction.partition, version)
        return {} if scored is None else {**scored.ref.to_dict(), "written_at": iso(scored.at)}, row

    def _scored_version(self, scored: Write | None) -> int | None:
        """Version of the clean table that was scored, as noted; else the newest that was there when it was scored."""
        if scored is None:
            return None
        source = self.use_case.entity.source
        if (noted := clean_versions(scored.notes).get(source)) is not None:
            return noted
        table = self.snapshots.domain.clean_table(source)
        found = self.snapshots.write(table, self.prediction.partition, at=scored.at)
        return None if found is None else found.ref.version
