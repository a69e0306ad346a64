"""From a release back to what answers for it: ledger entry, approvals, evidence, training rows, and their files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from millrace.artifact import DatasetRef, digest_of, iso
from millrace.errors import DocumentError, LakeError, PackageError
from millrace.evaluation.evidence import evidence_folder, load_evidence
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.recipe import Recipe, find_recipes
from millrace.governance.release import Release
from millrace.lake import Table
from millrace.package import Package
from millrace.package.layout import IMPORTED
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.imported import declared_source
from millrace.step.snapshot import Snapshots, SourcePartition, unique


class ReleaseWalk:
    """The way back from a release; what does not match is collected, so that a missing link does not hide the others.

    Args:
        use_case: whose release.
        domain: its domain.
        settings: this installation.

    Attributes:
        snapshots: the history of the domain's tables.
        breaks: links that are missing or do not match.
    """

    def __init__(self, use_case: UseCaseSpec, domain: DomainSpec, settings: Settings) -> None:
        self.use_case = use_case
        self.settings = settings
        self.snapshots = Snapshots(domain, settings)
        self.breaks: list[str] = []

    def back(self, release: Release) -> dict[str, Any]:
        """`release`, `approvals`, `evidence`, `training` and `sources`, as `PredictionLineage` has them."""
        entries = Ledger(self.settings).entries(self.use_case.name, subject=release.package)
        training, sources = self._training(release)
        return {
            "release": self._release(release, entries),
            "approvals": self._approvals(release, entries),
            "evidence": self._evidence(release, entries),
            "training": training,
            "sources": sources,
        }

    def _release(self, release: Release, entries: list[Entry]) -> dict[str, Any]:
        made = [item for item in entries if item.kind == "released" and item.payload.get("version") == release.version]
        if not made:
            self.breaks.append(f"the ledger has no entry that made release {release.version}")
        elif made[0].payload.get("release") != release.to_dict():
            self.breaks.append(f"release {release.version} is not the one that ledger entry {made[0].seq} made")
        return {**release.to_dict(), **(told_of(made[0]) if made else {})}

    def _approvals(self, release: Release, entries: list[Entry]) -> list[dict[str, Any]]:
        given = [e for e in entries if e.kind == "approved" and e.payload.get("evidence") == release.evidence]
        if not given:
            self.breaks.append(f"nobody approved package {release.package[:12]} on evidence {release.evidence[:12]}")
        return [{"name": item.actor, "comment": item.payload.get("comment", ""), **told_of(item)} for item in given]

    def _evidence(self, release: Release, entries: list[Entry]) -> dict[str, Any]:
        folder, digest = evidence_folder(self.settings), release.evidence
        card = folder / f"{digest}.html"
        told: dict[str, Any] = {"digest": digest, "policy": release.policy, "file": str(folder / f"{digest}.json")}
        told["card"] = str(card) if card.is_file() else ""
        judged = [e for e in entries if e.kind == "gates_evaluated" and e.payload.get("evidence") == digest]
        if judged:
            told["gates"] = judged[-1].payload.get("answers", {})
            told["verdict"] = {"outcome": judged[-1].payload.get("outcome"), **told_of(judged[-1])}
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
        if evidence.time.holdout_first:
            told["measured_on"] = evidence.time.measured_on
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


def told_of(entry: Entry) -> dict[str, Any]:
    """Number, actor and time of an entry."""
    return {"entry": entry.seq, "actor": entry.actor, "recorded_at": iso(entry.recorded_at)}
