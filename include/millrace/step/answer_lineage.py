"""From an answer of the online service back to what answers for it, by the id that the answer carries.

The id alone says which release answered, and when; of a row that the request log kept there is also what the model saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.artifact import iso
from millrace.errors import PackageError, ReleaseRefusedError
from millrace.governance.ledger import Ledger
from millrace.governance.release import Release, Releases
from millrace.package import Package
from millrace.serving.answer_id import AnswerId
from millrace.serving.sampled_row import SampledRow, instant, read_sampled
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain, load_use_case
from millrace.step.release_lineage import ReleaseWalk, told_of
from millrace.step.snapshot import SourcePartition, clean_versions, plain

_CLOCKS = timedelta(seconds=60)
"""By how much the clocks of two machines may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLineage:
    """The way back from an answer.

    Attributes:
        id: the answer, or the row of it.
        use_case: its use case.
        release: the release that gave it, with number and time of its ledger entry; empty where there is none.
        answered_at: ISO instant, by the service's clock.
        sampled: whether the request log has the row.
        prediction: what was answered; of several classes the place of the most probable one. None where not kept.
        columns: keys and features that the model saw, where kept.
        views: feature views that were looked up, with the instant as of which, and the partition of the feature table
            that was the newest by then, with the versions of the clean tables that it was computed from.
        others: ids of other rows of the answer that were kept.
        deployed: ledger entry that brought the release into service.
        approvals: who let it be released, on this evidence.
        evidence: as `PredictionLineage` has it.
        training: likewise.
        sources: likewise.
        notes: what is not known, or worth knowing; no fault.
        breaks: links that are missing or do not match.
    """

    id: str
    use_case: str
    answered_at: str
    sampled: bool = False
    prediction: float | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    views: list[dict[str, Any]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    deployed: dict[str, Any] = field(default_factory=dict)
    release: dict[str, Any] = field(default_factory=dict)
    approvals: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    sources: list[SourcePartition] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    breaks: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return plain(self)


def trace_answer(name: str, asked: AnswerId, *, settings: Settings) -> AnswerLineage:
    """Walk from an answer to what the model saw, release, approval, evidence, training rows and their files.

    Args:
        name: the id as it was given.
        asked: what it says.
        settings: this installation.

    Raises:
        SpecError: there is no such use case.
        StateUnavailableError: the state database does not answer.
    """
    use_case = load_use_case(settings.dags, asked.use_case)
    return _Walk(name, asked, use_case, load_domain(settings.dags, use_case.domain), settings).back()


class _Walk:
    """One way back; what does not match is collected, so that a missing link does not hide the others."""

    def __init__(
        self, name: str, asked: AnswerId, use_case: UseCaseSpec, domain: DomainSpec, settings: Settings
    ) -> None:
        self.name = name
        self.asked = asked
        self.use_case = use_case
        self.domain = domain
        self.settings = settings
        self.at = instant(asked.answered_at)
        self.behind = ReleaseWalk(use_case, domain, settings)
        self.notes: list[str] = []

    def back(self) -> AnswerLineage:
        """All there is; no release, no further."""
        row, others = self._rows()
        told: dict[str, Any] = {"others": [item.answer for item in others], "notes": self.notes}
        if row is None:
            self.notes.append(
                "the row was not kept: of rows asked by key a sample is, for a while, and of full vectors none; the id "
                "says which release answered, and when"
            )
        else:
            told |= {"sampled": True, "prediction": row.prediction, "columns": row.columns, "views": self._views(row)}
        breaks = self.behind.breaks
        told |= {"id": self.name, "use_case": self.use_case.name, "answered_at": iso(self.at), "breaks": breaks}
        if self.at > datetime.now(UTC) + _CLOCKS:
            breaks.append("the id names an instant that is still to come")
        try:
            release = Releases(self.settings).get(self.use_case, self.asked.release)
        except ReleaseRefusedError as error:
            breaks.append(error.what)
            return AnswerLineage(**told)
        if row is not None and release.package != row.package:
            breaks.append(
                f"the request log names package {row.package[:12]}, release {release.version} is of package "
                f"{release.package[:12]}"
            )
        return AnswerLineage(**told, deployed=self._deployed(release), **self.behind.back(release))

    def _rows(self) -> tuple[SampledRow | None, Sequence[SampledRow]]:
        """The row that is asked for, by default the first one that was kept, and what else was kept of the answer."""
        kept = read_sampled(self.settings.serving_dir, self.use_case.name, holding=self.asked.name)
        found = {}
        for row in kept:
            told = AnswerId.parse(row.answer)
            if told is not None and (told.name, told.release) == (self.asked.name, self.asked.release):
                found[told.row] = row
        place = next(iter(found), None) if self.asked.row is None else self.asked.row
        return found.get(place), [row for other, row in found.items() if other != place]

    def _deployed(self, release: Release) -> dict[str, Any]:
        """The entry that brought the release into service before it answered."""
        entries = Ledger(self.settings).entries(self.use_case.name, kinds=("deployed",))
        before = [entry for entry in entries if entry.recorded_at <= self.at + _CLOCKS]
        own = [entry for entry in before if entry.payload.get("version") == release.version]
        if not own:
            self.behind.breaks.append(f"the ledger does not say that release {release.version} was deployed by then")
            return {}
        if before[-1] is not own[-1] and before[-1].recorded_at < self.at - _CLOCKS:
            self.notes.append(
                f"release {before[-1].payload['version']} was deployed before that, in entry {before[-1].seq}; the "
                "service had not loaded it"
            )
        return told_of(own[-1])

    def _views(self, row: SampledRow) -> list[dict[str, Any]]:
        """What was looked up: each view as of its mark, and the newest partition of its table by then."""
        try:
            package = Package.open(self.settings.packages / row.package, row.package)
        except PackageError:
            return []  # the way back from the release names it
        return [self._view(view.view, row.marks.get(view.view)) for view in package.features.lookups]

    def _view(self, view: str, mark: int | None) -> dict[str, Any]:
        told: dict[str, Any] = {"view": view, "as_of": "" if mark is None else iso(instant(mark))}
        if view not in self.domain.feature_tables:
            self.behind.breaks.append(f"feature table {view!r} is not declared any more")
        elif mark is not None:
            table = self.domain.feature_table(view)
            keys = self.behind.snapshots.partitions(table)
            over = [key for key in keys if not key or self.domain.partition(key).end <= instant(mark)]
            write = self.behind.snapshots.write(table, over[-1], at=self.at) if over else None
            if write is None:
                self.behind.breaks.append(f"{table} has no partition that was there by then")
            else:
                told |= {**write.ref.to_dict(), "written_at": iso(write.at), "clean": clean_versions(write.notes)}
        return told
