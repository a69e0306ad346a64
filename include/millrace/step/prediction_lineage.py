"""From one prediction back to what answers for it: release, approval, evidence, training rows, and the files of these.

Everything is read from our own records: prediction log, ledger, documents, packages, recipes, and the notes that
writers leave in the lake. Airflow is not asked.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from millrace.artifact import DatasetRef, digest_of, iso
from millrace.errors import DocumentError, LakeError, MillraceError, PackageError, ReleaseRefusedError
from millrace.evaluation.evidence import evidence_folder, load_evidence
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.recipe import Recipe, find_recipes
from millrace.governance.release import Release, Releases
from millrace.lake import Table
from millrace.package import Package
from millrace.package.layout import IMPORTED
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain
from millrace.step.imported import declared_source
from millrace.step.logged_prediction import LoggedPrediction, find_prediction
from millrace.step.snapshot import Snapshots, SourcePartition, plain, unique

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
        self.snapshots = Snapshots(domain, settings)
        self.breaks: list[str] = []

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
        entries = Ledger(self.settings).entries(self.use_case.name, subject=release.package)
        training, sources = self._training(release)
        scored, row = self._inputs(release)
        return PredictionLineage(
            prediction=self.prediction,
            others=[],
            release=self._release(release, entries),
            approvals=self._approvals(release, entries),
            evidence=self._evidence(release, entries),
            training=training,
            scored=scored,
            row=row,
            sources=sources,
            breaks=self.breaks,
        )

    def _release(self, release: Release, entries: list[Entry]) -> dict[str, Any]:
        made = [item for item in entries if item.kind == "released" and item.payload.get("version") == release.version]
        if not made:
            self.breaks.append(f"the ledger has no entry that made release {release.version}")
        elif made[0].payload.get("release") != release.to_dict():
            self.breaks.append(f"release {release.version} is not the one that ledger entry {made[0].seq} made")
        return {**release.to_dict(), **(_entry(made[0]) if made else {})}

    def _approvals(self, release: Release, entries: list[Entry]) -> list[dict[str, Any]]:
        given = [e for e in entries if e.kind == "approved" and e.payload.get("evidence") == release.evidence]
        if not given:
            self.breaks.append(f"nobody approved package {release.package[:12]} on evidence {release.evidence[:12]}")
        return [{"name": item.actor, "comment": item.payload.get("comment", ""), **_entry(item)} for item in given]

    def _evidence(self, release: Release, entries: list[Entry]) -> dict[str, Any]:
        folder, digest = evidence_folder(self.settings), release.evidence
        card = folder / f"{digest}.html"
        told: dict[str, Any] = {"digest": digest, "policy": release.policy, "file": str(folder / f"{digest}.json")}
        told["card"] = str(card) if card.is_file() else ""
        judged = [e for e in entries if e.kind == "gates_evaluated" and e.payload.get("evidence") == digest]
        if judged:
            told["gates"] = judged[-1].payload.get("answers", {})
            told["verdict"] = {"outcome": judged[-1].payload.get("outcome"), **_entry(judged[-1])}
        if not judged or judged[-1].payload.get("outcome") != "pass":
            self.breaks.append(f"the ledger has no passing verdict on evidence {digest[:12]}")
        try:
            evidence = load_evidence(digest, self.settings)
        except DocumentError as error:
            self.breaks.append(f"evidence {digest[:12]}: {error.what}")
            return told
        figures = evidence.challenger_score.metrics.get(evidence.metric)
        told["metric"] = {"name": evidence.metric, **(figures.model_dump() if figures else {})}
        told["gain"] = evidence.versus_champion.gain.model_dump()
        return told

    def _training(self, release: Release) -> tuple[dict[str, Any], list[SourcePartition]]:
        """Package and recipe, and the partitions behind the training rows; of one from elsewhere, what was declared."""
        told: dict[str, Any] = {"package": release.package, "candidate": release.candidate, "trainer": release.trainer}
        try:
            manifest = Package.open(self.settings.packages / release.package, release.package).manifest
            recipe = next(iter(find_recipes(release.package, self.settings)), None)
        except (PackageError, DocumentError) as error:
            self.breaks.append(f"package {release.package[:12]}: {error.what}")
            return told, []
        if manifest.trainer == IMPORTED:
            return {**told, "imported": declared_source(manifest), "holdout": manifest.training.holdout}, []
        record = manifest.training
        told |= {"rows": record.rows, "partitions": record.partitions, "holdout": record.holdout}
        told |= {"table": record.table, "digest": record.digest, "known_until": record.known_until}
        if recipe is None:
            self.breaks.append(f"package {release.package[:12]} has no recipe: its snapshots are not known")
            return told, []
        kept = {"recipe": recipe.digest, "commit": recipe.commit, "tree": recipe.tree, "seed": recipe.seed}
        told |= {**kept, "lock": recipe.lock, "version": recipe.training_set.get("version")}
        if recipe.training_set:
            self._require_snapshot(DatasetRef.from_dict(recipe.training_set))
        return told, unique(list(self._sources(recipe, record.partitions)))

    def _require_snapshot(self, ref: DatasetRef) -> None:
        try:
            Table(self.settings.lake, ref.table).open(ref.version)
        except LakeError as error:
            self.breaks.append(error.what)

    def _sources(self, recipe: Recipe, partitions: list[str]) -> Iterator[SourcePartition]:
        """Clean partitions that the recipe names, or that the feature tables it names were computed from."""
        domain, through = self.snapshots.domain, max(partitions, default="")
        cleans = {domain.clean_table(source): source for source in domain.sources}
        features = {domain.feature_table(name): name for name in domain.feature_tables}
        for table, recorded in recipe.sources.items():
            version = int(recorded["version"])
            if self._digest(table, version, through) != recorded["digest"]:
                self.breaks.append(f"{table} at version {version} is not what the recipe names")
            if table in cleans:
                found = (self.snapshots.source_partition(cleans[table], key, version) for key in partitions)
                yield from (item for item in found if item is not None)
            elif table in features:
                behind = list(self.snapshots.behind_features(features[table], version, through))
                if not behind:
                    self.breaks.append(f"{table} does not note what it was computed from; build it again")
                yield from behind
            else:
                self.breaks.append(f"{table} is not declared any more")

    def _digest(self, table: str, version: int, through: str) -> str:
        writes = {key: self.snapshots.write(table, key, version) for key in self.snapshots.partitions(table)}
        return digest_of({key: item.ref.digest for key, item in writes.items() if item is not None and key <= through})

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
        table = self.snapshots.domain.clean_table(self.use_case.entity.source)
        before = None if scored is None else scored.at
        version = self._version_at(table, before)
        row = self.snapshots.source_partition(self.use_case.entity.source, prediction.partition, version)
        return {} if scored is None else {**scored.ref.to_dict(), "written_at": iso(scored.at)}, row

    def _version_at(self, table: str, before: Any) -> int | None:
        """Version of a partition's newest write that was there at an instant; the latest where that is not known."""
        if before is None:
            return None
        writes = Table(self.settings.lake, table).writes()
        there = (w.ref.version for w in writes if w.ref.partition == self.prediction.partition and w.at <= before)
        return next(there, None)


def _entry(entry: Entry) -> dict[str, Any]:
    return {"entry": entry.seq, "actor": entry.actor, "recorded_at": iso(entry.recorded_at)}
